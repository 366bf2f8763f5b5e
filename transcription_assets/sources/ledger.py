"""The state of a source, `sources/<name>.json` in the store: what was seen, what landed, what failed.

Several processes may write it (a run and a command). Before each write the file is read and both versions are merged,
and an item that landed stays landed. Reading and writing are two steps: of two writers at the same moment, the entries
of one may be lost. Its items are then fetched again by the next fetch, and replace their recordings by themselves.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.storage import Store

Status = Literal["skipped", "waiting", "failed", "landing", "landed"]
RANKS: dict[Status, int] = {"skipped": 0, "waiting": 1, "failed": 2, "landing": 3, "landed": 4}


@dataclass(frozen=True, slots=True)
class Entry:
    """An item: `landing` and `landed` have a media key, `waiting` (for another attempt) and `failed` a reason.

    `skipped` items are older than the backfill of the first listing. `guid` is a digest of the
    GUID. `at` is the time of the last change (ISO 8601, UTC).
    """

    status: Status
    at: str
    title: str = ""
    key: str = ""
    size: int = 0
    attempts: int = 0
    reason: str = ""
    guid: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """State of one source; `items` by `Item.identity`.

    `looked` is the time of the last listing (ISO 8601, UTC; "" = never), `error` its failure. `etag` and
    `last_modified` are those of the document whose items are all known, `backfill` and `url` (a digest) those of that
    listing. `pending` counts items that are wanted and were not tried yet.
    """

    looked: str = ""
    error: str = ""
    etag: str = ""
    last_modified: str = ""
    backfill: int = 0
    url: str = ""
    pending: int = 0
    items: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all recordings that landed."""
        return sum(entry.size for entry in self.items.values() if entry.status == "landed")

    def count(self, status: Status) -> int:
        """Return the number of items in this state."""
        return sum(entry.status == status for entry in self.items.values())

    @property
    def last_listing(self) -> datetime | None:
        """Time of the last listing; None if there was none."""
        return datetime.fromisoformat(self.looked) if self.looked else None

    def with_entries(self, entries: Mapping[str, Entry]) -> "Ledger":
        """Return the ledger with these entries added or replaced."""
        return replace(self, items={**self.items, **entries})


_LEDGER = TypeAdapter(Ledger)


def path(name: str) -> str:
    """Return the path of the state of a source."""
    return f"sources/{name}.json"


def load(store: Store, name: str) -> Ledger:
    """Return the state of a source; an empty one if it was never listed.

    Raises:
        PermanentFailure: the file is damaged. It is not taken for an empty one, as everything would be fetched again.
        TranscriptionError: the store denies access or does not answer.

    """
    try:
        ledger = _LEDGER.validate_json(store.read(path(name)))
        _ = ledger.last_listing
    except NotFound:
        return Ledger()
    except ValueError as error:
        hint = "restore the file, or delete it to fetch the source anew"
        raise PermanentFailure(f"{store.url}/{path(name)}: damaged state of a source; {hint}", hint=hint) from error
    return ledger


def save(store: Store, name: str, ledger: Ledger) -> Ledger:
    """Merge the state with the stored one, write it, and return it.

    Raises:
        TranscriptionError: the stored state is damaged, or the store refuses or does not answer.

    """
    merged = merge(load(store, name), ledger)
    store.write(path(name), json.dumps(asdict(merged), ensure_ascii=False, indent=0).encode())
    return merged


def merge(stored: Ledger, current: Ledger) -> Ledger:
    """Return `current` with the entries of `stored` that it lacks, or that say more.

    An item that landed in one of them has landed; else the later entry counts.
    """
    items = dict(stored.items)
    for identity, entry in current.items.items():
        other = items.get(identity)
        if other is None or _order(entry) >= _order(other):
            items[identity] = entry
    return replace(current, items=items)


def _order(entry: Entry) -> tuple[bool, str, int]:
    return entry.status == "landed", entry.at, RANKS[entry.status]
