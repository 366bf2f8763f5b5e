"""Mixing of channels to mono without losing a voice, and measurement of loudness."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcription_assets.media.ffmpeg_process import SAMPLE_RATE

FRAME = SAMPLE_RATE // 10
"""Number of samples over which loudness is measured (0.1 s)."""

SILENT_DB = -90.0
"""Level below which there is only the rounding error of 16-bit samples."""

_CANCELLED = 0.25  # of the power that uncorrelated channels would give: -6 dB
_TOO_QUIET_DB, _TARGET_DB = -35.0, -23.0
_STEP_DB = 20 * np.log10(2)
_MOST_STEPS = 10

Samples = NDArray[np.float32]


def weights(channels: int, layout: str) -> tuple[float, ...]:
    """Return the weight of each channel in the mix; the weights add up to 1.

    For a declared surround `layout` such as `5.1(side)`, the centre channel, which has the dialogue, is 3 dB louder,
    the surround channels are 3 dB quieter, and the LFE channel is left out. Otherwise all weights are equal.
    """
    surround = re.match(r"(\d)\.([01])\b", layout)
    if not surround or int(surround[1]) + int(surround[2]) != channels or channels < 3:  # noqa: PLR2004 -- FL, FR, ...
        return (1 / channels,) * channels
    full, effects = int(surround[1]), int(surround[2])
    centre = 1 if full >= 3 else 0  # noqa: PLR2004 -- FL, FR, FC
    rest = full - 2 - centre
    shares = [1.0, 1.0, *[2**0.5] * centre, *[0.0] * effects, *[0.5**0.5] * rest]
    return tuple(share / sum(shares) for share in shares)


@dataclass(frozen=True, slots=True)
class Mix:
    """One block mixed to mono; `rescued` is True if the ordinary mix would have cancelled the channels."""

    samples: Samples
    rescued: bool


def mixed(block: Samples, shares: Sequence[float]) -> Mix:
    """Mix a block of shape (samples, channels) to mono; channels of opposite phase are inverted first."""
    if block.shape[1] == 1:
        return Mix(block[:, 0], rescued=False)
    usual = _sum(block, shares)
    power = np.mean(np.square(block, dtype=np.float64), axis=0)
    equal = 1 / block.shape[1]
    unrelated = float(power.sum()) * equal**2
    if unrelated <= _power(SILENT_DB) or float(np.mean(np.square(usual, dtype=np.float64))) >= _CANCELLED * unrelated:
        return Mix(usual, rescued=False)
    loudest = block[:, int(power.argmax())]
    signs = [-equal if float(np.dot(loudest, block[:, number])) < 0 else equal for number in range(block.shape[1])]
    return Mix(_sum(block, signs), rescued=True)


def _sum(block: Samples, shares: Sequence[float]) -> Samples:
    """Add up the weighted channels one by one: unlike a matrix product, this gives the same bits on every machine."""
    total = np.zeros(len(block), np.float32)
    for number, share in enumerate(shares):
        if share:
            total += block[:, number] * np.float32(share)
    return total


def levels(block: Samples) -> NDArray[np.float32]:
    """Return the mean power of the loudest channel in each 0.1 s of a block; the last frame may be shorter.

    The block has the shape (samples,) or (samples, channels).
    """
    channels = block.reshape(len(block), -1)
    square = np.square(channels, dtype=np.float64)
    starts = np.arange(0, len(block), FRAME)
    counts = np.diff(np.append(starts, len(block)))
    means: NDArray[np.float64] = np.add.reduceat(square, starts, axis=0) / counts[:, None]
    loudest: NDArray[np.float32] = means.max(axis=1).astype(np.float32)
    return loudest


def loudness(powers: NDArray[np.float32]) -> float:
    """Return the lowest level (dBFS) of the loudest hundredth of the frames that are not silent, -inf if all are.

    The hundredth is at least 0.4 s and at most 3 s, so that a few clear words in hours of noise decide and a few clicks
    do not.
    """
    audible = powers[powers > _power(SILENT_DB)]
    if not len(audible):
        return -np.inf
    rank = min(max(len(audible) // 100, 4), 30, len(audible))
    return 10 * float(np.log10(np.partition(audible, len(audible) - rank)[len(audible) - rank]))


def gain_steps(level: float) -> int:
    """Return the number of doublings (6 dB each) that voice activity detection needs at this loudness, usually 0."""
    if not SILENT_DB < level < _TOO_QUIET_DB:
        return 0
    return min(int((_TARGET_DB - level) // _STEP_DB), _MOST_STEPS)


def decibels(steps: int) -> float:
    """Return the gain of this number of doublings, in dB."""
    return round(steps * float(_STEP_DB), 1)


def _power(level: float) -> float:
    return float(10 ** (level / 10))
