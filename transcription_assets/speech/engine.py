"""The protocol of a speech recognition engine, and the values that it takes and returns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.transcript import Segment, Speech, SpeechModel
from transcription_assets.speech.windows import DecodedWindow, PlannedWindow

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000
CHANNELS = ("left", "right")
"""Speaker names for a recording with one speaker per channel."""

Task = Literal["transcribe", "translate"]
Speakers = Literal["mixed", "channels"]


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """Options that affect the words; stored in every transcript, so that a change makes older ones outdated."""

    language: str = ""
    """Language code of Whisper; if empty, languages and changes between them are detected."""
    beam_size: int = 5
    task: Task = "transcribe"
    """`translate` outputs English for any spoken language."""
    speakers: Speakers = "mixed"
    """`channels`: the two channels of a recording are decoded separately, each as one speaker."""

    def as_dict(self) -> dict[str, Any]:
        """Return the options as values for JSON."""
        return asdict(self)


def silent(_share: float) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Audio of one recording; `read(channel, start)` returns blocks of samples (mono, 16 kHz) from `start` seconds.

    It is read several times: once to plan its windows, then each window. `vocabulary` are names and words to expect.
    """

    read: Callable[[int, float], Iterable[Samples]]
    channels: int = 1
    vocabulary: tuple[str, ...] = ()


def audio_source(samples: Samples) -> AudioSource:
    """Return an `AudioSource` with one channel from samples in memory (mono, 16 kHz)."""
    return AudioSource(lambda _channel, start: [samples[round(start * SAMPLE_RATE) :]])


@dataclass(frozen=True, slots=True)
class WindowTask:
    """A window to decode: its plan, its samples (mono, 16 kHz), and the vocabulary of its recording.

    Windows of the same `recording` that are decoded together share what was found about its languages.
    """

    recording: str
    plan: PlannedWindow
    samples: Samples
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeechResult:
    """Recognition result of one recording; times in seconds from its start.

    `languages` maps each language to its share of the voiced time, the largest first; `language` is the first of them.
    """

    segments: tuple[Segment, ...]
    language: str
    language_probability: float
    duration: float
    speech: Speech
    languages: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    """Seconds of decoding; a share of them while several recordings were decoded together."""


class Engine(Protocol):
    """A speech recognition engine with word times."""

    @property
    def model(self) -> SpeechModel:
        """Model stored in every transcript."""
        ...

    @property
    def options(self) -> SpeechOptions:
        """Options stored in every transcript."""
        ...

    def load(self) -> None:
        """Load the weights now instead of with the first window.

        Raises:
            Exception: they cannot be loaded; `decode` returns the same exception for every window.

        """
        ...

    def with_options(self, options: SpeechOptions) -> "Engine":
        """Return an engine with the same weights and other options.

        Raises:
            Exception: the weights cannot be loaded, or the model does not support the options (PermanentFailure).

        """
        ...

    @property
    def group_s(self) -> float:
        """Seconds of audio to decode together: more makes batches more even, but a kill loses all of it."""
        ...

    @property
    def parallel(self) -> int:
        """Number of batches that it decodes at once."""
        ...

    def decode(
        self, windows: Sequence[WindowTask], progress: Callable[[float], None] = silent, parallel: int = 0
    ) -> list[DecodedWindow | Exception]:
        """Return one result for each window, in the same order; a failure is returned as an exception in its place.

        The result of a window depends only on the windows that are decoded together with it, and on `parallel`.

        Args:
            windows: Windows to decode together.
            progress: Called with the share (0 to 1) of the windows that is decoded.
            parallel: Number of parallel batches for which the windows are divided evenly, 0 for that of this engine.
                Engines that decode parts of the same recordings take the same number.

        """
        ...
