"""The engine around the model: batches, channels, languages and timing. Uses the fake decoder of `spelling`."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech import (
    SAMPLE_RATE,
    AudioSource,
    PlannedWindow,
    Samples,
    WindowTask,
    transcribe,
    windowing,
)
from transcription_assets.speech import whisper as whispering
from transcription_assets.speech.batches import even_size
from transcription_assets.speech.decoder import Choose, Chunk, Decoded
from transcription_assets.speech.whisper import VERSION
from transcription_assets_tests.speech.spelling import (
    SpellingDecoder,
    engine,
    good,
    in_blocks,
    loud,
    said,
    seekable,
    spelling,
    spelt,
    texts,
)

pytestmark = pytest.mark.usefixtures("scripted_voices")


def test_short_recordings_share_a_batch_and_keep_their_order() -> None:
    clips = [spelling(said(length, first=100 * number), length) for number, length in enumerate((9, 3, 12, 6, 5), 1)]
    decoder = SpellingDecoder()
    heard = good(transcribe(engine(decoder, batch_size=8, workers=1), map(seekable, clips)))
    assert [texts(item)[0] for item in heard] == [" 100", " 200", " 300", " 400", " 500"]
    assert len(decoder.batches) == 1
    assert decoder.batches[0] == sorted(decoder.batches[0], reverse=True)


def test_two_channels_are_two_speakers_in_time_order() -> None:
    left = spelling([Word(0.5, 1.0, " 1", 0.9), Word(1.0, 1.5, " 2", 0.9), Word(8.0, 8.5, " 3", 0.9)], 10.0)
    right = spelling([Word(4.0, 4.5, " 11", 0.9), Word(4.5, 5.0, " 12", 0.9)], 10.0)

    def read(channel: int, _start: float) -> Iterable[Samples]:
        return in_blocks((left, right)[channel])

    [heard] = good(transcribe(engine(SpellingDecoder()), [AudioSource(read, channels=2)]))
    assert [(item.speaker, item.text) for item in heard.segments] == [
        ("left", "1 2"),
        ("right", "11 12"),
        ("left", "3"),
    ]
    assert [item.id for item in heard.segments] == [0, 1, 2]
    assert heard.speech.vad_seconds == pytest.approx(2.5)


def test_each_region_of_a_bilingual_chunk_has_its_own_language() -> None:
    @dataclass
    class Bilingual(SpellingDecoder):
        """Fake decoder: words below 10 are English, others Italian."""

        def tell_languages(self, batch: Sequence[Chunk]) -> list[list[tuple[str, float]]]:
            return [[self._own(chunk)] for chunk in batch]

        def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
            sure = [("it", 0.5), ("en", 0.4)]
            return [
                self._decoded(chunk, choose(number, sure if len({*self._numbers(chunk)}) > 1 else [self._own(chunk)]))
                for number, chunk in enumerate(batch)
            ]

        def _numbers(self, chunk: Chunk) -> Iterator[bool]:
            return (int(word.word) < 10 for word in spelt(chunk.samples))

        def _own(self, chunk: Chunk) -> tuple[str, float]:
            return ("en" if all(self._numbers(chunk)) else "it", 0.9)

        def _decoded(self, chunk: Chunk, language: tuple[str, float]) -> Decoded:
            return replace(super()._decoded(chunk, language), languages=[("it", 0.5), ("en", 0.4)])

    numbers = [1, 2, 11, 12, 3, 13]
    words = [Word(2.0 * at, 2.0 * at + 1.5, f" {number}", 0.9) for at, number in enumerate(numbers)]
    [heard] = good(transcribe(engine(Bilingual()), [seekable(spelling(words, 12.0))]))
    assert texts(heard) == [word.word for word in words]
    assert [item.language for item in heard.segments for _ in item.words] == ["en", "en", "it", "it", "en", "it"]
    times = [word.start for segment in heard.segments for word in segment.words]
    assert times == pytest.approx([word.start for word in words], abs=0.002)
    assert heard.languages == {"en": 0.5, "it": 0.5}


@given(st.integers(0, 200), st.integers(1, 32), st.integers(1, 8))
def test_batches_are_bounded_and_spread_evenly_over_workers(jobs: int, most: int, workers: int) -> None:
    size = even_size(jobs, most, workers)
    assert 1 <= size <= most
    assert jobs < workers or math.ceil(jobs / size) <= math.ceil(jobs / (most * workers)) * workers


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 6))
def test_batches_do_not_depend_on_the_threads(phrases: int, threads: int, parallel: int) -> None:
    """Words may differ between batches, so workers with any number of threads must make the same ones."""
    samples = spelling(said(phrases * 3.0, pause=2.0), phrases * 3.0)
    task = WindowTask("a", PlannedWindow(0.0, phrases * 3.0, tuple(loud(samples))), samples)

    def batches(cpu_threads: int) -> list[list[float]]:
        decoder = SpellingDecoder()
        engine(decoder, cpu_threads=cpu_threads).decode([task], parallel=parallel)
        return sorted(decoder.batches)

    assert batches(threads) == batches(parallel)


def test_the_engine_version_contains_our_version() -> None:
    assert VERSION in engine(SpellingDecoder()).model.engine


def test_reading_and_decoding_time_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of all recordings must not add up to more than the run took."""
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 10.0)
    samples = spelling(said(60.0), 60.0)

    class Slow(SpellingDecoder):
        def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
            time.sleep(0.1)
            return super().decode(batch, choose)

    def read(_channel: int, start: float) -> Iterable[Samples]:
        for block in in_blocks(samples[round(start * SAMPLE_RATE) :], 10.0):
            time.sleep(0.1)
            yield block

    started = time.monotonic()
    heard = good(transcribe(engine(Slow()), [AudioSource(read)] * 2))
    assert 0.2 < sum(item.wall_s for item in heard) <= time.monotonic() - started + 0.001


