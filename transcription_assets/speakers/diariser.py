"""The protocol of a diariser, and the values that it takes and returns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Span
from transcription_assets.speech import Samples


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and most speakers of a recording; 0 stands for any number."""

    least: int = 0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Diarisation:
    """Turns in order of start (seconds), and a voiceprint (unit vector) for each label.

    Labels are "1", "2" and so on, in the order in which the speakers first speak. Where several speak at once, each has
    a turn of its own that is marked as overlap.
    """

    turns: tuple[Turn, ...] = ()
    voiceprints: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


SAME_VOICE: Mapping[str, float] = {"campplus-segmentation": 0.6}
"""Least cosine of two voiceprints of which one suggests the other's person, by model; see docs/benchmarks/speakers.md.
No other model has been measured, so that its voices suggest nobody."""


def same_voice(model: str) -> float | None:
    """Return the least cosine of voiceprints of this model (name and revision) for a suggestion, None if unknown."""
    return SAME_VOICE.get(model.partition("@")[0])


def silent(_seconds: float) -> None:
    """Ignore progress."""


class Diariser(Protocol):
    """Finds out who speaks when."""

    @property
    def model(self) -> str:
        """Name and revision of the weights; voiceprints of two models cannot be compared."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Options that affect the turns, as values for JSON."""
        ...

    def diarise(
        self,
        blocks: Iterable[Samples],
        voiced: Sequence[Span],
        bounds: Bounds,
        progress: Callable[[float], None] = silent,
    ) -> Diarisation:
        """Return who speaks when in the samples of one channel (mono, 16 kHz).

        `voiced` are its spans with speech by voice activity detection, in order; nobody speaks where there is none.
        `progress` is called with the seconds that are done.

        Raises:
            PermanentFailure: the weights cannot be loaded.
            Exception: any exception of the iterable `blocks`.

        """
        ...
