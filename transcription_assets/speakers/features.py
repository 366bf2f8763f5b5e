"""Log mel features as Kaldi computes them, which the voice network was trained with."""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from transcription_assets.speech import SAMPLE_RATE

if TYPE_CHECKING:
    from torch import Tensor

MELS = 80
FRAME = 400
"""Samples of a frame: 25 ms."""
HOP = 160
"""Samples between frames: 10 ms."""
_FFT = 512
_LOWEST_HZ = 20.0
_EMPHASIS = 0.97
_FLOOR = 1.1920928955078125e-07


def log_mels(samples: "Tensor") -> "Tensor":
    """Return the log mel features of samples in [-1, 1], shape (frames, 80); none for less than a frame."""
    import torch

    if len(samples) < FRAME:
        return torch.empty(0, MELS)
    frames = samples.unfold(0, FRAME, HOP)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    window, mels = _tables()
    spectrum = torch.fft.rfft((frames - _EMPHASIS * before) * window, _FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    found: Tensor = (power @ mels).clamp_min(_FLOOR).log()
    return found


@cache
def _tables() -> tuple["Tensor", "Tensor"]:
    """Return Povey's window (400,) and the mel filters (257, 80)."""
    import torch

    window = torch.hann_window(FRAME, periodic=False, dtype=torch.float64).pow(0.85).float()
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(SAMPLE_RATE / 2), MELS + 2)
    bins = _mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[-1] = 0.0  # Kaldi leaves out the bin at half the sample rate
    return window, torch.from_numpy(filters.astype(np.float32))


def _mel(hertz: float | np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0))
