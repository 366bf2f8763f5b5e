"""Windows of a recording: as planned from its voiced regions, and as decoded (stored as a checkpoint)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, segment_from


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """Window [start, end) of a channel, in seconds of the recording; its regions count from the window's start.

    `unexplained` are active regions in which VAD finds no speech.
    """

    start: float
    end: float
    voiced: tuple[Region, ...] = ()
    unexplained: tuple[Region, ...] = ()

    @property
    def length(self) -> float:
        """Duration in seconds."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """Recognition result for [start, end) seconds of the recording; times count from the recording's start.

    `languages` maps each language to its votes, in voiced seconds. `wall_s`: seconds that decoding took.
    """

    start: float
    end: float
    segments: tuple[Segment, ...] = ()
    voiced: tuple[Region, ...] = ()
    languages: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0

    def to_json(self) -> bytes:
        """Return the window as JSON in UTF-8; `from_json` restores an equal window."""
        return json.dumps(asdict(self), ensure_ascii=False).encode(errors="backslashreplace")


def from_json(data: bytes) -> DecodedWindow:
    """Parse the output of `DecodedWindow.to_json`.

    Raises:
        ValueError: the data is not JSON, or a field is missing or of the wrong type.

    """
    try:
        document = json.loads(data)
        return DecodedWindow(
            start=document["start"],
            end=document["end"],
            segments=tuple(segment_from(item) for item in document["segments"]),
            voiced=tuple(Region(**item) for item in document["voiced"]),
            languages=document["languages"],
            wall_s=document["wall_s"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged window: {error!r}") from error
