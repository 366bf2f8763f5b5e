"""Mix channels to one without losing a voice, and measure loudness."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcription_assets.media.source import SAMPLE_RATE

FRAME = SAMPLE_RATE // 10
"""Samples over which loudness is measured: 0.1 s."""

SILENT_DB = -90.0
"""Below it there is nothing but the rounding of 16 bits."""

_CANCELLED = 0.25  # of the power that unrelated channels would give: -6 dB
_TOO_QUIET_DB, _TARGET_DB = -35.0, -23.0
_STEP_DB = 20 * np.log10(2)
_MOST_STEPS = 10

Samples = NDArray[np.float32]


def weights(channels: int, layout: str) -> tuple[float, ...]:
    """Return the share of each channel in the mix; they add up to 1.

    `layout` is the name of a declared layout (`5.1(side)`): centre, where dialogue is, 3 dB louder, surrounds 3 dB
    quieter, no effects channel. All alike where it is empty or another one.
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
    """One block mixed to mono; `rescued` where the usual mix would have lost what the channels hold."""

    samples: Samples
    rescued: bool


def mixed(block: Samples, shares: Sequence[float]) -> Mix:
    """Mix a block of shape (samples, channels) to mono; channels of opposite phase are turned around first."""
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
    """Add up channel by channel: unlike a matrix product, that gives the same bits on every machine."""
    total = np.zeros(len(block), np.float32)
    for number, share in enumerate(shares):
        if share:
            total += block[:, number] * np.float32(share)
    return total


def levels(block: Samples) -> NDArray[np.float32]:
    """Return the mean power of each 0.1 s of a block of shape (samples,) or (samples, channels): the loudest channel's.

    A rest shorter than that counts as a frame of its own.
    """
    channels = block.reshape(len(block), -1)
    square = np.square(channels, dtype=np.float64)
    starts = np.arange(0, len(block), FRAME)
    counts = np.diff(np.append(starts, len(block)))
    means: NDArray[np.float64] = np.add.reduceat(square, starts, axis=0) / counts[:, None]
    loudest: NDArray[np.float32] = means.max(axis=1).astype(np.float32)
    return loudest


def loudness(powers: NDArray[np.float32]) -> float:
    """Return the level (dB of full scale) that the loudest hundredth of what is not silent reaches.

    At least 0.4 s of it, at most 3 s: a few clear words in hours of noise decide, a few clicks do not.
    """
    audible = powers[powers > _power(SILENT_DB)]
    if not len(audible):
        return -np.inf
    rank = min(max(len(audible) // 100, 4), 30, len(audible))
    return 10 * float(np.log10(np.partition(audible, len(audible) - rank)[len(audible) - rank]))


def gain_steps(level: float) -> int:
    """Return how often a recording of this loudness is doubled, so that a detector of voices hears it; 0 usually."""
    if not SILENT_DB < level < _TOO_QUIET_DB:
        return 0
    return min(int((_TARGET_DB - level) // _STEP_DB), _MOST_STEPS)


def decibels(steps: int) -> float:
    """Return the gain of so many doublings."""
    return round(steps * float(_STEP_DB), 1)


def _power(level: float) -> float:
    return float(10 ** (level / 10))
