"""Steady, reproducible background sounds without speech."""

import numpy as np

from transcription_assets.speech import SAMPLE_RATE, Samples


def brown(count: int) -> Samples:
    """Return brown noise (-6 dB per octave) at about -60 dB, like a quiet room."""
    steps = np.random.default_rng(11).normal(0, 1, count)
    spectrum = np.fft.rfft(steps)
    spectrum[1:] /= np.maximum(np.arange(1, len(spectrum)), 20 * count / SAMPLE_RATE)
    spectrum[0] = 0
    return _at(np.fft.irfft(spectrum, count), 0.001)


def white(count: int) -> Samples:
    """Return white noise."""
    return _at(np.random.default_rng(7).normal(0, 1, count), 0.003)


def hum(count: int) -> Samples:
    """Return a mains hum of 50 Hz with harmonics."""
    time = np.arange(count) / SAMPLE_RATE
    return _at(sum(np.sin(2 * np.pi * 50 * part * time) / part for part in (1, 2, 3, 6)), 0.01)


def silence(count: int) -> Samples:
    """Return digital silence."""
    return np.zeros(count, np.float32)


_MADE = {"brown": brown, "white": white, "hum": hum, "silence": silence}


def after(seconds: float, name: str, spoken: Samples) -> Samples:
    """Return `seconds` of background followed by `spoken` mixed with the same background."""
    first = int(seconds * SAMPLE_RATE)
    samples = _MADE[name](first + len(spoken))
    samples[first:] += spoken
    return samples


def telephone(samples: Samples, loudness: float, highest_hz: float = 3400.0) -> Samples:
    """Return `samples` limited to 100 Hz - `highest_hz` and scaled by `loudness`, like a faint telephone line."""
    spectrum, frequencies = np.fft.rfft(samples), np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum[(frequencies < 100.0) | (frequencies > highest_hz)] = 0
    faint: Samples = (np.fft.irfft(spectrum, len(samples)) * loudness).astype(np.float32)
    return faint


def _at(samples: Samples, level: float) -> Samples:
    """Scale to a root mean square of `level`."""
    scaled: Samples = (samples * (level / np.sqrt(np.square(samples).mean()))).astype(np.float32)
    return scaled
