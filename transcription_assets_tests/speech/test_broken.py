"""Isolation of failures: files, stores, weights and GPUs. Uses the fake decoder of `spelling`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
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
    Samples,
    SpeechResult,
    Whisper,
    WindowId,
    windowing,
)
from transcription_assets.speech import whisper as whispering
from transcription_assets.speech.batches import SHORT_CHUNK_S
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
    first, second, third = engine(SpellingDecoder()).transcribe([seekable(clip), AudioSource(broken), seekable(clip)])
    assert isinstance(first, SpeechResult)
    assert isinstance(second, PermanentFailure)
    assert isinstance(third, SpeechResult)
    assert texts(first) == texts(third) != []


def test_a_decoder_error_fails_only_its_own_recording() -> None:
    clips = [spelling(said(5.0, first=100 * number), 5.0) for number in (1, 2, 3)]
    answers = list(engine(SpellingDecoder(failing_on=frozenset({203}))).transcribe(map(seekable, clips)))
    assert [type(answer) for answer in answers] == [SpeechResult, ValueError, SpeechResult]


def test_a_checkpoint_write_error_fails_only_that_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)

    class Full(dict[WindowId, DecodedWindow]):
        def __setitem__(self, place: WindowId, done: DecodedWindow) -> None:
            raise PermanentFailure("no space left")

    samples = spelling(said(30.0), 30.0)
    answers = list(engine(SpellingDecoder()).transcribe([seekable(samples, checkpoints=Full()), seekable(samples)]))
    assert [type(answer) for answer in answers] == [PermanentFailure, SpeechResult]


def test_a_batch_that_exceeds_the_memory_is_halved() -> None:
    clips = [spelling(said(6.0, first=100 * number), 6.0) for number in range(1, 9)]
    decoder = SpellingDecoder(most=2)
    heard = good(engine(decoder, batch_size=8, workers=1).transcribe(map(seekable, clips)))
    assert [texts(item)[0] for item in heard] == [f" {100 * number}" for number in range(1, 9)]
    assert max(map(len, decoder.batches)) == 2


def test_a_no_speech_batch_that_exceeds_the_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake detectors: no speech, but energy above the background from 1 to 5 s."""
    monkeypatch.setattr(windowing, "voiced_regions", lambda _samples: [])
    monkeypatch.setattr(windowing, "unexplained", lambda _samples, _voiced: [Region(1.0, 5.0)])
    clips = [spelling([Word(1.0, 5.0, f" {7 * number}", 0.9)], 8.0) for number in range(1, 9)]
    decoder = SpellingDecoder(most=2)
    heard = good(engine(decoder, batch_size=8, workers=1).transcribe(map(seekable, clips)))
    assert [len(texts(item)) for item in heard] == [1] * 8
    assert max(map(len, decoder.batches)) == 2


def test_votes_of_a_failed_batch_are_not_counted_twice() -> None:
    """English has 6 % of the votes of the first recording, and twice as many with those of the failed batch."""

    class Unsure(SpellingDecoder):
        """Fake decoder: confident of English in long chunks only."""

        def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
            return [self._chosen(chunk, number, choose) for number, chunk in enumerate(batch)]

        def _chosen(self, chunk: Chunk, number: int, choose: Choose) -> Decoded:
            own = [("en", 1.0)] if chunk.length > SHORT_CHUNK_S else [("en", 0.4), ("de", 0.3)]
            return replace(self._decoded(chunk, choose(number, own)), languages=own)

    words = [*said(8.0), Word(15.0, 16.0, " 50", 0.9)]
    broken = [*said(8.0), Word(15.0, 16.0, " 99", 0.9)]
    kept = {(0, 0): DecodedWindow(0.0, 10.0, languages={"de": 100.0})}
    longer = np.concatenate([spelling([], 10.0), spelling(words, 20.0)])
    sounds = [seekable(longer, checkpoints=kept), seekable(spelling(broken, 20.0))]
    first, second = engine(Unsure(failing_on=frozenset({99}))).transcribe(sounds)
    assert isinstance(second, ValueError)
    assert isinstance(first, SpeechResult)
    assert [segment.language for segment in first.segments] == ["en", "de"]


def test_a_failing_progress_callback_fails_only_its_recording() -> None:
    """The other recordings of the batch keep their results."""

    def gone(_seconds: float) -> None:
        raise OSError("nobody watches any more")

    words = [Word(0.5, 1.0, " 7", 0.9)]
    sounds = [seekable(spelling(words, 2.0)) for _ in range(4)]
    sounds[1] = seekable(spelling(words, 2.0), progress=gone)
    answers = list(engine(SpellingDecoder()).transcribe(sounds))
    assert [type(answer) for answer in answers] == [SpeechResult, OSError, SpeechResult, SpeechResult]
    assert all(answer.segments for answer in answers if isinstance(answer, SpeechResult))


def test_a_gpu_failure_is_transient_for_all_recordings() -> None:
    """A permanent failure would prevent a retry on another node."""

    class Broken(SpellingDecoder):
        def decode(self, _batch: Sequence[Chunk], _choose: Choose) -> list[Decoded]:
            raise RuntimeError("CUDA failed with error unspecified launch failure")

    answers = list(engine(Broken()).transcribe([seekable(spelling([Word(0.5, 1.0, " 7", 0.9)], 2.0))] * 2))
    assert [type(answer) for answer in answers] == [TransientFailure, TransientFailure]


def test_weights_are_loaded_once_and_the_error_is_shared(tmp_path: Path) -> None:
    hearer = Whisper(tmp_path / "no model", name="none", revision="", hardware=Hardware(device="cpu", workers=1))
    answers = list(hearer.transcribe([seekable(spelling([Word(0.5, 1.0, " 7", 0.9)], 2.0))] * 3))
    assert len(answers) == 3
    assert len({id(answer) for answer in answers}) == 1
    assert isinstance(answers[0], Exception)


def test_a_failed_recording_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading on would delay the next recording for no result."""
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 10.0)
    samples, blocks = spelling(said(300.0), 300.0), []

    def read(_channel: int, _start: float) -> Iterable[Samples]:
        for block in in_blocks(samples):
            blocks.append(block)
            yield block

    words = [Word(0.5, 1.0, " 7", 0.9)]
    broken = SpellingDecoder(failing_on=frozenset({1}))
    answers = list(engine(broken).transcribe([AudioSource(read, channels=2), seekable(spelling(words, 2.0))]))
    assert [type(answer) for answer in answers] == [ValueError, SpeechResult]
    assert len(blocks) <= 40, "only the buffered blocks and one window per channel are read"
