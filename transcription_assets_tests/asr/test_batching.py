"""Batches across recordings: fair, bounded, and cancelled in the middle; the engine is a fake."""

import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from transcription_assets.asr.batching import AHEAD_GROUPS, READERS, Batcher, RecordingWork
from transcription_assets.errors import TransientFailure
from transcription_assets.speech import SAMPLE_RATE, AudioSource, PlannedWindow, Samples, SpeechOptions
from transcription_assets.speech.recognition import WindowJob
from transcription_assets_tests.asr.serving import GatedEngine

LENGTH_S = 10.0


class Recording:
    """A recording of silence that counts how often it is read; `answers` are the delivered windows."""

    def __init__(self, name: str, windows: int, *, broken: bool = False) -> None:
        self.name = name
        self.reads = 0
        self.answers: list[tuple[int, object]] = []
        self.ended = threading.Event()
        self._broken = broken
        source = AudioSource(self._read)
        self.jobs = [
            WindowJob(name, 0, number, PlannedWindow(number * LENGTH_S, (number + 1) * LENGTH_S), source)
            for number in range(windows)
        ]

    def _read(self, _channel: int, _start: float) -> Iterable[Samples]:
        self.reads += 1
        if self._broken:
            raise TransientFailure("the disk failed")
        return [np.zeros(int(LENGTH_S * SAMPLE_RATE), np.float32)]

    def work(self, log: list[str], options: SpeechOptions = SpeechOptions()) -> RecordingWork:  # noqa: B008
        def deliver(job: WindowJob, answer: object) -> None:
            log.append(self.name)
            self.answers.append((job.number, answer))
            if len(self.answers) == len(self.jobs) or isinstance(answer, Exception):
                self.ended.set()

        return RecordingWork(self.jobs, options, deliver)


@pytest.fixture
def engine() -> Iterator[GatedEngine]:
    made = GatedEngine(group_s=LENGTH_S)
    yield made
    made.gate.set()


@pytest.fixture
def batcher(engine: GatedEngine) -> Iterator[Batcher]:
    made = Batcher(engine)
    yield made
    engine.gate.set()
    made.close()


def test_a_long_recording_does_not_delay_a_short_one(engine: GatedEngine, batcher: Batcher) -> None:
    long, short, log = Recording("long", 30), Recording("short", 1), list[str]()
    batcher.submit(long.work(log))
    assert engine.entered.wait(60)
    batcher.submit(short.work(log))
    engine.gate.set()
    assert long.ended.wait(60)
    assert log.count("short") == 1
    assert log.index("short") <= 1 + AHEAD_GROUPS + READERS + 1
    assert sorted(number for number, _ in long.answers) == list(range(30))


def test_windows_read_ahead_are_bounded(engine: GatedEngine, batcher: Batcher) -> None:
    long, log = Recording("long", 50), list[str]()
    batcher.submit(long.work(log))
    assert engine.entered.wait(60)
    assert long.reads <= 1 + AHEAD_GROUPS + READERS
    engine.gate.set()
    assert long.ended.wait(60)
    assert long.reads == 50


def test_a_cancelled_recording_is_neither_read_nor_decoded(engine: GatedEngine, batcher: Batcher) -> None:
    first, second, log = Recording("first", 1), Recording("second", 50), list[str]()
    batcher.submit(first.work(log))
    assert engine.entered.wait(60)
    work = second.work(log)
    batcher.submit(work)
    batcher.cancel(work)
    third = Recording("third", 1)
    batcher.submit(third.work(log))
    engine.gate.set()
    assert third.ended.wait(60)
    assert log == ["first", "third"]
    assert second.reads <= AHEAD_GROUPS + READERS


def test_a_recording_that_cannot_be_read_fails_alone(engine: GatedEngine, batcher: Batcher) -> None:
    engine.gate.set()
    broken, whole, log = Recording("broken", 3, broken=True), Recording("whole", 3), list[str]()
    batcher.submit(broken.work(log))
    batcher.submit(whole.work(log))
    assert broken.ended.wait(60)
    assert whole.ended.wait(60)
    assert any(isinstance(answer, TransientFailure) for _, answer in broken.answers)
    assert sorted(number for number, _ in whole.answers) == [0, 1, 2]


def test_only_equal_options_are_decoded_together(engine: GatedEngine, batcher: Batcher) -> None:
    engine.group_s = 600.0
    first, log = Recording("first", 1), list[str]()
    batcher.submit(first.work(log))
    assert engine.entered.wait(60)
    recordings = [Recording(language, 2) for language in ("de", "fr")]
    for recording in recordings:
        batcher.submit(recording.work(log, SpeechOptions(language=recording.name)))
    engine.gate.set()
    assert all(recording.ended.wait(60) for recording in recordings)
    assert {options.language for options in engine.asked} == {"", "de", "fr"}
    assert sum(map(len, engine.groups)) == 5


def test_close_ends_the_threads(engine: GatedEngine) -> None:
    engine.gate.set()
    before = threading.active_count()
    made = Batcher(engine)
    assert threading.active_count() == before + READERS + 1
    made.close()
    assert threading.active_count() == before
