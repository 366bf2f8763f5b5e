"""SIGKILL at every step of a recording, then another run: nothing is lost, duplicated or incomplete."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

from transcription_assets.domain import media_keys
from transcription_assets.search.index import Index
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, seaweed
from transcription_assets_tests.chain import Chain, sentences
from transcription_assets_tests.pipeline.killed import KEY
from transcription_assets_tests.stores import content

FOLDERS = ("posters", "extracted", "transcripts", "embeddings", "heard", "moved")
OLD, NEW = 15, 10


@dataclass(frozen=True, slots=True)
class Place:
    """The root of the stores, a function that adds a file, and the process to kill."""

    root: str
    put: Callable[[str, bytes], None]
    victim: "subprocess.Popen[str]"
    parity: int

    def half(self, calls: list[str], first: int = 1) -> Iterator[tuple[int, str]]:
        """Yield every second call from `first` on, with its number; the other kind of store tests the rest."""
        return ((number, name) for number, name in enumerate(calls, 1) if number >= first and number % 2 == self.parity)

    def store(self, name: str) -> Store:
        return Store.open(f"{self.root}/{name}")

    def kill(self, name: str, call: int) -> str:
        """Process the recording until the n-th call; return `killed`, or the names of all calls if there are fewer."""
        assert self.victim.stdin
        assert self.victim.stdout
        self.victim.stdin.write(f"{self.root}/{name} {call}\n")
        self.victim.stdin.flush()
        return self.victim.stdout.readline().rstrip("\n")


@pytest.fixture(scope="module", params=["folder", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def victim(kind: str, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """Start the process once for all tests of a kind of store: what it imports takes longer than many of its steps."""
    account: dict[str, str] = {}
    if kind == "s3":
        server: seaweed.S3Server = request.getfixturevalue("s3_server")
        account = {**seaweed.OWNER.variables, "AWS_ENDPOINT_URL_S3": server.endpoint}
    command = [sys.executable, "-m", "transcription_assets_tests.pipeline.killed"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **account}
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def place(kind: str, victim: "subprocess.Popen[str]", request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    def into_folder(name: str, data: bytes) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    root, put = str(tmp_path), into_folder
    if kind == "s3":
        root, put = bucket(request.getfixturevalue("s3_account"), tmp_path.name)
    return Place(root, put, victim, parity=int(kind == "s3"))


def bucket(server: seaweed.S3Server, name: str) -> tuple[str, Callable[[str, bytes], None]]:
    root = f"killed/{name}"

    def put(name: str, data: bytes) -> None:
        server.client().put_object(Bucket=server.bucket, Key=f"{root}/{name}", Body=data)

    return f"s3://{server.bucket}/{root}", put


def film(tmp_path: Path, seconds: int) -> bytes:
    return recordings.video(tmp_path / f"{seconds}.mp4", seconds, size="64x48").read_bytes()


def artefacts(store: Store) -> dict[str, bytes]:
    """Return the content of every visible artefact by path."""
    return {path: store.read(path) for folder in FOLDERS for path in store.list(folder)}


def require_whole(found: dict[str, bytes], *wholes: dict[str, bytes]) -> None:
    """Assert that each visible artefact is complete, or equal to that of an uninterrupted run."""
    for path, data in found.items():
        if path.endswith(".json"):
            assert json.loads(data), path
        elif path.endswith(".parquet"):
            assert not pl.read_parquet(BytesIO(data)).is_empty(), path
        else:
            assert data in [whole.get(path) for whole in wholes], path


def require_one_version(store: Store, *lengths: int) -> None:
    """Assert that the rows of the recording, if any, are all rows of one version, each present once."""
    held = Index(store.lancedb_uri, store.lancedb_options).row_counts([KEY])
    assert list(held.values()) in [[], *([len(sentences(length))] for length in lengths)]


def require_done(store: Store, etag: str, data: bytes, seconds: int, paths: set[str]) -> None:
    assert store.list_media().frame.is_empty()
    assert store.list_done()["key"].to_list() == [KEY]
    assert store.stat(KEY).etag == etag
    assert content(store.media_url(KEY)) == data
    # `heard/` is only a cache: the run after a kill may have no reason to write there.
    assert {path for path in artefacts(store) if not path.startswith("heard/")} == paths
    said = json.loads(store.read(media_keys.transcript(KEY)))
    assert said["media"]["etag"] == etag
    held = Index(store.lancedb_uri, store.lancedb_options).row_counts([KEY])
    assert held == {(KEY, etag): len(sentences(seconds))}
    rows = Chain(store).rows()
    assert rows["id"].to_list() == sorted(f"{KEY}#{number}" for number in range(len(sentences(seconds))))


@pytest.mark.timeout(900)
def test_recording_survives_sigkill_at_every_step(place: Place, tmp_path: Path) -> None:
    data = film(tmp_path, NEW)
    place.put(f"whole/{KEY}", data)
    calls = place.kill("whole", 0).split("; ")
    whole = artefacts(place.store("whole"))
    assert {name.partition(" ")[0] for name in calls} >= {"probe", "extract_speech", "_decode", "write", "upload"}
    assert len(calls) >= 18
    for number, name in place.half(calls):
        place.put(f"{number}/{KEY}", data)
        store = place.store(str(number))
        etag = store.stat(KEY).etag
        assert place.kill(str(number), number) == "killed", name
        require_whole(artefacts(store), whole)
        require_one_version(store, NEW)
        assert content(store.media_url(KEY)) == data
        said_before = store.exists(media_keys.transcript(KEY)) or store.list(media_keys.checkpoints(KEY))
        chain = Chain(store, done_prefix=True)
        chain.run(KEY)
        # Finished steps are not repeated: a kill costs only the interrupted step.
        assert chain.engine.decoded == ([] if said_before else [NEW]), name
        require_done(store, etag, data, NEW, {path for path in whole if not path.startswith("heard/")})


@pytest.mark.timeout(900)
def test_new_version_survives_sigkill_and_never_mixes_with_old(place: Place, tmp_path: Path) -> None:
    old, new = film(tmp_path, OLD), film(tmp_path, NEW)
    place.put(f"whole/{KEY}", old)
    Chain(place.store("whole"), done_prefix=True).run(KEY)
    before = artefacts(place.store("whole"))
    place.put(f"whole/{KEY}", new)
    calls = place.kill("whole", 0).split("; ")
    after = artefacts(place.store("whole"))
    # Before its transcript exists, a killed version has changed no rows; the test above covers those calls.
    first = next(number for number, name in enumerate(calls, 1) if media_keys.transcript(KEY, ".txt") in name)
    for number, name in place.half(calls, first):
        place.put(f"{number}/{KEY}", old)
        store = place.store(str(number))
        Chain(store, done_prefix=True).run(KEY)
        place.put(f"{number}/{KEY}", new)
        etag = store.stat(KEY).etag
        assert place.kill(str(number), number) == "killed", name
        require_whole(artefacts(store), before, after)
        require_one_version(store, OLD, NEW)
        assert content(store.media_url(KEY)) == new
        Chain(store, done_prefix=True).run(KEY)
        require_done(store, etag, new, NEW, {path for path in after if not path.startswith("heard/")})
