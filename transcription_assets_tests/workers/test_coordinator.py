"""Batches that are decoded by real worker processes, which are killed or poisoned (FAKE engine)."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import failure_notes, quarantine, shard_status
from transcription_assets.pipeline.quarantine import WorkerDied
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.speech import windowing
from transcription_assets.storage import Store
from transcription_assets_tests import waiting
from transcription_assets_tests.workers.batch import WORKER, extracted, in_process, workers


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut windows of ten seconds, so that short recordings have several."""
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)


def words(answers: dict[str, Transcript | Exception]) -> dict[str, object]:
    """Return the failures, and of the transcripts what decoding determines."""
    return {
        key: item if isinstance(item, Exception) else (item.segments, item.speech, item.languages, item.duration)
        for key, item in answers.items()
    }


def left_behind(store: Store) -> list[str]:
    return [*store.list(media_keys.work()), *store.list("checkpoints/"), *store.list("deaths/")]


@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("count", [1, 3])
def test_workers_give_the_words_of_a_single_process(store: Store, tmp_path: Path, count: int) -> None:
    lengths = (47, 5, 20, 31)
    expected = words(extracted(Store.open(str(tmp_path / "other")), *lengths).transcribe(in_process()))
    batch = extracted(store, *lengths)
    with workers(count, shard_s=20.0, group_s=8.0) as tools:
        assert words(batch.transcribe(tools)) == expected
    assert left_behind(store) == []


def test_poisoned_recording_fails_alone_and_others_are_done(store: Store) -> None:
    batch = extracted(store, 5, 10, 15, 20)
    with workers(POISON="10") as tools:
        answers = batch.transcribe(tools)
    poisoned = answers.pop(batch.keys[1])
    assert isinstance(poisoned, WorkerDied)
    assert poisoned.key == batch.keys[1]
    assert all(isinstance(item, Transcript) for item in answers.values())
    note = failure_notes.load(store, batch.keys[1])
    assert note is not None
    assert not note.transient
    with workers() as tools:
        assert isinstance(batch.transcribe(tools)[batch.keys[1]], WorkerDied), "it is not tried again"
        quarantine.lift(store, batch.keys[1])
        assert isinstance(batch.transcribe(tools)[batch.keys[1]], Transcript)
    assert left_behind(store) == []


def test_poisoned_recording_in_this_process_is_set_apart(store: Store) -> None:
    """A process that decodes itself cannot survive; the status that it leaves names the suspects of the next one."""
    batch = extracted(store, 5, 10)
    versions = dict.fromkeys(batch.keys, "1")

    def die(*keys: str) -> None:
        status = ShardStatus("run", "another machine", 1, 0.0, tuple((key, 0, 0) for key in keys), versions)
        writer = shard_status.StatusWriter(store, shard_status.path("dead", 0), "run")
        writer.status = status
        writer.progress(0.5)
        quarantine.recover(store, "run")

    die(*batch.keys)
    suspects = quarantine.load(store, versions)
    assert {key: item.alone for key, item in suspects.items()} == dict.fromkeys(batch.keys, 0)
    for deaths in (1, 2):
        die(batch.keys[0])
        assert quarantine.load(store, versions)[batch.keys[0]].alone == deaths
    assert quarantine.load(store, versions)[batch.keys[0]].is_final
    assert quarantine.load(store, dict.fromkeys(batch.keys, "2")) == {}, "another version is another recording"
    assert store.list(media_keys.work()) == []


def children(command: str) -> list[int]:
    """Return the processes of this machine with `command` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command in path.read_bytes().replace(b"\0", b" ").decode():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@contextmanager
def killing(marker: str, times: int) -> Iterator[list[int]]:
    """Kill worker processes at random moments meanwhile; yield the list of those killed."""
    killed: list[int] = []
    ended = threading.Event()
    chance = np.random.default_rng(7)

    def kill() -> None:
        while len(killed) < times and not ended.wait(chance.uniform(0.0, 0.3)):
            for pid in children(marker):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("short_windows")
def test_random_kills_lose_and_double_nothing(store: Store, tmp_path: Path) -> None:
    lengths = (35, 5, 20, 30)
    expected = words(extracted(Store.open(str(tmp_path / "other")), *lengths).transcribe(in_process()))
    batch = extracted(store, *lengths)
    marker = f"{WORKER[-1]} {tmp_path}"
    command = (*WORKER, str(tmp_path))
    for _ in range(4):  # a recording that is killed twice alone at the same window fails, and is retried by hand
        with (
            workers(2, shard_s=10.0, group_s=8.0, command=command, DECODE_S="0.05") as tools,
            killing(marker, 6),
            suppress(TransientFailure),  # if no worker lives long enough to decode anything, a step is retried
        ):
            batch.transcribe(tools)
        quarantine.lift(store, *batch.keys)
    with workers() as tools:
        answers = batch.transcribe(tools)
    assert words(answers) == expected
    assert left_behind(store) == []


def test_workers_end_when_their_coordinator_is_killed(store: Store, tmp_path: Path) -> None:
    batch = extracted(store, 5, 10)
    marker = f"{WORKER[-1]} {tmp_path}"
    program = (
        "import sys\n"
        "from transcription_assets.storage import Store\n"
        "from transcription_assets_tests.workers.batch import WORKER, Batch, workers\n"
        f"command = (*WORKER, {str(tmp_path)!r})\n"
        "with workers(command=command, DECODE_S='600') as tools:\n"
        f"    Batch(Store.open({store.url!r}), {list(batch.keys)!r}).transcribe(tools)\n"
    )
    coordinator = subprocess.Popen([sys.executable, "-c", program])
    try:
        waiting.until("a worker decodes", lambda: store.list(media_keys.work())[1:], lambda: None)
        started = children(marker)
        assert started
    finally:
        coordinator.kill()
        coordinator.wait()
    waiting.until("no worker is left", lambda: not any(map(shard_status.process_exists, started)), lambda: None)
    with workers() as tools:
        answers = batch.transcribe(tools)
    assert all(isinstance(item, Transcript) for item in answers.values())
    assert left_behind(store) == []


def test_worker_with_other_settings_refuses_the_work(store: Store) -> None:
    batch = extracted(store, 5)
    command = (sys.executable, "-m", "transcription_assets", "work", "--serve")
    with workers(command=command) as tools, pytest.raises(PermanentFailure):
        batch.transcribe(tools)


def test_workers_that_cannot_start_are_a_transient_failure(store: Store) -> None:
    batch = extracted(store, 5)
    with workers(command=("/nonexistent",)) as tools, pytest.raises(TransientFailure):
        batch.transcribe(tools)
    with workers(command=("false",)) as tools, pytest.raises(TransientFailure):
        batch.transcribe(tools)
    assert store.list(media_keys.work()) == []
