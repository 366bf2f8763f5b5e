"""Detection of audio above the background without the voice detector."""

import numpy as np
import pytest

from transcription_assets.domain.chunking import Region
from transcription_assets.speech import SAMPLE_RATE, Samples
from transcription_assets.speech.energy import active_regions, unexplained

BURST = Region(12.0, 18.0)


def noise(seconds: float, level: float) -> Samples:
    return np.random.default_rng(5).normal(0, level, int(seconds * SAMPLE_RATE)).astype(np.float32)


def with_burst(background: float, level: float) -> Samples:
    samples = noise(30.0, background)
    first, last = int(BURST.start * SAMPLE_RATE), int(BURST.end * SAMPLE_RATE)
    samples[first:last] += noise(BURST.length, level)
    return samples


@pytest.mark.parametrize(("background", "level"), [(0.0, 0.001), (0.0001, 0.001), (0.01, 0.1)])
def test_sound_louder_than_its_background_is_active(background: float, level: float) -> None:
    [found] = active_regions(with_burst(background, level))
    assert found.start == pytest.approx(BURST.start, abs=0.1)
    assert found.end == pytest.approx(BURST.end, abs=0.1)


@pytest.mark.parametrize("level", [0.0, 0.001, 0.3])
def test_silence_and_steady_noise_are_not_active(level: float) -> None:
    assert active_regions(noise(30.0, level)) == []


@pytest.mark.parametrize("samples", [0, 1, 600, 5000])
def test_very_short_audio_is_not_active(samples: int) -> None:
    assert active_regions(noise(samples / SAMPLE_RATE, 0.1)) == []


def test_a_word_at_the_end_is_active() -> None:
    samples = np.zeros(int(21.0 * SAMPLE_RATE), np.float32)
    samples[20 * SAMPLE_RATE :] = noise(1.0, 0.1)
    [found] = active_regions(samples)
    assert found.start == pytest.approx(20.0, abs=0.1)


def test_activity_inside_voiced_regions_is_not_unexplained() -> None:
    samples = with_burst(0.001, 0.1)
    assert len(unexplained(samples, [])) == 1
    assert unexplained(samples, [BURST]) == []
    [left] = unexplained(samples, [Region(12.0, 14.0)])
    assert left.start == pytest.approx(14.5, abs=0.1)
    assert unexplained(samples, [Region(13.5, 18.0)]) == [], "one or two seconds are not a gap"
