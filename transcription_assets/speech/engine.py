"""The protocol of a speech recognition engine, and the values that it takes and returns."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.transcript import Segment, Speech, SpeechModel
from transcription_assets.speech.decoded_window import DecodedWindow

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000
CHANNELS = ("left", "right")
"""Speaker names for a recording with one speaker per channel."""

Task = Literal["transcribe", "translate"]
Speakers = Literal["mixed", "channels"]
WindowId = tuple[int, int]
"""Channel and index of a window, from 0."""


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


def _silent(_seconds: float) -> None:
    """Ignore progress."""


class CheckpointStore(Protocol):
    """Storage for the checkpoints of a recording, which are finished windows; a dict is sufficient."""

    def get(self, place: WindowId, /) -> DecodedWindow | None:
        """Return the checkpoint, None if there is none.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        ...

    def __setitem__(self, place: WindowId, window: DecodedWindow, /) -> None:
        """Store the checkpoint.

        Raises:
            TranscriptionError: the store denies access, is full or does not answer.

        """
        ...


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Audio of one recording; `read(channel, start)` returns blocks of samples (mono, 16 kHz) from `start` seconds.

    `checkpoints` stores finished windows, so that a killed run can resume; by default in memory only. `vocabulary` are
    names and words to expect. `progress` is called with the seconds done so far.
    """

    read: Callable[[int, float], Iterable[Samples]]
    channels: int = 1
    vocabulary: tuple[str, ...] = ()
    checkpoints: CheckpointStore = field(default_factory=dict[WindowId, DecodedWindow])
    progress: Callable[[float], None] = _silent


def audio_source(blocks: Iterable[Samples]) -> AudioSource:
    """Return an `AudioSource` with one channel that can be read once, from its start."""
    return AudioSource(lambda _channel, _start: blocks)


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
    """Wall time in seconds; a share of it while several recordings were decoded together."""


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

    def transcribe(self, sounds: Iterable[AudioSource]) -> Iterator[SpeechResult | Exception]:
        """Yield one result for each sound, in the same order; a failure is yielded as an exception in its place.

        The next sound is requested only when the previous one was read to its end. Results may be delayed, so that many
        short sounds can be decoded together.

        Raises:
            Exception: any exception of the iterable `sounds` itself.

        """
        ...


def transcribe_one(engine: Engine, one: AudioSource) -> SpeechResult:
    """Return the result of a single sound.

    Raises:
        Exception: the failure that the engine yielded for it.

    """
    (answer,) = engine.transcribe([one])
    if isinstance(answer, Exception):
        raise answer
    return answer
