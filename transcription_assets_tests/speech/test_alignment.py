"""Alignment of word times with the pauses in the audio."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech import SAMPLE_RATE, Samples
from transcription_assets.speech.alignment import SHORTEST_PAUSE_S, aligned, pauses, snapped

NOISE_DB = -50.0


def spoken(*regions: tuple[float, float], seconds: float, noise_db: float = NOISE_DB, gain: float = 0.3) -> Samples:
    """Return a buzz of 150 Hz in these regions, with white noise everywhere."""
    clock = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(7).standard_normal(len(clock)) * 10 ** (noise_db / 20)
    buzz = gain * np.sign(np.sin(2 * np.pi * 150 * clock))
    inside = np.zeros(len(clock), bool)
    for start, end in regions:
        inside |= (clock >= start) & (clock < end)
    return (noise + buzz * inside).astype(np.float32)


def words(*times: tuple[float, float]) -> list[Word]:
    return [Word(start, end, f" {number}", 0.9) for number, (start, end) in enumerate(times)]


def segment(*spans: tuple[float, float]) -> Segment:
    said = words(*spans)
    return Segment(0, said[0].start, said[-1].end, "said", tuple(said), -0.1, 0.0, 1.0)


def align(samples: Samples, *spans: tuple[float, float]) -> list[tuple[float, float]]:
    [found] = aligned([segment(*spans)], samples, [Region(0.0, len(samples) / SAMPLE_RATE)])
    assert (found.start, found.end) == (found.words[0].start, found.words[-1].end)
    return [(pytest.approx(word.start, abs=0.015), pytest.approx(word.end, abs=0.015)) for word in found.words]


@pytest.mark.parametrize("noise_db", [-90.0, -50.0, -35.0])
@pytest.mark.parametrize("gain", [0.3, 0.03])
def test_a_word_stretched_over_the_previous_pause_is_shortened(noise_db: float, gain: float) -> None:
    samples = spoken((0.3, 2.0), (3.3, 4.4), seconds=5.0, noise_db=noise_db + 20 * np.log10(gain / 0.3), gain=gain)
    assert align(samples, (0.2, 1.1), (1.1, 2.1), (2.1, 3.8), (3.8, 4.5)) == [
        (0.3, 1.1),
        (1.1, 2.0),
        (3.3, 3.8),
        (3.8, 4.4),
    ]


def test_a_word_stretched_over_the_next_pause_is_shortened() -> None:
    samples = spoken((0.3, 2.0), (3.3, 4.4), seconds=5.0)
    assert align(samples, (0.3, 1.4), (1.4, 3.1), (3.2, 4.4)) == [(0.3, 1.4), (1.4, 2.0), (3.3, 4.4)]


def test_a_word_next_to_a_pause_is_extended_to_it() -> None:
    samples = spoken((0.3, 2.0), (3.3, 4.4), seconds=5.0)
    assert align(samples, (0.4, 1.9), (3.45, 4.25)) == [(0.3, 2.0), (3.3, 4.4)]


def test_a_closure_inside_a_word_does_not_cut_it() -> None:
    samples = spoken((0.3, 0.8), (1.0, 1.6), (2.5, 3.0), seconds=4.0)
    assert align(samples, (0.3, 1.6), (2.5, 3.0)) == [(0.3, 1.6), (2.5, 3.0)]


def test_a_quiet_speaker_after_a_loud_one_is_not_a_pause() -> None:
    loud, quiet = spoken((0.3, 2.0), seconds=2.5), spoken((0.3, 1.0), seconds=2.0, gain=0.01)
    assert align(np.concatenate([loud, quiet]), (0.3, 2.0), (2.5, 3.5)) == [(0.3, 2.0), (2.8, 3.5)]


@pytest.mark.parametrize("silence_s", [1.5, 20.0])
def test_digital_silence_does_not_hide_a_noisy_pause(silence_s: float) -> None:
    noisy = spoken((0.3, 2.0), (3.3, 4.4), seconds=5.0)
    samples = np.concatenate([np.zeros(int(silence_s * SAMPLE_RATE), np.float32), noisy])
    voiced = [Region(silence_s + 0.2, silence_s + 2.4), Region(silence_s + 2.9, silence_s + 4.5)]
    said = segment((silence_s + 0.3, silence_s + 2.2), (silence_s + 2.2, silence_s + 4.4))
    [found] = aligned([said], samples, voiced)
    assert [word.start - silence_s for word in found.words] == [
        pytest.approx(0.3, abs=0.02),
        pytest.approx(3.3, abs=0.02),
    ]


def test_a_noisy_pause_after_a_clean_recording_is_found() -> None:
    clean = spoken((1.0, 4.0), (6.0, 8.0), seconds=10.0, noise_db=-75.0)
    noisy = spoken((0.3, 4.0), (5.3, 9.4), seconds=10.0, noise_db=-42.0)
    found = align(np.concatenate([clean, noisy]), (1.0, 4.0), (6.0, 8.0), (10.2, 14.2), (14.2, 19.5))
    assert found == [(1.0, 4.0), (6.0, 8.0), (10.3, 14.0), (15.3, 19.4)]


def test_a_last_word_alone_is_not_its_own_noise() -> None:
    samples = spoken((0.3, 4.0), (5.0, 9.0), (10.0, 11.0), seconds=11.0)
    assert align(samples, (0.3, 4.0), (5.0, 9.0), (10.1, 10.9))[-1] == (10.0, 10.9)


def test_a_word_far_from_any_speech_is_not_moved() -> None:
    samples = spoken((0.3, 1.0), (5.0, 5.5), seconds=6.0)
    assert align(samples, (0.3, 1.0), (2.6, 3.0), (5.0, 5.5)) == [(0.3, 1.0), (2.6, 3.0), (5.0, 5.5)]


def test_sound_outside_the_voiced_regions_is_a_pause() -> None:
    samples = spoken((0.0, 4.0), seconds=4.0)
    found = pauses(samples, [Region(0.5, 1.5), Region(2.5, 3.0)])
    assert found == [Region(0.0, 0.5), Region(1.5, 2.5), Region(3.0, 4.0)]


def test_a_segment_without_words_is_unchanged() -> None:
    empty = Segment(0, 0.2, 0.9, "said", (), -0.1, 0.0, 1.0)
    assert aligned([empty], spoken((0.5, 0.9), seconds=1.0), [Region(0.0, 1.0)]) == [empty]


SECONDS = 20.0
spans = st.tuples(st.floats(0, SECONDS), st.floats(0, 3)).map(lambda item: (item[0], min(sum(item), SECONDS)))


@given(st.lists(spans, max_size=30).map(sorted), st.lists(spans, max_size=12))
@settings(max_examples=300, deadline=None)
def test_words_keep_their_order_and_never_overlap(
    times: list[tuple[float, float]], silent: list[tuple[float, float]]
) -> None:
    silences = [Region(*span) for span in sorted(silent) if span[1] > span[0]]
    said = words(*times)
    found = snapped(said, silences, SECONDS)
    assert [(word.word, word.probability) for word in found] == [(word.word, word.probability) for word in said]
    clock = [time for word in found for time in (word.start, word.end)]
    assert all(earlier <= later for earlier, later in pairwise(clock))
    assert all(0.0 <= time <= SECONDS for time in clock)


@given(st.lists(spans, max_size=12))
@settings(max_examples=100, deadline=None)
def test_words_that_match_the_audio_are_not_moved(parts: list[tuple[float, float]]) -> None:
    clock, times = 0.0, []
    for gap, length in ((start % 2, end % 1 + 0.05) for start, end in parts):
        times.append((clock + gap + SHORTEST_PAUSE_S, clock + gap + SHORTEST_PAUSE_S + length))
        clock = times[-1][1]
    edges = [0.0, *(edge for span in times for edge in span), clock + 1]
    silences = [Region(start, end) for start, end in list(pairwise(edges))[::2]]
    found = snapped(words(*times), silences, clock + 1)
    assert [(word.start, word.end) for word in found] == times
