"""Voice activity detection (VAD) with Silero's network, whose weights are part of faster-whisper.

Silero's network is recurrent. After some ten seconds of steady noise, its state suppresses speech: probabilities stay
below the threshold for seconds where an empty state detects speech at once. So every longer stretch below the
threshold is processed again in short blocks, each from an empty state, and the higher probability is used.

Its result is checked by a detector that is independent of it: energy above the background (`unexplained`).
"""

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain import chunking
from transcription_assets.domain.chunking import Region
from transcription_assets.speech.engine import SAMPLE_RATE, Samples

FRAMES_AT_ONCE = 500
"""16 s. faster-whisper passes five minutes at once, which takes 0.2 GB and 10 % more time for a window."""
THRESHOLD = 0.5
"""Silero's default: frames with at least this probability start a voiced region."""
QUIET_FRAMES = 31
"""1 s: only longer runs below the threshold are processed again, so breaths between sentences are not."""
BLOCK_FRAMES = 125
"""4 s: well below the ten seconds of noise after which a state suppresses speech."""
WARM_UP_FRAMES = 31
"""1 s before each block, so that the state is no longer empty if speech starts with the block."""

Probabilities = NDArray[np.float32]

_replacing = Lock()

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


def voiced_regions(samples: Samples) -> list[Region]:
    """Return the voiced regions of `samples` (mono, 16 kHz), none longer than a chunk.

    Digital silence is not processed: recorders pause and damaged timestamps jump for hours, which would take minutes.
    """
    if not samples.any():
        return []
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    _replace_session()
    options = VadOptions(threshold=THRESHOLD, max_speech_duration_s=chunking.CHUNK_S, min_silence_duration_ms=160)
    found = get_speech_timestamps(samples, options)
    return [Region(item["start"] / SAMPLE_RATE, item["end"] / SAMPLE_RATE) for item in found]


def _replace_session() -> None:
    """Wrap the network of faster-whisper's detector, which all threads share, in `Pieces`."""
    from faster_whisper.vad import get_vad_model

    with _replacing:
        detector = get_vad_model()
        if not isinstance(detector.session, Pieces):
            detector.session = Pieces(detector.session)


class Pieces:
    """ONNX session of Silero's network that processes few frames at a time, and quiet stretches from an empty state."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return the speech probability of each frame and the two states after the last, as the wrapped session."""
        frames, h, c = inputs["input"], inputs["h"], inputs["c"]
        found = []
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            piece = frames[first : first + FRAMES_AT_ONCE]
            voices, h, c = self.network.run(outputs, {"input": piece, "h": h, "c": c})
            found.append(voices)
        carried = np.concatenate(found)
        return self._with_fresh_states(outputs, frames, carried), h, c

    def _with_fresh_states(self, outputs: Sequence[str] | None, frames: Any, carried: Any) -> Any:
        combined = np.array(carried)
        empty = np.zeros((1, 1, 128), np.float32)
        for first, last in blocks(combined.reshape(-1)):
            start = max(0, first - WARM_UP_FRAMES)
            fresh, _, _ = self.network.run(outputs, {"input": frames[start:last], "h": empty, "c": empty})
            combined[first:last] = np.maximum(combined[first:last], fresh[first - start :])
        return combined


def blocks(probabilities: Probabilities) -> Iterator[tuple[int, int]]:
    """Yield [first, last) of the blocks of frames to process from an empty state: runs over QUIET_FRAMES, in blocks."""
    quiet = np.concatenate([[False], probabilities < THRESHOLD, [False]])
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
    for first, last in edges.tolist():
        if last - first <= QUIET_FRAMES:
            continue
        for start in range(first, last, BLOCK_FRAMES):
            yield start, min(start + BLOCK_FRAMES, last)


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
