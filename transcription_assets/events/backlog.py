"""Detection of a stuck backlog: recordings wait, and none was done or failed for long."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from transcription_assets.domain import media_keys
from transcription_assets.events import occurrences
from transcription_assets.events.catalogue import Catalogue
from transcription_assets.events.states import States
from transcription_assets.events.status import DeliveryProgress
from transcription_assets.storage import Store

EVERY = timedelta(minutes=15)
NAME = "inbox"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Recordings that wait for longer than the limit: their number, and the one that arrived first."""

    count: int
    oldest: str
    since: datetime


def is_due(catalogue: Catalogue, progress: DeliveryProgress, now: datetime) -> bool:
    """Return whether a check is due: there was no progress for long, and the last check is some time ago."""
    if not catalogue.stuck_hours:
        return False
    quiet_since = progress.moved or progress.since
    is_quiet = now - quiet_since >= timedelta(hours=catalogue.stuck_hours)
    is_long_ago = progress.looked is None or not timedelta(0) <= now - progress.looked < EVERY
    return is_quiet and is_long_ago


def find_waiting(store: Store, catalogue: Catalogue, now: datetime) -> Waiting | None:
    """Return the recordings that wait for longer than `stuck_hours`; None if there are none.

    A recording is not waiting if its version is known to be done or failed; one of which no event is known is not
    waiting if it has passages or a failure record.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    frame = store.list_media().frame
    old = frame.filter(frame["last_modified"] <= now - timedelta(hours=catalogue.stuck_hours))
    if old.is_empty():
        return None
    states = States(store).everything()
    handled = {*store.list("embeddings/"), *store.list("failures/")}
    waiting: list[tuple[datetime, str]] = []
    for key, etag, at in old.select("key", "etag", "last_modified").iter_rows():
        entry = states.get(f"recording:{key}")
        if entry is not None and entry.version:
            is_handled = entry.version == etag
        else:
            is_handled = bool(handled & {media_keys.passages(key), media_keys.failure(key)})
        if not is_handled:
            waiting.append((at, key))
    if not waiting:
        return None
    since, oldest = min(waiting)
    return Waiting(len(waiting), oldest, since)


def report(store: Store, waiting: Waiting | None, *, was_stuck: bool) -> None:
    """Record that the backlog is stuck, or that it no longer is.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    if waiting:
        reason = (
            f"{waiting.count} recordings wait, the first since {waiting.since:%Y-%m-%d %H:%M} UTC: {waiting.oldest}"
        )
        occurrences.record_failure(store, "backlog", NAME, reason)
    elif was_stuck:
        occurrences.record_recovery(store, "backlog", NAME)
