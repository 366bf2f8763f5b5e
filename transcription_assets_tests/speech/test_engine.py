"""The engine around the model: windows, batches, checkpoints, failures. SCRIPTED model: sound spells words."""

import math
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from transcription_assets.chunks import Region
from transcription_assets.failures import PermanentFailure, TransientFailure
from transcription_assets.speech import SAMPLE_RATE, Hardware, Heard, Place, Samples, Sound, Whisper, Window, window
from transcription_assets.speech import whisper as whispering
from transcription_assets.speech import windows as windowing
from transcription_assets.speech.batches import even_size
from transcription_assets.speech.decoder import Choose, Chunk, Decoded
from transcription_assets.speech.whisper import VERSION
from transcription_assets.transcript import Segment, Word

STEP = SAMPLE_RATE // 100
LEVELS = 4000


def loud(samples: Samples) -> list[Region]:
    """FAKE voice activity detector: whatever is not zero."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], samples != 0, [0]])))
    return [Region(float(start / SAMPLE_RATE), float(end / SAMPLE_RATE)) for start, end in edges.reshape(-1, 2)]


@dataclass
class SpellingDecoder:
    """FAKE: every stretch of one loudness is a word with the number of that loudness; what is cut is another word."""

    languages: Sequence[tuple[str, float]] = (("en", 0.9), ("de", 0.1))
    batches: list[list[float]] = field(default_factory=list)
    failing_on: frozenset[int] = frozenset()
    most: int = 1000

    def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
        if len(batch) > self.most:
            raise RuntimeError("CUDA failed with error out of memory")
        self.batches.append([round(chunk.length, 2) for chunk in batch])
        return [self._decoded(chunk, choose(number, self.languages)) for number, chunk in enumerate(batch)]

    def careful(self, _chunk: Chunk, _language: str) -> list[Segment]:
        return []

    def _decoded(self, chunk: Chunk, language: tuple[str, float]) -> Decoded:
        words = tuple(_spelt(chunk.samples))
        if self.failing_on & {int(word.word) for word in words}:
            raise ValueError("this one cannot be decoded")
        text = "".join(word.word for word in words)
        segment = Segment(0, 0.0, chunk.length, text, words, -0.1, 0.0, 1.0, False, *language)  # noqa: FBT003
        return Decoded(segment, self.languages)


def _spelt(samples: Samples) -> Iterator[Word]:
    clock = 0
    for level, run in groupby(np.round(samples * LEVELS).astype(int).tolist()):
        length = len(list(run))
        if level:
            yield Word(clock / SAMPLE_RATE, (clock + length) / SAMPLE_RATE, f" {level}", 0.9)
        clock += length


def spelling(words: Sequence[Word], duration: float) -> Samples:
    """A sound that spells these words, each with the number in its text."""
    samples = np.zeros(round(duration * SAMPLE_RATE), np.float32)
    for word in words:
        samples[round(word.start * SAMPLE_RATE) : round(word.end * SAMPLE_RATE)] = int(word.word) / LEVELS
    return samples


def in_blocks(samples: Samples, seconds: float = 1.0) -> Iterator[Samples]:
    step = int(seconds * SAMPLE_RATE)
    for start in range(0, len(samples), step):
        yield samples[start : start + step]


def seekable(samples: Samples, **changes: object) -> Sound:
    def read(_channel: int, start: float) -> Iterable[Samples]:
        return in_blocks(samples[round(start * SAMPLE_RATE) :])

    return Sound(read, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _scripted_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "voiced_regions", loud)


def engine(decoder: SpellingDecoder, **hardware: object) -> Whisper:
    made = Whisper(Path(), name="scripted", revision="1", hardware=Hardware("cpu", **hardware))  # type: ignore[arg-type]
    made.__dict__["_decoder"] = decoder
    return made


def good(answers: Iterable[Heard | Exception]) -> list[Heard]:
    found = list(answers)
    assert not [answer for answer in found if isinstance(answer, Exception)], found
    return [answer for answer in found if isinstance(answer, Heard)]


def texts(heard: Heard) -> list[str]:
    return [word.word for segment in heard.segments for word in segment.words]


def said(length: float, *, first: int = 1, pause: float = 0.5, word: float = 0.4) -> list[Word]:
    """Phrases of five words with pauses between them."""
    words, clock, number = [], 0.2, first
    while clock + 5 * word < length:
        for _ in range(5):
            words.append(Word(round(clock, 3), round(clock + word, 3), f" {number}", 0.9))
            clock, number = clock + word, number + 1
        clock += pause
    return words


phrases = st.lists(
    st.tuples(st.lists(st.integers(15, 60), min_size=1, max_size=12), st.sampled_from([5, 20, 60, 400])), max_size=12
)


@given(phrases, st.integers(400, 3000))
@examples(max_examples=60)
def test_no_word_is_lost_doubled_or_cut_wherever_the_windows_end(
    spoken: list[tuple[list[int], int]], window_steps: int
) -> None:
    words, clock = [], 0
    for phrase, pause in spoken:
        for length in phrase:
            words.append(Word(clock / 100, (clock + length) / 100, f" {len(words) + 1}", 0.9))
            clock += length
        clock += pause
    samples = spelling(words, clock / 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "voiced_regions", loud)
        # A phrase lasts 7.2 s at most: in the last fifth of a window of 40 s there is always a pause.
        patch.setattr(windowing, "WINDOW_S", 36.0 + window_steps / 100)
        [heard] = good(engine(SpellingDecoder()).hear([seekable(samples)]))
    assert texts(heard) == [word.word for word in words]
    times = [time for segment in heard.segments for word in segment.words for time in (word.start, word.end)]
    assert all(before <= after for before, after in pairwise(times))
    assert times == pytest.approx([time for word in words for time in (word.start, word.end)], abs=0.002)
    assert heard.duration == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-3)
    assert not heard.speech.holes
    assert not heard.speech.inventions


class KilledError(BaseException):
    """FAKE end of the process."""


@dataclass
class DyingDecoder(SpellingDecoder):
    """FAKE: the process ends in the batch that has the word with this number."""

    dies_at: int = 0

    def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
        found = super().decode(batch, choose)
        if any(int(word.word) >= self.dies_at for item in found for word in item.segment.words):
            raise KilledError
        return found


@pytest.mark.parametrize("channels", [1, 2])
def test_a_run_that_was_killed_late_repeats_one_window_and_hears_the_same(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two windows of ten minutes in hand would be lost at once, and with two channels the end of the first one too."""
    monkeypatch.setattr(windowing, "WINDOW_S", 20.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 20.0)
    words = said(240.0, pause=0.7)
    samples = spelling(words, 240.0)
    later = [replace(word, word=f" {int(word.word) + 1000}") for word in words]
    sides = [samples, spelling(later, 240.0)][:channels]
    kept: dict[Place, Window] = {}

    def read(channel: int, start: float) -> Iterable[Samples]:
        return in_blocks(sides[channel][round(start * SAMPLE_RATE) :])

    first_try = DyingDecoder(dies_at=int(words[-1].word) * 9 // 10 + 1000 * (channels - 1))
    with pytest.raises(KilledError):
        list(engine(first_try).hear([Sound(read, kept=kept, channels=channels)]))
    again, at_once = SpellingDecoder(), SpellingDecoder()
    [heard] = good(engine(again).hear([Sound(read, kept=kept, channels=channels)]))
    [whole] = good(engine(at_once).hear([Sound(read, channels=channels)]))
    assert (heard.segments, heard.speech, heard.languages) == (whole.segments, whole.speech, whole.languages)
    assert sorted(texts(heard)) == sorted(word.word for word in (*words, *later)[: channels * len(words)])
    decoded = [sum(map(sum, decoder.batches)) for decoder in (first_try, again, at_once)]
    assert decoded[0] + decoded[1] - decoded[2] <= 20.0, "what was decoded twice"


@given(st.integers(0, 40))
@examples(max_examples=20)
def test_a_window_comes_back_from_its_json_as_it_was(count: int) -> None:
    words = tuple(said(20.0)[:count])
    text = "".join(word.word for word in words)
    segment = Segment(0, 0.0, 9.0, text, words, -0.1, 0.0, 1.0, True, "de", 0.7, "loop", "left")  # noqa: FBT003
    made = Window(5.0, 25.0, (segment,), (Region(5.5, 9.0),), {"de": 3.5})
    assert window.from_json(made.to_json()) == made


def test_short_recordings_are_decoded_together_and_answered_in_their_order() -> None:
    clips = [spelling(said(length, first=100 * number), length) for number, length in enumerate((9, 3, 12, 6, 5), 1)]
    decoder = SpellingDecoder()
    heard = good(engine(decoder, batch_size=8, workers=1).hear(map(seekable, clips)))
    assert [texts(item)[0] for item in heard] == [" 100", " 200", " 300", " 400", " 500"]
    assert len(decoder.batches) == 1
    assert decoder.batches[0] == sorted(decoder.batches[0], reverse=True)


def test_one_sound_that_cannot_be_read_does_not_hide_the_others() -> None:
    def broken(_channel: int, _start: float) -> Iterable[Samples]:
        yield np.zeros(SAMPLE_RATE, np.float32)
        raise PermanentFailure("this file is broken")

    clip = spelling(said(5.0), 5.0)
    first, second, third = engine(SpellingDecoder()).hear([seekable(clip), Sound(broken), seekable(clip)])
    assert isinstance(first, Heard)
    assert isinstance(second, PermanentFailure)
    assert isinstance(third, Heard)
    assert texts(first) == texts(third) != []


def test_one_sound_that_breaks_the_decoder_does_not_take_its_batch_along() -> None:
    clips = [spelling(said(5.0, first=100 * number), 5.0) for number in (1, 2, 3)]
    answers = list(engine(SpellingDecoder(failing_on=frozenset({203}))).hear(map(seekable, clips)))
    assert [type(answer) for answer in answers] == [Heard, ValueError, Heard]


def test_a_checkpoint_that_cannot_be_written_fails_that_recording_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)

    class Full(dict[Place, Window]):
        def __setitem__(self, place: Place, done: Window) -> None:
            raise PermanentFailure("no space left")

    samples = spelling(said(30.0), 30.0)
    answers = list(engine(SpellingDecoder()).hear([seekable(samples, kept=Full()), seekable(samples)]))
    assert [type(answer) for answer in answers] == [PermanentFailure, Heard]


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_nothing_is_lost() -> None:
    clips = [spelling(said(6.0, first=100 * number), 6.0) for number in range(1, 9)]
    decoder = SpellingDecoder(most=2)
    heard = good(engine(decoder, batch_size=8, workers=1).hear(map(seekable, clips)))
    assert [texts(item)[0] for item in heard] == [f" {100 * number}" for number in range(1, 9)]
    assert max(map(len, decoder.batches)) == 2


