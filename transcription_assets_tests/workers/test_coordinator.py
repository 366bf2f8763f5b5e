"""Batches that are decoded by real worker processes, which are killed or poisoned (FAKE engine)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import failure_notes, quarantine, shard_status, transcript
from transcription_assets.pipeline.checkpoints import Checkpoints
from transcription_assets.pipeline.quarantine import WorkerDied
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.speech import DecodedWindow, windowing
from transcription_assets.storage import Store
from transcription_assets.workers import subprocesses
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


LENGTHS = (47, 5, 20, 31)


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the words of recordings of `LENGTHS` in short windows, decoded in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "WINDOW_S", 10.0)
        store = Store.open(str(tmp_path_factory.mktemp("one process") / "store"))
        return words(extracted(store, *LENGTHS).transcribe(in_process()))


@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("count", [1, 3])
def test_workers_give_the_words_of_a_single_process(
    store: Store, of_one_process: dict[str, object], count: int
) -> None:
    batch = extracted(store, *LENGTHS)
    with workers(count, shard_s=20.0, group_s=8.0) as tools:
        assert words(batch.transcribe(tools)) == of_one_process
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


def dead(store: Store, identifier: str, *windows: tuple[str, int, int], pid: int = 1) -> None:
    """Leave the status of a dead process that was decoding these windows, and recover from it."""
    versions = {key: "1" for key, _, _ in windows}
    status = ShardStatus("run", "another machine", pid, identifier, 0.0, windows, versions)
    store.write(shard_status.path(identifier, 0), json.dumps(asdict(status)).encode())
    quarantine.recover(store, "run")


def test_recordings_of_a_dead_process_are_suspects(store: Store) -> None:
    """A process that decodes itself cannot survive; the status that it leaves names the suspects of the next one."""
    first, second = "audio/a.wav", "audio/b.wav"
    versions = {first: "1", second: "1"}
    dead(store, "1", (first, 0, 0), (second, 0, 0))
    assert {key: set(item.alone.values()) for key, item in quarantine.load(store, versions).items()} == {
        first: {0},
        second: {0},
    }
    dead(store, "2", (first, 0, 0))
    dead(store, "2", (first, 0, 0))
    assert quarantine.load(store, versions)[first].alone == {"0-0": 1}, "a process dies once"
    dead(store, "3", (first, 0, 1))
    assert not quarantine.load(store, versions)[first].is_final, "another window"
    dead(store, "4", (first, 0, 0))
    assert quarantine.load(store, versions)[first].is_final
    assert quarantine.load(store, {first: "2"}) == {}, "another version is another recording"
    assert store.list(media_keys.work()) == []


def test_deaths_after_the_checkpoint_do_not_count(store: Store) -> None:
    key = "audio/a.wav"
    Checkpoints(store, key, "1").put((0, 0), DecodedWindow(0.0, 1.0))
    dead(store, "1", (key, 0, 0))
    assert quarantine.load(store, {key: "1"}) == {}


def test_running_process_of_another_machine_is_left_alone(store: Store) -> None:
    status = ShardStatus("another run", "another machine", 1, "1", time.time(), (("audio/a.wav", 0, 0),))
    place = shard_status.path("1", 0)
    store.write(place, json.dumps(asdict(status)).encode())
    quarantine.recover(store, "run")
    assert store.exists(place)
    quarantine.recover(store, "another run")
    assert not store.exists(place), "an earlier process of the same run"


@pytest.mark.usefixtures("short_windows")
def test_recording_with_several_poisoned_windows_fails(store: Store) -> None:
    batch = extracted(store, 30, 5)
    with workers(group_s=8.0, POISON="10") as tools:
        answers = batch.transcribe(tools)
    assert isinstance(answers[batch.keys[0]], WorkerDied)
    assert isinstance(answers[batch.keys[1]], Transcript)


def test_worker_that_was_stopped_is_not_blamed_on_the_recording(store: Store, tmp_path: Path) -> None:
    batch = extracted(store, 5)
    command = (*WORKER, str(tmp_path))
    with workers(command=command, DECODE_S="0.5") as tools, killing(f"{WORKER[-1]} {tmp_path}", 2, signal.SIGTERM):
        assert all(isinstance(item, Transcript) for item in batch.transcribe(tools).values())
    assert left_behind(store) == []


def test_worker_that_stalls_is_killed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocesses, "STALL_S", 3.0)
    batch = extracted(store, 5)
    with workers(DECODE_S="600") as tools:
        assert isinstance(batch.transcribe(tools)[batch.keys[0]], WorkerDied)


def test_worker_that_dies_while_nobody_watches_is_replaced(store: Store, tmp_path: Path) -> None:
    """The coordinator may be busy with a result when the worker of the next shard dies."""
    batch = extracted(store, 5, 10, 15)
    marker = f"{WORKER[-1]} {tmp_path}"
    answers: dict[str, object] = {}
    with workers(group_s=1.0, command=(*WORKER, str(tmp_path)), DECODE_S="0.5") as tools:
        for key, item in transcript.materialise_each(store, batch.keys, tools):
            if not answers:
                started = children(marker)
                for pid in started:
                    os.kill(pid, signal.SIGKILL)
                waiting.until("it is dead", lambda: not any(map(shard_status.process_start, started)), lambda: None)  # noqa: B023
            answers[key] = item
    assert sorted(answers) == sorted(batch.keys)
    assert not [item for item in answers.values() if isinstance(item, Exception)]


@pytest.mark.parametrize("line", ["1", "[]", "null", '"text"', "{}", '{"event": "progress"}', '{"event": 3}', "\xff"])
def test_output_that_is_no_event_is_ignored(line: str) -> None:
    assert subprocesses._event(line) is None  # noqa: SLF001 -- a library may print anything


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
def killing(marker: str, times: int, number: signal.Signals = signal.SIGKILL) -> Iterator[list[int]]:
    """Kill worker processes at random moments meanwhile; yield the list of those killed."""
    killed: list[int] = []
    ended = threading.Event()
    chance = np.random.default_rng(7)

    def kill() -> None:
        while len(killed) < times and not ended.wait(chance.uniform(0.0, 0.3)):
            for pid in children(marker):
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(pid, number)
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
        waiting.until("a worker decodes", lambda: any("/shard-" in path for path in store.list("work/")), lambda: None)
        started = children(marker)
        assert started
    finally:
        coordinator.kill()
        coordinator.wait()
    waiting.until("no worker is left", lambda: not any(map(shard_status.process_start, started)), lambda: None)
    with workers() as tools:
        answers = batch.transcribe(tools)
    assert all(isinstance(item, Transcript) for item in answers.values())
    assert left_behind(store) == []


def test_worker_with_other_settings_refuses_the_work(store: Store) -> None:
    batch = extracted(store, 5)
    command = (sys.executable, "-m", "transcription_assets", "work", "--serve")
    with workers(command=command) as tools:
        assert isinstance(batch.transcribe(tools)[batch.keys[0]], PermanentFailure)


def test_workers_that_cannot_start_are_a_transient_failure(store: Store) -> None:
    batch = extracted(store, 5)
    for command in ("/nonexistent", "false"):
        with workers(command=(command,)) as tools:
            assert isinstance(batch.transcribe(tools)[batch.keys[0]], TransientFailure)
    assert store.list(media_keys.work()) == []
