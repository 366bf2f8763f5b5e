"""The result of a finished window, stored as a checkpoint until the recording is finished."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, segment_from


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """Recognition result for [start, end) seconds of the recording; times count from its start.

    `languages` maps each language to its votes, in voiced seconds.
    """

    start: float
    end: float
    segments: tuple[Segment, ...] = ()
    voiced: tuple[Region, ...] = ()
    languages: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the window as JSON in UTF-8; `from_json` restores an equal window."""
        return json.dumps(asdict(self), ensure_ascii=False).encode(errors="backslashreplace")


def from_json(data: bytes) -> DecodedWindow:
    """Parse the output of `DecodedWindow.to_json`.

    Raises:
        ValueError: The data is not JSON, or a field is missing or of the wrong type.

    """
    try:
        document = json.loads(data)
        return DecodedWindow(
            start=document["start"],
            end=document["end"],
            segments=tuple(segment_from(item) for item in document["segments"]),
            voiced=tuple(Region(**item) for item in document["voiced"]),
            languages=document["languages"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged window: {error!r}") from error
