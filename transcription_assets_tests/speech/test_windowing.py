"""Splitting of audio into windows at pauses, and joining of the results. Uses the fake decoder of `spelling`."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Word
from transcription_assets.speech import SAMPLE_RATE, alignment, transcribe, windowing
from transcription_assets_tests.speech.spelling import (
    SpellingDecoder,
    engine,
    good,
    in_blocks,
    loud,
    said,
    seekable,
    spelling,
    texts,
)

pytestmark = pytest.mark.usefixtures("scripted_voices")


phrases = st.lists(
    st.tuples(st.lists(st.integers(15, 60), min_size=1, max_size=12), st.sampled_from([5, 20, 60, 400])), max_size=12
)


@given(phrases, st.integers(400, 3000))
@examples(max_examples=60)
def test_no_window_boundary_loses_duplicates_or_cuts_a_word(
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
        # The level encodes the words here, so quiet words would count as pauses; the alignment has its own tests.
        patch.setattr(alignment, "aligned", lambda segments, _samples, _voiced: [*segments])
        # A phrase lasts at most 7.2 s, so the last fifth of a window of 40 s always contains a pause.
        patch.setattr(windowing, "WINDOW_S", 36.0 + window_steps / 100)
        [heard] = good(transcribe(engine(SpellingDecoder()), [seekable(samples)]))
    assert texts(heard) == [word.word for word in words]
    times = [time for segment in heard.segments for word in segment.words for time in (word.start, word.end)]
    assert all(before <= after for before, after in pairwise(times))
    assert times == pytest.approx([time for word in words for time in (word.start, word.end)], abs=0.002)
    assert heard.duration == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-3)
    assert not heard.speech.gaps
    assert not heard.speech.hallucinations


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30])
def test_invalid_samples_become_finite_and_bounded(wrong: float) -> None:
    samples = spelling(said(10.0), 10.0)
    samples[-100:] = wrong
    made = windowing.sane(samples)
    assert np.isfinite(made).all()
    assert np.abs(made).max() <= 1.0


@pytest.mark.parametrize("length", [0, 1, 100, 4800])
def test_empty_or_very_short_audio_is_silence(length: int) -> None:
    [heard] = good(transcribe(engine(SpellingDecoder()), [seekable(np.zeros(length, np.float32))]))
    assert heard.segments == ()
    assert heard.language == ""


def test_a_window_without_a_pause_ends_at_its_quietest_moment() -> None:
    samples = np.full(10 * SAMPLE_RATE, 0.5, np.float32)
    samples[9 * SAMPLE_RATE : 9 * SAMPLE_RATE + 1600] = 0.01
    first, *_ = windowing.plan_windows(in_blocks(samples), window_s=10.0)
    assert first.length == pytest.approx(9.05, abs=0.06)


def test_a_window_ends_between_phrases_not_in_a_quiet_consonant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plosive is as quiet as a short pause; a boundary there would split the word."""
    samples = np.full(10 * SAMPLE_RATE, 0.5, np.float32)
    samples[int(8.4 * SAMPLE_RATE) : int(8.6 * SAMPLE_RATE)] = 0.02
    samples[int(9.4 * SAMPLE_RATE) : int(9.5 * SAMPLE_RATE)] = 0.01
    voices = [Region(0.0, 4.2), Region(4.2, 8.2), Region(8.2, 8.5), Region(8.5, 10.0)]
    monkeypatch.setattr(windowing, "voiced_regions", lambda _samples: voices)
    first, *_ = windowing.plan_windows([samples], window_s=10.0)
    assert first.length == pytest.approx(8.5, abs=0.01)
