"""What an engine is asked and what it answers: values and a protocol, no model."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transcription_assets.speech.window import Window
from transcription_assets.transcript import Segment, Speech, SpeechModel

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000
CHANNELS = ("left", "right")
"""What the speakers of a recording of two channels are called."""

Task = Literal["transcribe", "translate"]
Speakers = Literal["mixed", "channels"]
Place = tuple[int, int]
"""Channel and number of a window."""


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """What changes the words: kept in every transcript, and a change of it makes older transcripts stale."""

    language: str = ""
    """Code that Whisper knows; empty = detected, and followed where it changes inside a recording."""
    beam_size: int = 5
    task: Task = "transcribe"
    """`translate` writes down in English what is said in any language."""
    speakers: Speakers = "mixed"
    """`channels`: each of the two channels of a recording is decoded by itself and is one speaker."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _silent(_seconds: float) -> None:
    """Progress that nobody watches."""


class Kept(Protocol):
    """Where windows that are done are kept until the recording is; a dict will do."""

    def get(self, place: Place, /) -> Window | None:
        """The window at this place, if it is kept."""
        ...

    def __setitem__(self, place: Place, window: Window, /) -> None:
        """Keep it."""
        ...


@dataclass(frozen=True, slots=True)
class Sound:
    """One recording to hear: `read(channel, start)` gives its samples (mono, 16 kHz) from a second on.

    `kept` holds the windows that are done, so that a killed run goes on where it was; by default nobody keeps them.
    `vocabulary` are names and words to expect. `progress` gets the seconds done so far.
    """

    read: Callable[[int, float], Iterable[Samples]]
    channels: int = 1
    vocabulary: tuple[str, ...] = ()
    kept: Kept = field(default_factory=dict[Place, Window])
    progress: Callable[[float], None] = _silent


def sound(blocks: Iterable[Samples]) -> Sound:
    """A sound that can be read once, from its start."""
    return Sound(lambda _channel, _start: blocks)


@dataclass(frozen=True, slots=True)
class Heard:
    """What an engine heard in one recording; times in seconds from its start.

    `languages` maps each language to its share of the voiced time; `language` is the first of them, by share.
    """

    segments: tuple[Segment, ...]
    language: str
    language_probability: float
    duration: float
    speech: Speech
    languages: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    """Seconds that it took; of those in which several were decoded together, its share."""


class Engine(Protocol):
    """Anything that turns sound into timed words."""

    @property
    def model(self) -> SpeechModel:
        """What is recorded beside every transcript."""
        ...

    @property
    def options(self) -> SpeechOptions:
        """What is recorded beside every transcript."""
        ...

    def hear(self, sounds: Iterable[Sound]) -> Iterator[Heard | Exception]:
        """One answer for each sound, in their order; what went wrong with one stands in its place.

        The next sound is asked for only when the one before is read to its end, so that many short ones can be
        decoded together.
        """
        ...


def hear_one(engine: Engine, one: Sound) -> Heard:
    """The answer for a single sound; what went wrong is raised."""
    (answer,) = engine.hear([one])
    if isinstance(answer, Exception):
        raise answer
    return answer
