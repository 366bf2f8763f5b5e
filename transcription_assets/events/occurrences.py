"""Occurrences: changes of recordings and sources, as the steps record it (`events/new/`); `intake` makes events of it.

The steps write an occurrence before the record that it is about (a failure note, a deleted note, a state), so that a
process that is killed in between loses none: the step is done again, and records the same occurrence again. A step that
is killed while it works records nothing. `intake` drops those that change nothing. Nothing is written while the store
has no `events.toml`.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound, TranscriptionError, TransientFailure
from transcription_assets.storage import Store

CATALOGUE = "events.toml"
NEW = "events/new/"
STAMP = "%Y%m%dT%H%M%S%fZ"
_STAMP_LENGTH = 22
MOST_TEXT = 2_000
"""Maximum characters of a reason or a title in an event."""
MOST_IN_A_FILE = 100

Kind = Literal["recording", "source", "item", "backlog"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A recording, a source, an item of a source, or the backlog succeeded or failed.

    `name` is a media key, the name of a source, or `source/identity` of an item. `version` is the ETag of a recording,
    "" if it is unknown. `at` is in ISO 8601, UTC.
    """

    kind: Kind
    name: str
    succeeded: bool
    at: str
    version: str = ""
    title: str = ""
    step: str = ""
    reason: str = ""
    transient: bool = False

    @property
    def subject(self) -> str:
        """Identifier of what it is about, unique over all kinds."""
        return f"{self.kind}:{self.name}"


_OCCURRENCES = TypeAdapter(list[Occurrence])


def has_receivers(store: Store) -> bool:
    """Return whether the store has receivers of events.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return store.exists(CATALOGUE)


def record_done(store: Store, versions: Sequence[tuple[str, str]]) -> None:
    """Record that recordings, given as media keys with ETags, are searchable: MOST_IN_A_FILE in one file.

    An error of the store is only logged, after a second attempt: the recordings are good without their events, and the
    next publication of them records the same.
    """
    at = now()
    found = [Occurrence("recording", key, succeeded=True, at=at, version=etag) for key, etag in versions]
    try:
        if not found or not has_receivers(store):
            return
        for start in range(0, len(found), MOST_IN_A_FILE):
            part = found[start : start + MOST_IN_A_FILE]
            try:
                _write(store, part)
            except TransientFailure:
                _write(store, part)
    except TranscriptionError as error:
        log.warning("%d recordings are searchable, which is not recorded as events: %s", len(versions), error)


def record_failure(
    store: Store,
    kind: Kind,
    name: str,
    reason: str,
    *,
    version: str = "",
    title: str = "",
    step: str = "",
    transient: bool = False,
) -> None:
    """Record a failure; an error of the store is only logged, as the failure itself is the one to report."""
    try:
        if has_receivers(store):
            found = Occurrence(
                kind,
                name,
                succeeded=False,
                at=now(),
                version=version,
                title=_bounded(title),
                step=step,
                reason=_bounded(reason),
                transient=transient,
            )
            _write(store, [found])
    except TranscriptionError as error:
        log.warning("%s: its failure is not recorded as an event: %s", name, error)


def record_recovery(store: Store, kind: Kind, name: str) -> None:
    """Record that a source or an item succeeded again.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    if has_receivers(store):
        _write(store, [Occurrence(kind, name, succeeded=True, at=now())])


def now() -> str:
    """Return the time as occurrences and events state it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def load(store: Store, path: str) -> list[Occurrence] | None:
    """Return the occurrences of a file; None if it is gone, [] if it is damaged.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    try:
        return _OCCURRENCES.validate_json(store.read(path))
    except NotFound:
        return None
    except (ValueError, RecursionError):
        log.warning("%s/%s: damaged, ignored", store.url, path)
        return []


def stamped_name() -> str:
    """Return a unique name that begins with the time, so that names sort by time."""
    return f"{datetime.now(UTC).strftime(STAMP)}-{uuid4().hex[:8]}"


def time_of(name: str) -> datetime | None:
    """Return the time in the name of a file or an event; None if it has none."""
    try:
        return datetime.strptime(name.rpartition("/")[2][:_STAMP_LENGTH], STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def _bounded(text: str) -> str:
    """Return the text in at most MOST_TEXT characters, without the surrogates of names that are not UTF-8."""
    return text[:MOST_TEXT].encode(errors="replace").decode()


def _write(store: Store, found: Sequence[Occurrence]) -> None:
    store.write(f"{NEW}{stamped_name()}.json", json.dumps([asdict(each) for each in found]).encode())
