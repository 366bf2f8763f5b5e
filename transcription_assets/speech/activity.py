"""Sound that stands out of the background by its energy: an opinion independent of the voice detector."""

import numpy as np
from numpy.typing import NDArray

from transcription_assets import chunks
from transcription_assets.chunks import Region
from transcription_assets.speech.engine import SAMPLE_RATE, Samples

FRAME = 512
"""Samples in a frame: 32 ms."""
FLOOR_S = 10.0
"""The background is measured anew in each so many seconds."""
FLOOR_SHARE = 10
"""Per cent of the frames of such a block that are background even while somebody speaks: the pauses."""
ABOVE_FLOOR_DB = 12.0
QUIETEST_DB = -95.0
"""Full scale is 0. Below this lies the rounding of 16 bits."""
SHORT_PAUSE_S = 1.5
"""Between two phrases; a longer pause parts active regions."""
MARGIN_S = 0.5
"""What lies so close to a voice is its breath or echo."""


def active_regions(samples: Samples) -> list[Region]:
    """Return the stretches that are clearly louder than the background around them."""
    levels = _levels(samples)
    if not len(levels):
        return []
    active = levels > np.maximum(_floor(levels) + ABOVE_FLOOR_DB, QUIETEST_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]))).reshape(-1, 2)
    frame_s = FRAME / SAMPLE_RATE
    return chunks.joined((Region(start * frame_s, end * frame_s) for start, end in edges.tolist()), SHORT_PAUSE_S)


def unexplained(samples: Samples, voiced: list[Region]) -> list[Region]:
    """Return the active regions, longer than a hole may be, in which the voice detector found nobody."""
    explained = chunks.joined((Region(item.start - MARGIN_S, item.end + MARGIN_S) for item in voiced), 0.0)
    left = chunks.uncovered(active_regions(samples), explained)
    return [region for region in left if region.length > chunks.HOLE_S]


def _levels(samples: Samples) -> NDArray[np.float32]:
    """Return the level of each frame in dB, of the difference between neighbouring samples: hum counts little."""
    frames = len(samples) // FRAME
    if not frames:
        return np.empty(0, np.float32)
    sharp = np.diff(samples[: frames * FRAME], prepend=samples[:1]).reshape(frames, FRAME)
    levels: NDArray[np.float32] = 10 * np.log10(np.square(sharp).mean(axis=1) + 1e-12)
    return levels


def _floor(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the background level around each frame, in dB."""
    block = int(FLOOR_S * SAMPLE_RATE) // FRAME
    starts = range(0, len(levels), block)
    # The last block is as long as the others: a word at the very end would be its own background.
    floors = [np.percentile(levels[max(0, min(at, len(levels) - block)) :][:block], FLOOR_SHARE) for at in starts]
    return np.repeat(np.asarray(floors, np.float32), block)[: len(levels)]