def test_two_channels_are_two_speakers_in_the_order_in_which_they_speak() -> None:
    left = spelling([Word(0.5, 1.0, " 1", 0.9), Word(1.0, 1.5, " 2", 0.9), Word(8.0, 8.5, " 3", 0.9)], 10.0)
    right = spelling([Word(4.0, 4.5, " 11", 0.9), Word(4.5, 5.0, " 12", 0.9)], 10.0)

    def read(channel: int, _start: float) -> Iterable[Samples]:
        return in_blocks((left, right)[channel])

    [heard] = good(engine(SpellingDecoder()).hear([Sound(read, channels=2)]))
    assert [(item.speaker, item.text) for item in heard.segments] == [
        ("left", "1 2"),
        ("right", "11 12"),
        ("left", "3"),
    ]
    assert [item.id for item in heard.segments] == [0, 1, 2]
    assert heard.speech.vad_seconds == pytest.approx(2.5)


def test_each_stretch_of_a_chunk_with_two_languages_is_decoded_in_its_own_and_no_word_is_lost() -> None:
    @dataclass
    class Bilingual(SpellingDecoder):
        """FAKE: words below 10 are English, others Italian."""

        def tell_languages(self, batch: Sequence[Chunk]) -> list[list[tuple[str, float]]]:
            return [[self._own(chunk)] for chunk in batch]

        def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
            sure = [("it", 0.5), ("en", 0.4)]
            return [
                self._decoded(chunk, choose(number, sure if len({*self._numbers(chunk)}) > 1 else [self._own(chunk)]))
                for number, chunk in enumerate(batch)
            ]

        def _numbers(self, chunk: Chunk) -> Iterator[bool]:
            return (int(word.word) < 10 for word in _spelt(chunk.samples))

        def _own(self, chunk: Chunk) -> tuple[str, float]:
            return ("en" if all(self._numbers(chunk)) else "it", 0.9)

        def _decoded(self, chunk: Chunk, language: tuple[str, float]) -> Decoded:
            return replace(super()._decoded(chunk, language), languages=[("it", 0.5), ("en", 0.4)])

    numbers = [1, 2, 11, 12, 3, 13]
    words = [Word(2.0 * at, 2.0 * at + 1.5, f" {number}", 0.9) for at, number in enumerate(numbers)]
    [heard] = good(engine(Bilingual()).hear([seekable(spelling(words, 12.0))]))
    assert texts(heard) == [word.word for word in words]
    assert [item.language for item in heard.segments for _ in item.words] == ["en", "en", "it", "it", "en", "it"]
    times = [word.start for segment in heard.segments for word in segment.words]
    assert times == pytest.approx([word.start for word in words], abs=0.002)
    assert heard.languages == {"en": 0.5, "it": 0.5}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_neither_crash_nor_become_words(wrong: float) -> None:
    samples = spelling(said(10.0), 10.0)
    samples[-100:] = wrong
    made = windowing.sane(samples)
    assert np.isfinite(made).all()
    assert np.abs(made).max() <= 1.0


