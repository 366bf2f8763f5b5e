"""Where somebody speaks: Silero's detector, whose weights come with faster-whisper."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from transcription_assets import chunks
from transcription_assets.chunks import Region
from transcription_assets.speech.engine import SAMPLE_RATE, Samples

FRAMES_AT_ONCE = 500
"""16 s. faster-whisper gives the detector five minutes at once: 0.2 GB more for a window, and a tenth more time."""


def voiced_regions(samples: Samples) -> list[Region]:
    """The stretches in which somebody speaks, none longer than a chunk."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    _made_small()
    options = VadOptions(max_speech_duration_s=chunks.CHUNK_S, min_silence_duration_ms=160)
    found = get_speech_timestamps(samples, options)
    return [Region(item["start"] / SAMPLE_RATE, item["end"] / SAMPLE_RATE) for item in found]


@cache
def _made_small() -> None:
    """Put the pieces between faster-whisper's detector and its network, once in a process."""
    from faster_whisper.vad import get_vad_model

    detector = get_vad_model()
    detector.session = Pieces(detector.session)


class Pieces:
    """The network (an ONNX session) given few frames at a time; its state goes from each piece to the next."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """As the session's: the probability of a voice in each frame, and the two states after the last."""
        frames, h, c = inputs["input"], inputs["h"], inputs["c"]
        found = []
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            piece = frames[first : first + FRAMES_AT_ONCE]
            voices, h, c = self._network.run(outputs, {"input": piece, "h": h, "c": c})
            found.append(voices)
        return np.concatenate(found), h, c
