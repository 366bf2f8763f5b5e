"""State of a receiver (`events/receivers/<name>.json`), and of the outbox (`events/progress.json`)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound
from transcription_assets.events.webhooks import pause
from transcription_assets.storage import Store

RECEIVERS = "events/receivers/"
PROGRESS = "events/progress.json"


@dataclass(frozen=True, slots=True)
class Address:
    """Status of one address of a channel: `message` and `daily` are the times of its last message and daily list.

    `had` are the ids of events that it has had, and that other addresses may not have had.
    """

    failures: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None
    error: str = ""
    message: datetime | None = None
    daily: datetime | None = None
    had: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """Status of a receiver.

    The last `failures` attempts have failed, the first of them at `failing_since`, the last one with `error`. The next
    attempt is not made before `retry_at`. `delivered` is the time of the last success. `addresses` are those of a
    channel, by the digest of the URL.
    """

    failures: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None
    error: str = ""
    delivered: datetime | None = None
    addresses: Mapping[str, Address] = field(default_factory=dict)


@dataclass(slots=True)
class Delivery:
    """Outcome of one delivery to a receiver; `error` is why its last attempt failed.

    `delivered` and `dead` count events that were delivered and given up, `waiting` those that are left.
    """

    delivered: int = 0
    dead: int = 0
    waiting: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryProgress:
    """Progress of the delivery to all receivers.

    `since` is the time from which events are wanted, `moved` that of the last recording that was done or failed.
    `looked` is the time of the last check of the backlog, `tidied` that of the last removal of what is not needed.
    """

    since: datetime
    moved: datetime | None = None
    looked: datetime | None = None
    tidied: datetime | None = None


_STATUS, _PROGRESS = TypeAdapter(Status), TypeAdapter(DeliveryProgress)
Kept = TypeVar("Kept", Status, DeliveryProgress)
Attempted = TypeVar("Attempted", Status, Address)


def load_status(store: Store, name: str) -> Status:
    """Return the status of a receiver; a new one if there is none or it is damaged.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return _load(store, f"{RECEIVERS}{name}.json", _STATUS) or Status()


def after_failure(known: Attempted, error: str, now: datetime, retry_after_s: float = 0.0) -> Attempted:
    """Return the status after another failure in a row."""
    failures = known.failures + 1
    since, retry_at = known.failing_since or now, now + pause(failures, retry_after_s)
    return replace(known, failures=failures, failing_since=since, retry_at=retry_at, error=error)


def load_progress(store: Store) -> DeliveryProgress | None:
    """Return the progress; None if there is none or it is damaged.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return _load(store, PROGRESS, _PROGRESS)


def save_status(store: Store, name: str, status: Status) -> None:
    """Write the status of a receiver.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    store.write(f"{RECEIVERS}{name}.json", json.dumps(asdict(status), default=datetime.isoformat).encode())


def save_progress(store: Store, progress: DeliveryProgress) -> None:
    """Write the progress.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    store.write(PROGRESS, json.dumps(asdict(progress), default=datetime.isoformat).encode())


def _load(store: Store, path: str, adapter: TypeAdapter[Kept]) -> Kept | None:
    try:
        return adapter.validate_json(store.read(path))
    except (NotFound, ValueError):
        return None