@pytest.mark.parametrize("length", [0, 1, 100, 4800])
def test_a_sound_of_no_length_or_a_blink_is_heard_as_silence(length: int) -> None:
    [heard] = good(engine(SpellingDecoder()).hear([seekable(np.zeros(length, np.float32))]))
    assert heard.segments == ()
    assert heard.language == ""


def test_where_nobody_pauses_a_window_ends_in_its_quietest_moment() -> None:
    samples = np.full(10 * SAMPLE_RATE, 0.5, np.float32)
    samples[9 * SAMPLE_RATE : 9 * SAMPLE_RATE + 1600] = 0.01
    first, *_ = windowing.windows(in_blocks(samples), window_s=10.0)
    assert first.length == pytest.approx(9.05, abs=0.06)


def test_a_window_without_a_long_pause_ends_between_two_phrases_and_not_in_a_quiet_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The closed lips of a P are as quiet as a short pause: the word would be cut in two."""
    samples = np.full(10 * SAMPLE_RATE, 0.5, np.float32)
    samples[int(8.4 * SAMPLE_RATE) : int(8.6 * SAMPLE_RATE)] = 0.02
    samples[int(9.4 * SAMPLE_RATE) : int(9.5 * SAMPLE_RATE)] = 0.01
    voices = [Region(0.0, 4.2), Region(4.2, 8.2), Region(8.2, 8.5), Region(8.5, 10.0)]
    monkeypatch.setattr(windowing, "voiced_regions", lambda _samples: voices)
    first, *_ = windowing.windows([samples], window_s=10.0)
    assert first.length == pytest.approx(8.5, abs=0.01)


@given(st.integers(0, 200), st.integers(1, 32), st.integers(1, 8))
def test_batches_are_small_enough_and_every_worker_has_as_many(jobs: int, most: int, workers: int) -> None:
    size = even_size(jobs, most, workers)
    assert 1 <= size <= most
    assert jobs < workers or math.ceil(jobs / size) <= math.ceil(jobs / (most * workers)) * workers


def test_where_a_container_is_given_one_core_no_more_threads_fight_for_it() -> None:
    given = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    told = "from transcription_assets.speech import Hardware; found = Hardware('cpu')"
    asked = f"{given}; {told}; print(found.at_once, found.threads_each)"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "1"]


def test_a_new_engine_makes_older_transcripts_stale() -> None:
    assert VERSION in engine(SpellingDecoder()).model.engine


def test_a_recording_whose_progress_or_place_is_broken_costs_the_others_nothing() -> None:
    """A page that closed, a store that went away: three good recordings of the batch would have no words."""

    def gone(_seconds: float) -> None:
        raise OSError("nobody watches any more")

    words = [Word(0.5, 1.0, " 7", 0.9)]
    sounds = [seekable(spelling(words, 2.0)) for _ in range(4)]
    sounds[1] = seekable(spelling(words, 2.0), progress=gone)
    answers = list(engine(SpellingDecoder()).hear(sounds))
    assert [type(answer) for answer in answers] == [Heard, OSError, Heard, Heard]
    assert all(answer.segments for answer in answers if isinstance(answer, Heard))


def test_a_gpu_that_fails_is_not_blamed_on_the_recordings() -> None:
    """They would be marked as broken for good, and nobody would try them again on a healthy node."""

    class Broken(SpellingDecoder):
        def decode(self, _batch: Sequence[Chunk], _choose: Choose) -> list[Decoded]:
            raise RuntimeError("CUDA failed with error unspecified launch failure")

    answers = list(engine(Broken()).hear([seekable(spelling([Word(0.5, 1.0, " 7", 0.9)], 2.0))] * 2))
    assert [type(answer) for answer in answers] == [TransientFailure, TransientFailure]


def test_weights_that_cannot_be_loaded_are_tried_once_and_told_for_each_recording(tmp_path: Path) -> None:
    hearer = Whisper(tmp_path / "no model", name="none", revision="", hardware=Hardware(device="cpu", workers=1))
    answers = list(hearer.hear([seekable(spelling([Word(0.5, 1.0, " 7", 0.9)], 2.0))] * 3))
    assert len(answers) == 3
    assert len({id(answer) for answer in answers}) == 1
    assert isinstance(answers[0], Exception)


def test_where_one_of_several_windows_in_hand_is_lost_the_next_run_hears_it_and_all_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GPU takes windows of half an hour at once: what was heard behind the lost one stood in its place for ever."""
    monkeypatch.setattr(windowing, "WINDOW_S", 20.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 100.0)
    words = said(240.0, pause=0.7)
    samples, kept = spelling(words, 240.0), dict[Place, Window]()
    lost = SpellingDecoder(failing_on=frozenset({len(words) // 4}))
    [error] = engine(lost).hear([seekable(samples, kept=kept)])
    assert isinstance(error, ValueError)
    [heard] = good(engine(SpellingDecoder()).hear([seekable(samples, kept=kept)]))
    assert texts(heard) == [word.word for word in words]


@pytest.mark.parametrize("start", [15.0, 25.0])
def test_a_kept_window_that_does_not_begin_where_the_one_before_ends_is_heard_again(start: float) -> None:
    """It is left of a run that cut elsewhere: taken over, it would double words or lose them."""
    words = said(60.0)
    kept = {(0, 0): Window(0.0, 20.0), (0, 1): Window(start, 40.0)}
    [heard] = good(engine(SpellingDecoder()).hear([seekable(spelling(words, 60.0), kept=kept)]))
    assert [word for word in texts(heard) if word] == [word.word for word in words if word.start >= 20.0]


def test_a_recording_that_has_failed_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours would be decoded and searched for voices, for nothing, before the next recording had its turn."""
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 10.0)
    samples, blocks = spelling(said(300.0), 300.0), []

    def read(_channel: int, _start: float) -> Iterable[Samples]:
        for block in in_blocks(samples):
            blocks.append(block)
            yield block

    words = [Word(0.5, 1.0, " 7", 0.9)]
    broken = SpellingDecoder(failing_on=frozenset({1}))
    answers = list(engine(broken).hear([Sound(read, channels=2), seekable(spelling(words, 2.0))]))
    assert [type(answer) for answer in answers] == [ValueError, Heard]
    assert len(blocks) <= 40, "more than what was in hand, and a window of each channel"


def test_what_is_read_while_another_window_is_heard_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording would look slower, and dearer, than the run was that heard it."""
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 10.0)
    samples = spelling(said(60.0), 60.0)

    class Slow(SpellingDecoder):
        def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
            time.sleep(0.1)
            return super().decode(batch, choose)

    def read(_channel: int, _start: float) -> Iterable[Samples]:
        for block in in_blocks(samples, 10.0):
            time.sleep(0.1)
            yield block

    started = time.monotonic()
    heard = good(engine(Slow()).hear([Sound(read)] * 2))
    assert 0.2 < sum(item.wall_s for item in heard) <= time.monotonic() - started + 0.001


def test_what_is_told_to_be_done_never_goes_back_and_ends_with_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar of a telephone call was full, and empty again: its second speaker was still to be heard."""
    monkeypatch.setattr(windowing, "WINDOW_S", 20.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 20.0)
    told: list[float] = []
    samples = spelling(said(60.0), 60.0)
    good(engine(SpellingDecoder()).hear([seekable(samples, channels=2, progress=told.append)]))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 60.0)
    assert len({*told}) > 4


@given(st.integers(1, 64), st.integers(0, 64))
def test_workers_have_no_more_threads_together_than_they_were_given(threads: int, workers: int) -> None:
    hardware = Hardware("cpu", cpu_threads=threads, workers=workers)
    assert hardware.at_once == (workers or threads)
    assert hardware.at_once * hardware.threads_each <= max(threads, workers)


@pytest.mark.parametrize("devices", [(0,), (0, 2, 3)])
def test_each_gpu_that_is_named_takes_batches_at_the_same_time(
    devices: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def load(_path: str, **how: object) -> SimpleNamespace:
        """FAKE: no GPU is asked."""
        asked.update(how)
        return SimpleNamespace(model=SimpleNamespace(is_multilingual=True), supported_languages=["en"])

    monkeypatch.setattr("faster_whisper.WhisperModel", load)
    hardware = Hardware("cuda", devices=devices)
    Whisper(Path(), name="scripted", revision="1", hardware=hardware).load()
    assert (asked["device"], asked["device_index"], asked["compute_type"]) == ("cuda", list(devices), "float16")
    assert hardware.at_once == len(devices)
