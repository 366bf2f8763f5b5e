"""Mixing and loudness of sample arrays."""

from pathlib import Path

import numpy as np
import pytest

from transcription_assets.media.mixing import Samples, gain_steps, levels, loudness, mixed, weights
from transcription_assets.media.spool import to_16_bits
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import extract

RANDOM = np.random.default_rng(7)


def voice(seconds: float = 2.0) -> Samples:
    return (0.1 * RANDOM.standard_normal(int(seconds * 16_000))).astype(np.float32)


def level(samples: Samples) -> float:
    return loudness(levels(samples))


def test_unrelated_channels_are_mixed_with_equal_weights() -> None:
    left, right = voice(), voice()
    mix = mixed(np.stack([left, right], axis=1), weights(2, "stereo"))
    assert not mix.rescued
    assert np.allclose(mix.samples, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_opposite_channels_do_not_cancel_the_voice(noise: float) -> None:
    said = voice()
    block = np.stack([said + noise * voice(), -said + noise * voice()], axis=1)
    mix = mixed(block, weights(2, "stereo"))
    assert mix.rescued
    assert level(mix.samples) == pytest.approx(level(said), abs=0.5)


@pytest.mark.parametrize("channel", range(6))
def test_voice_on_any_channel_of_six_is_heard(channel: int) -> None:
    said = voice()
    block = np.zeros((len(said), 6), np.float32)
    block[:, channel] = said
    for layout in ("", "5.1", "5.1(side)"):
        assert level(mixed(block, weights(6, layout)).samples) > level(said) - 17


def test_declared_surround_prefers_the_centre() -> None:
    shares = weights(6, "5.1(side)")
    assert sum(shares) == pytest.approx(1)
    assert shares[2] == max(shares)
    assert shares[3] == 0


@pytest.mark.parametrize("layout", ["", "6 channels", "hexagonal", "7.1"])
def test_guessed_layouts_have_equal_weights(layout: str) -> None:
    assert set(weights(6, layout)) == {1 / 6}


def test_audio_at_a_normal_level_is_not_amplified() -> None:
    assert gain_steps(level(voice())) == 0
    assert gain_steps(loudness(np.zeros(100, np.float32))) == 0


def test_a_few_loud_words_in_hours_of_noise_prevent_a_gain() -> None:
    powers = np.full(360_000, 1e-7, np.float32)
    powers[1_000:1_040] = 0.01
    assert gain_steps(loudness(powers)) == 0


def test_a_few_words_in_hours_of_silence_prevent_a_gain() -> None:
    powers = np.zeros(360_000, np.float32)
    powers[1_000:1_010] = 0.01
    assert gain_steps(loudness(powers)) == 0


@pytest.mark.parametrize("attenuation", [24, 48, 60])
def test_gain_raises_quiet_audio_to_a_normal_level(attenuation: int) -> None:
    quiet = voice() * np.float32(10 ** (-attenuation / 20))
    steps = gain_steps(level(quiet))
    amplified = to_16_bits(quiet, steps).astype(np.float32) / np.float32(32_768)
    assert -30 < level(amplified) < -19
    assert np.abs(amplified).max() < 1


def test_a_damaged_float_does_not_overflow(ffmpeg: str, tmp_path: Path) -> None:
    values = np.full(16_000, 0.1, "<f4")
    values[8_000:8_100] = 1e38
    raw = tmp_path / "a.raw"
    values.tofile(raw)
    wav = recordings.make(tmp_path / "a.wav", "-f", "f32le", "-ar", "16000", "-i", str(raw), "-c:a", "pcm_f32le")
    with np.errstate(over="raise"):
        made = extract(wav, tmp_path / "a.flac", ffmpeg)
    assert made.level_db is not None
    assert np.isfinite(made.level_db)
