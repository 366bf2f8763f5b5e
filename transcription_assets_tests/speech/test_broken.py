"""Isolation of failures: files, stores, weights and GPUs. Uses the fake decoder of `spelling`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Word
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.speech import (
    SAMPLE_RATE,
    AudioSource,
    DecodedWindow,
    Hardware,
    PlannedWindow,
    Samples,
    SpeechResult,
    Whisper,
    WindowTask,
    transcribe,
    windowing,
)
from transcription_assets.speech import whisper as whispering
from transcription_assets.speech.decoder import Choose, Chunk, Decoded
from transcription_assets_tests.speech.spelling import (
    SpellingDecoder,
    engine,
    good,
    in_blocks,
    said,
    seekable,
    spelling,
    texts,
)

pytestmark = pytest.mark.usefixtures("scripted_voices")


def test_an_unreadable_recording_does_not_affect_the_others() -> None:
    def broken(_channel: int, _start: float) -> Iterable[Samples]:
        yield np.zeros(SAMPLE_RATE, np.float32)
        raise PermanentFailure("this file is broken")

    clip = spelling(said(5.0), 5.0)
    first, second, third = transcribe(engine(SpellingDecoder()), [seekable(clip), AudioSource(broken), seekable(clip)])
    assert isinstance(first, SpeechResult)
    assert isinstance(second, PermanentFailure)
    assert isinstance(third, SpeechResult)
    assert texts(first) == texts(third) != []


def test_a_decoder_error_fails_only_its_own_recording() -> None:
    clips = [spelling(said(5.0, first=100 * number), 5.0) for number in (1, 2, 3)]
    answers = list(transcribe(engine(SpellingDecoder(failing_on=frozenset({203}))), map(seekable, clips)))
    assert [type(answer) for answer in answers] == [SpeechResult, ValueError, SpeechResult]


@pytest.mark.parametrize(
    "message",
    ["CUDA failed with error out of memory", "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"],
)
def test_a_batch_that_exceeds_the_memory_is_halved(message: str) -> None:
    clips = [spelling(said(6.0, first=100 * number), 6.0) for number in range(1, 9)]
    decoder = SpellingDecoder(most=2, no_memory=message)
    heard = good(transcribe(engine(decoder, batch_size=8, workers=1), map(seekable, clips)))
    assert [texts(item)[0] for item in heard] == [f" {100 * number}" for number in range(1, 9)]
    assert max(map(len, decoder.batches)) == 2


def test_a_no_speech_batch_that_exceeds_the_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake detectors: no speech, but energy above the background from 1 to 5 s."""
    monkeypatch.setattr(windowing, "voiced_regions", lambda _samples: [])
    monkeypatch.setattr(windowing, "unexplained", lambda _samples, _voiced: [Region(1.0, 5.0)])
    clips = [spelling([Word(1.0, 5.0, f" {7 * number}", 0.9)], 8.0) for number in range(1, 9)]
    decoder = SpellingDecoder(most=2)
    heard = good(transcribe(engine(decoder, batch_size=8, workers=1), map(seekable, clips)))
    assert [len(texts(item)) for item in heard] == [1] * 8
    assert max(map(len, decoder.batches)) == 2


def test_a_failing_progress_callback_loses_no_window() -> None:
    def gone(_share: float) -> None:
        raise OSError("nobody watches any more")

    samples = spelling([Word(0.5, 1.0, " 7", 0.9)], 2.0)
    windows = [WindowTask(name, PlannedWindow(0.0, 2.0, (Region(0.5, 1.0),)), samples) for name in "abcd"]
    answers = engine(SpellingDecoder()).decode(windows, gone)
    assert all(isinstance(answer, DecodedWindow) and answer.segments for answer in answers)


def test_a_gpu_failure_is_transient_for_all_recordings() -> None:
    """A permanent failure would prevent a retry on another node."""

    class Broken(SpellingDecoder):
        def decode(self, _batch: Sequence[Chunk], _choose: Choose) -> list[Decoded]:
            raise RuntimeError("CUDA failed with error unspecified launch failure")

    answers = list(transcribe(engine(Broken()), [seekable(spelling([Word(0.5, 1.0, " 7", 0.9)], 2.0))] * 2))
    assert [type(answer) for answer in answers] == [TransientFailure, TransientFailure]


def test_weights_are_loaded_once_and_the_error_is_shared(tmp_path: Path) -> None:
    hearer = Whisper(tmp_path / "no model", name="none", revision="", hardware=Hardware(device="cpu", workers=1))
    answers = list(transcribe(hearer, [seekable(spelling([Word(0.5, 1.0, " 7", 0.9)], 2.0))] * 3))
    assert len(answers) == 3
    assert len({id(answer) for answer in answers}) == 1
    assert isinstance(answers[0], Exception)


def test_later_windows_of_a_failed_recording_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading on would delay the next recording for no result."""
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 10.0)
    samples, starts = spelling(said(300.0), 300.0), []

    def read(_channel: int, start: float) -> Iterable[Samples]:
        starts.append(start)
        return in_blocks(samples[round(start * SAMPLE_RATE) :])

    words = [Word(0.5, 1.0, " 7", 0.9)]
    broken = SpellingDecoder(failing_on=frozenset({1}))
    answers = transcribe(engine(broken), [AudioSource(read, channels=2), seekable(spelling(words, 2.0))])
    assert [type(answer) for answer in answers] == [ValueError, SpeechResult]
    assert sum(start > 0.0 for start in starts) <= 2, "only the windows that are read ahead"
