"""Activity detection by energy above the background, independent of voice activity detection (VAD)."""

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain import chunking
from transcription_assets.domain.chunking import Region
from transcription_assets.speech.engine import SAMPLE_RATE, Samples

FRAME = 512
"""Samples per frame: 32 ms."""
FLOOR_S = 10.0
"""Length of the blocks for which the background level is estimated."""
FLOOR_SHARE = 10
"""Percentile of the levels in a block that is its background level: even speech has this share of pauses."""
ABOVE_FLOOR_DB = 12.0
QUIETEST_DB = -95.0
"""Lowest level of activity, full scale being 0; quantisation noise of 16 bits is below it."""
SHORT_PAUSE_S = 1.5
"""Longest pause between two phrases; a longer one separates active regions."""
MARGIN_S = 0.5
"""Activity within this distance of a voiced region is breath or echo."""


def active_regions(samples: Samples) -> list[Region]:
    """Return the regions that are at least ABOVE_FLOOR_DB louder than the background around them."""
    levels = _levels(samples)
    if not len(levels):
        return []
    active = levels > np.maximum(_floor(levels) + ABOVE_FLOOR_DB, QUIETEST_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]))).reshape(-1, 2)
    frame_s = FRAME / SAMPLE_RATE
    return chunking.merge_regions(
        (Region(start * frame_s, end * frame_s) for start, end in edges.tolist()), SHORT_PAUSE_S
    )


def unexplained(samples: Samples, voiced: list[Region]) -> list[Region]:
    """Return active regions outside `voiced`, the regions of VAD, that are long enough for a gap."""
    explained = chunking.merge_regions((Region(item.start - MARGIN_S, item.end + MARGIN_S) for item in voiced), 0.0)
    left = chunking.uncovered(active_regions(samples), explained)
    return [region for region in left if region.length > chunking.LONGEST_WORDLESS_S]


def _levels(samples: Samples) -> NDArray[np.float32]:
    """Return the level of each frame in dB, measured on sample differences to attenuate hum; shape (frames,)."""
    frames = len(samples) // FRAME
    if not frames:
        return np.empty(0, np.float32)
    sharp = np.diff(samples[: frames * FRAME], prepend=samples[:1]).reshape(frames, FRAME)
    levels: NDArray[np.float32] = 10 * np.log10(np.square(sharp).mean(axis=1) + 1e-12)
    return levels


def _floor(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the background level around each frame in dB, shape (frames,)."""
    block = int(FLOOR_S * SAMPLE_RATE) // FRAME
    starts = range(0, len(levels), block)
    # The last block has full length: a word in a short block at the end would be its own background.
    floors = [np.percentile(levels[max(0, min(at, len(levels) - block)) :][:block], FLOOR_SHARE) for at in starts]
    return np.repeat(np.asarray(floors, np.float32), block)[: len(levels)]
