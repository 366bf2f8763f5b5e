"""Voice activity detection: Silero's network, whose weights come with faster-whisper, run with two kinds of state.

Silero carries a recurrent state along. After some ten seconds of steady noise that state is deaf: speech that a fresh
state finds at once stays below the threshold for seconds. So every stretch in which the carried state hears nobody is
looked at again in short blocks, each from a fresh state, and the higher probability counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcription_assets import chunks
from transcription_assets.chunks import Region
from transcription_assets.speech.engine import SAMPLE_RATE, Samples

FRAMES_AT_ONCE = 500
"""16 s. faster-whisper gives the detector five minutes at once: 0.2 GB more for a window, and a tenth more time."""
THRESHOLD = 0.5
"""Silero's own: frames at least this probable begin a voiced region."""
QUIET_FRAMES = 31
"""1 s: only longer runs below the threshold are looked at again; breaths between sentences are not."""
BLOCK_FRAMES = 125
"""4 s: well below the ten seconds of noise after which a state is deaf."""
WARM_UP_FRAMES = 31
"""1 s before each block, so that a voice at its beginning does not meet an empty state."""

Probabilities = NDArray[np.float32]

_replacing = Lock()


def voiced_regions(samples: Samples) -> list[Region]:
    """Return the stretches in which somebody speaks, none longer than a chunk."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    _replace_session()
    options = VadOptions(threshold=THRESHOLD, max_speech_duration_s=chunks.CHUNK_S, min_silence_duration_ms=160)
    found = get_speech_timestamps(samples, options)
    return [Region(item["start"] / SAMPLE_RATE, item["end"] / SAMPLE_RATE) for item in found]


def _replace_session() -> None:
    """Put `Pieces` between faster-whisper's detector, which all threads share, and its network."""
    from faster_whisper.vad import get_vad_model

    with _replacing:
        detector = get_vad_model()
        if not isinstance(detector.session, Pieces):
            detector.session = Pieces(detector.session)


class Pieces:
    """An ONNX session for Silero's network that takes few frames at a time and distrusts a carried state."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return the probability of a voice in each frame, and the two states after the last, as the session does."""
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
    """Yield [first, last) of the blocks of frames that a fresh state has to look at: all that seems long and quiet."""
    quiet = np.concatenate([[False], probabilities < THRESHOLD, [False]])
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
    for first, last in edges.tolist():
        if last - first <= QUIET_FRAMES:
            continue
        for start in range(first, last, BLOCK_FRAMES):
            yield start, min(start + BLOCK_FRAMES, last)
