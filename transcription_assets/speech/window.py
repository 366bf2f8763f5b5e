"""A window of a recording that is done: what is kept in the store until the whole recording is done."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from transcription_assets.chunks import Region
from transcription_assets.transcript import Segment, segment_from


@dataclass(frozen=True, slots=True)
class Window:
    """What was heard in [start, end) seconds of the recording; times count from the start of the recording.

    `languages` maps each language to the voiced seconds that speak for it.
    """

    start: float
    end: float
    segments: tuple[Segment, ...] = ()
    voiced: tuple[Region, ...] = ()
    languages: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """UTF-8; `from_json` gives an equal window back."""
        return json.dumps(asdict(self), ensure_ascii=False).encode(errors="backslashreplace")


def from_json(data: bytes) -> Window:
    """Read what `Window.to_json` wrote; raises ValueError, KeyError or TypeError for anything else."""
    document = json.loads(data)
    return Window(
        start=document["start"],
        end=document["end"],
        segments=tuple(segment_from(item) for item in document["segments"]),
        voiced=tuple(Region(**item) for item in document["voiced"]),
        languages=document["languages"],
    )