def test_progress_never_decreases_and_ends_at_one() -> None:
    shares: list[float] = []
    samples = spelling(said(600.0, pause=2.0), 600.0)
    plans = [PlannedWindow(0.0, 600.0, tuple(loud(samples)))] * 2
    engine(SpellingDecoder()).decode([WindowTask("a", plan, samples) for plan in plans], shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert len({*shares}) > 4


def test_speech_found_only_by_energy_is_transcribed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake detectors: no speech, but energy above the background from 1 to 5 s."""
    monkeypatch.setattr(windowing, "voiced_regions", lambda _samples: [])
    monkeypatch.setattr(windowing, "unexplained", lambda _samples, _voiced: [Region(1.0, 5.0)])
    words = [Word(1.0, 3.0, " 7", 0.9), Word(3.0, 5.0, " 8", 0.9)]
    [heard] = good(transcribe(engine(SpellingDecoder()), [seekable(spelling(words, 8.0))]))
    assert texts(heard) == [" 1750", " 2000"], "amplified to half of full scale"
    assert heard.speech.vad_seconds == 4.0
    [silent] = good(transcribe(engine(SpellingDecoder()), [seekable(spelling([], 8.0))]))
    assert (silent.segments, silent.speech.vad_seconds) == ((), 0.0), "the decoder finds no speech either"


def test_low_confidence_speech_found_by_energy_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Unsure(SpellingDecoder):
        """Fake decoder: its words have a low probability."""

        def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
            found = super().decode(batch, choose)
            return [replace(item, segment=replace(item.segment, avg_logprob=-0.9)) for item in found]

    monkeypatch.setattr(windowing, "voiced_regions", lambda _samples: [])
    monkeypatch.setattr(windowing, "unexplained", lambda _samples, _voiced: [Region(1.0, 5.0)])
    [heard] = good(transcribe(engine(Unsure()), [seekable(spelling([Word(1.0, 5.0, " 7", 0.9)], 8.0))]))
    assert (heard.segments, heard.speech.gaps) == ((), ((1.0, 5.0),))


@dataclass
class Foreign(SpellingDecoder):
    """Fake decoder: words below 10 are English, others have low confidence unless decoded carefully in `right`.

    Decoding in `mute` gives no words.
    """

    right: str = "en"
    mute: str = ""
    tried: list[tuple[int, str]] = field(default_factory=list)

    def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
        return [self._sung(chunk, number, choose) for number, chunk in enumerate(batch)]

    def careful(self, chunk: Chunk, language: str) -> list[Segment]:
        words = tuple(spelt(chunk.samples))
        self.tried.append((int(words[0].word), language))
        text = "".join(word.word for word in words)
        if language == self.mute:
            return []
        return [Segment(0, 0.0, chunk.length, text, words, -0.1 if language == self.right else -1.5, 0.0, 1.0)]

    def _sung(self, chunk: Chunk, number: int, choose: Choose) -> Decoded:
        is_sung = int(next(spelt(chunk.samples)).word) >= 10
        own = [("nn", 0.95)] if is_sung else [("en", 0.95)]
        found = self._decoded(chunk, choose(number, own))
        return Decoded(replace(found.segment, avg_logprob=-1.5 if is_sung else -0.1), own)


def in_chunks(*numbers: int) -> Samples:
    """Return words of 4 s, with pauses that no chunk spans."""
    words = [Word(8.0 * at, 8.0 * at + 4.0, f" {number}", 0.9) for at, number in enumerate(numbers)]
    return spelling(words, 8.0 * len(numbers))


def test_a_low_confidence_chunk_is_retried_in_a_near_language() -> None:
    decoder = Foreign()
    [heard] = good(transcribe(engine(decoder), [seekable(in_chunks(1, 11, 2))]))
    assert texts(heard) == [" 1", " 11", " 2"]
    assert [(item.language, item.low_confidence, item.repaired) for item in heard.segments] == [
        ("en", "", False),
        ("en", "", True),
        ("en", "", False),
    ]
    assert {number for number, _ in decoder.tried} == {11}, "chunks of high confidence are not decoded again"
    assert "nn" not in heard.languages


@pytest.mark.parametrize("mute", ["", "en"])
def test_a_chunk_of_lasting_low_confidence_keeps_its_language(mute: str) -> None:
    decoder = Foreign(right="fi", mute=mute)
    [heard] = good(transcribe(engine(decoder), [seekable(in_chunks(1, 11, 2))]))
    assert (11, "en") in decoder.tried
    assert [(item.language, item.low_confidence) for item in heard.segments] == [
        ("en", ""),
        ("nn", "guess"),
        ("en", ""),
    ]


def test_neighbours_are_chunks_of_the_same_recording() -> None:
    decoder = Foreign()
    alone = good(transcribe(engine(decoder), map(seekable, (in_chunks(1), in_chunks(11), in_chunks(2)))))[1]
    assert {language for _, language in decoder.tried} == {"nn"}
    assert [(item.language, item.low_confidence) for item in alone.segments] == [("nn", "guess")]
