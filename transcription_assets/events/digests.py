"""When channels get a message, and what it says: pure functions of the events that wait and the clock."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal

from transcription_assets.events.event import FAILURES, Event

MOST_EXAMPLES = 5
MOST_GROUPS = 20
MOST_LISTED = 50
MOST_CHARACTERS = 300
MOST_BODY = 8_000
_MENTION = re.compile(r"@(?=everyone|here|channel|room|all\b)|<(?=[!@#])", re.IGNORECASE)
"""Beginnings of what chat services read as a call to all members; names of files are chosen by strangers."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Schedule of the messages to a channel; `daily_at` is in UTC, None for no daily list."""

    every: timedelta
    daily_at: time | None


@dataclass(frozen=True, slots=True)
class Sent:
    """When the last message and the last daily list were sent; None for never."""

    message: datetime | None = None
    daily: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A subject that has failed and has not recovered, since `at` (ISO 8601)."""

    subject: str
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notification:
    """A message to a channel."""

    title: str
    body: str


Due = Literal["nothing", "events", "daily"]


def due(waiting: int, sent: Sent, pace: Pace, now: datetime) -> Due:
    """Return what to send now: the events that wait, or the daily list, which includes them.

    Events are sent at once if the last message is at least `pace.every` old, so that the first failure is; those
    that follow wait for that time, and are sent together.
    """
    if pace.daily_at is not None:
        today = datetime.combine(now.date(), pace.daily_at, now.tzinfo)
        latest = today if today <= now else today - timedelta(days=1)
        # A channel that is new gets its first list at the next such time.
        if sent.daily is not None and sent.daily < latest:
            return "daily"
    if waiting and (sent.message is None or not timedelta(0) <= now - sent.message < pace.every):
        return "events"
    return "nothing"


@dataclass(frozen=True, slots=True)
class Summary:
    """Events of a message by what they tell: failures, what failed and recovered, and others (doubtful, done)."""

    failed: Sequence[Event]
    recovered: Sequence[Event]
    others: Sequence[Event]


def summarise(waiting: Sequence[Event]) -> Summary:
    """Return the last state of each subject of the events, which are in order.

    What failed and recovered since the last message is told as recovered only.
    """
    last: dict[tuple[str, str], Event] = {}
    recovered: set[tuple[str, str]] = set()
    for each in waiting:
        about = each.type.partition(".")[0], each.subject
        recovered = (
            recovered | {about} if each.is_recovery else recovered - ({about} if each.type in FAILURES else set())
        )
        last.pop(about, None)
        last[about] = each
    return Summary(
        [each for each in last.values() if each.type in FAILURES],
        [each for about, each in last.items() if about in recovered],
        [each for about, each in last.items() if each.type not in FAILURES and about not in recovered],
    )


def compose(waiting: Sequence[Event], outstanding: Sequence[Outstanding] | None, name: str) -> Notification | None:
    """Return the message about these events and, in a daily list, what is outstanding; None if there is nothing to say.

    `name` is that of the installation.
    """
    summary = summarise(waiting)
    counts = {"failed": len(summary.failed), "recovered": len(summary.recovered), "to check": len(summary.others)}
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    if outstanding:
        parts.append(f"{len(outstanding)} outstanding")
    if not parts:
        return None
    lines = [
        *_section("Failed:", summary.failed),
        *_section("Recovered:", summary.recovered),
        *_section("To check:", summary.others),
        *_listed(outstanding or ()),
    ]
    first, last = (waiting[0].id, waiting[-1].id) if waiting else ("", "")
    if first:
        lines.append(f"Events {first} to {last}" if first != last else f"Event {first}")
    single = (*summary.failed, *summary.recovered, *summary.others)
    title = f"{name}: {', '.join(parts)}"
    if len(single) == 1 and not outstanding:
        title = f"{name}: {_cut(single[0].subject)} {parts[0].partition(' ')[2]}"
    return Notification(_without_mentions(title), _without_mentions(_bounded("\n".join(lines).strip())))


def _section(heading: str, found: Sequence[Event]) -> list[str]:
    """Return the events in groups with the same type and step or reason, the largest first."""
    if not found:
        return []
    groups: dict[str, list[Event]] = {}
    for each in found:
        groups.setdefault(_group(each), []).append(each)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    lines = [heading]
    for group, members in ordered[:MOST_GROUPS]:
        lines.append(f"- {group}: {len(members)}")
        for each in members[:MOST_EXAMPLES]:
            why = str(each.data.get("reason", "")) or "; ".join(
                str(one["description"]) for one in each.data.get("warnings", ())
            )
            subject = str(each.data.get("item") or each.subject)
            lines.append(f"    {_line(subject, why)}")
        if len(members) > MOST_EXAMPLES:
            lines.append(f"    and {len(members) - MOST_EXAMPLES} more")
    if len(ordered) > MOST_GROUPS:
        lines.append(f"- {len(ordered) - MOST_GROUPS} more kinds")
    return [*lines, ""]


def _group(event: Event) -> str:
    data: Mapping[str, object] = event.data
    if event.type == "recording.failed":
        return f"step {data.get('step')}" + (", a retry may help" if data.get("transient") else "")
    if event.type == "recording.doubtful":
        return ", ".join(str(each["check"]) for each in event.data.get("warnings", ()))
    return {"recording.done": "recordings", "backlog.stuck": "backlog", "backlog.recovered": "backlog"}.get(
        event.type, "sources"
    )


def _listed(outstanding: Sequence[Outstanding]) -> list[str]:
    if not outstanding:
        return []
    ordered = sorted(outstanding, key=lambda each: each.at)
    lines = [f"    {each.at[:10]} {_line(each.subject, each.reason)}" for each in ordered[:MOST_LISTED]]
    more = len(ordered) - MOST_LISTED
    return ["Outstanding, the oldest first:", *lines, *([f"    and {more} more"] if more > 0 else []), ""]


def _line(subject: str, why: str) -> str:
    """Return subject and reason, of which many begin with the subject."""
    why = why.removeprefix(f"{subject}: ")
    return f"{_cut(subject)}: {_cut(why)}" if why else _cut(subject)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"


def _without_mentions(text: str) -> str:
    """Return the text with a zero-width space in each mention, so that it looks the same and calls nobody."""
    return _MENTION.sub("\\g<0>\u200b", text)


def _bounded(text: str) -> str:
    return text if len(text) <= MOST_BODY else f"{text[: MOST_BODY - 1]}…"
