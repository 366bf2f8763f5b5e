"""Events as receivers get them: CloudEvents 1.0 in JSON."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from transcription_assets.events.occurrences import Occurrence
from transcription_assets.pipeline.quality_checks import CheckResult

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
SOURCE = "transcription-assets"

EventType = Literal[
    "recording.done",
    "recording.doubtful",
    "recording.failed",
    "source.failed",
    "source.recovered",
    "backlog.stuck",
    "backlog.recovered",
    "test",
]
TYPES: tuple[EventType, ...] = tuple(each for each in get_args(EventType) if each != "test")
FAILURES: frozenset[EventType] = frozenset({"recording.failed", "source.failed", "backlog.stuck"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` stays the same however often it is sent, and sorts by time.

    `subject` is a media key, the name of a source, or `source/identity` of one of its items. `sequence` counts the
    events of a subject from 1. `data` holds values for JSON.
    """

    id: str
    type: EventType
    subject: str
    time: str
    sequence: int
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_recovery(self) -> bool:
        """True if what it is about had failed before."""
        return bool(self.data.get("recovered"))

    def cloud_event(self, source: str = SOURCE) -> dict[str, Any]:
        """Return the CloudEvent; `source` says which installation it comes from."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time,
            "sequence": f"{self.sequence:010}",  # the extension compares it as text
            "datacontenttype": "application/json",
            "data": self.data,
        }


@dataclass(frozen=True, slots=True)
class Description:
    """Summary of a finished recording: figures of its transcript, and the checks that warn."""

    duration: float = 0.0
    language: str = ""
    words: int = 0
    warnings: tuple[CheckResult, ...] = ()


def event_of(
    identifier: str, occurrence: Occurrence, sequence: int, description: Description, *, recovered: bool
) -> Event:
    """Return the event of an occurrence that changed the state of its subject."""
    data: dict[str, Any] = (
        {"recovered": recovered}
        if occurrence.succeeded
        else {
            "reason": occurrence.reason,
            "transient": occurrence.transient,
        }
    )
    kind: EventType
    if occurrence.kind == "recording":
        data |= {"key": occurrence.name, "etag": occurrence.version}
        kind = "recording.failed"
        if occurrence.succeeded:
            kind = "recording.doubtful" if description.warnings else "recording.done"
            data |= {
                "duration": description.duration,
                "language": description.language,
                "words": description.words,
                "warnings": [{"check": each.name, "description": each.description} for each in description.warnings],
            }
        else:
            data["step"] = occurrence.step
    elif occurrence.kind == "backlog":
        kind = "backlog.recovered" if occurrence.succeeded else "backlog.stuck"
    else:
        kind = "source.recovered" if occurrence.succeeded else "source.failed"
        source, _, item = occurrence.name.partition("/")
        data |= {"source": source} | ({"item": occurrence.title or item} if item else {})
    return Event(identifier, kind, occurrence.name, occurrence.at, sequence, data)
