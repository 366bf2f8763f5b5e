"""The outbox: one file for each event and receiver, deleted when it is delivered, moved when it is given up.

`events/outbox/<receiver>/` waits for webhooks, `events/digests/<receiver>/` for the next message to channels,
`events/dead/<receiver>/` is the dead-letter list. Names begin with the time of the event, so that they sort by time.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.events import occurrences
from transcription_assets.events.catalogue import Receiver, Webhook
from transcription_assets.events.event import Event
from transcription_assets.events.states import READERS
from transcription_assets.storage import Store

OUTBOX = "events/outbox/"
DIGESTS = "events/digests/"
DEAD = "events/dead/"
MOST_DEAD = 10_000
"""Events of one receiver in the dead-letter list; above it the oldest are deleted."""
BATCH = 200


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event that waits for one receiver since `queued` (ISO 8601, UTC).

    The server rejected it `attempts` times, last for this `reason`; it is tried again at `retry_at`. In the dead-letter
    list `reason` says why it was given up.
    """

    event: Event
    queued: str
    reason: str = ""
    attempts: int = 0
    retry_at: str = ""

    def to_json(self) -> bytes:
        """Return the content of its file."""
        return json.dumps(asdict(self)).encode()


_QUEUED = TypeAdapter(QueuedEvent)


def lag(store: Store) -> float:
    """Return the age in seconds of the oldest event that waits for a webhook, or occurrence that waits for the intake.

    It is 0.0 if none waits. Occurrences count although no receiver may want them.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    waiting = [*store.list(occurrences.NEW), *store.list(OUTBOX)]
    times = [at for at in map(occurrences.time_of, waiting) if at is not None]
    return max(0.0, (datetime.now(UTC) - min(times)).total_seconds()) if times else 0.0


def pending(store: Store) -> dict[str, int]:
    """Return the number of waiting events by receiver, webhooks and channels.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return _counted([*store.list(OUTBOX), *store.list(DIGESTS)])


def dead(store: Store) -> dict[str, int]:
    """Return the number of events in the dead-letter list by receiver.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return _counted(store.list(DEAD))


def _counted(paths: Sequence[str]) -> dict[str, int]:
    return dict(Counter(path.split("/")[2] for path in paths))


def folder(receiver: Receiver) -> str:
    """Return the folder of the events that wait for a receiver."""
    return f"{OUTBOX if isinstance(receiver, Webhook) else DIGESTS}{receiver.name}/"


def put(store: Store, receiver: Receiver, queued: QueuedEvent) -> None:
    """Add an event, or replace it.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    store.write(f"{folder(receiver)}{queued.event.id}.json", queued.to_json())


def read(store: Store, paths: Sequence[str]) -> Iterator[tuple[str, QueuedEvent | None]]:
    """Yield the events of these files in their order, None for one that is gone or damaged; BATCH are read at once.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """

    def one(path: str) -> QueuedEvent | None:
        try:
            return _QUEUED.validate_json(store.read(path))
        except (NotFound, ValueError):
            return None

    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            yield from zip(part, pool.map(one, part), strict=True)


def remove(store: Store, paths: Sequence[str]) -> None:
    """Delete files, several at once.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(store.delete, paths))


def give_up(store: Store, receiver: str, path: str, queued: QueuedEvent) -> None:
    """Move an event to the dead-letter list.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    store.write(f"{DEAD}{receiver}/{queued.event.id}.json", queued.to_json())
    store.delete(path)


def trim_dead(store: Store, receiver: str) -> None:
    """Delete the oldest entries of the dead-letter list above MOST_DEAD.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    remove(store, store.list(f"{DEAD}{receiver}/")[:-MOST_DEAD])


def dead_letters(store: Store, receiver: str) -> list[QueuedEvent]:
    """Return the dead-letter list of a receiver, the oldest first.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return [queued for _, queued in read(store, store.list(f"{DEAD}{receiver}/")) if queued is not None]


def replay(store: Store, receiver: Receiver, identifiers: Sequence[str] = ()) -> int:
    """Put events of the dead-letter list (default: all) into the outbox again, with their ids; return their number.

    Raises:
        PermanentFailure: an id is not in the list.
        TranscriptionError: the store refuses or does not answer.

    """
    paths = {path.rpartition("/")[2].removesuffix(".json"): path for path in store.list(f"{DEAD}{receiver.name}/")}
    if unknown := sorted(set(identifiers) - set(paths)):
        hint = "`transcription-assets events dead` lists them"
        raise PermanentFailure(f"no dead letter {', '.join(unknown)} of {receiver.name}; {hint}", hint=hint)
    chosen = [path for identifier, path in paths.items() if not identifiers or identifier in identifiers]
    count = 0
    for path, queued in read(store, chosen):
        if queued is not None:
            put(store, receiver, replace(queued, queued=occurrences.now(), reason="", attempts=0, retry_at=""))
            store.delete(path)
            count += 1
    return count
