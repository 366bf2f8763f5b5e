"""Which source to list, and which of its items to fetch. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from transcription_assets.domain.urls import digest
from transcription_assets.sources.catalogue import Kind, Source
from transcription_assets.sources.feeds import Item
from transcription_assets.sources.ledger import Ledger

MOST_ATTEMPTS = 8
"""Attempts of an item that fails for reasons that may pass; one for each listing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions about items: `fetch` now, in this order; `skip` for good; `pending` are left for the next listing.

    `lifted` were skipped before and are wanted now.
    """

    fetch: tuple[Item, ...]
    skip: tuple[Item, ...]
    lifted: tuple[Item, ...]
    pending: int


def plan(items: Sequence[Item], ledger: Ledger, backfill: int, most: int, url: str = "") -> Plan:
    """Decide on the items of a listing, newest first; `url` is the digest of the address of the source.

    In the first listing, and the first of another address, the newest `backfill` are wanted and older ones are skipped.
    Later all new ones are wanted; new files of known GUIDs only among the newest `backfill`, as all files of a feed may
    have moved. If `backfill` was raised, items that were skipped are wanted, too. At most `most` are fetched at once.
    Items without an attempt come first.
    """
    is_first = not ledger.items or ledger.url not in {"", url}
    is_raised = backfill > ledger.backfill
    guids = {entry.guid for entry in ledger.items.values() if entry.guid}
    fresh: list[Item] = []
    again: list[Item] = []
    skip: list[Item] = []
    lifted: list[Item] = []
    for position, item in enumerate(items):
        entry = ledger.items.get(item.identity)
        if entry is None and position >= backfill and (is_first or digest(item.guid) in guids):
            skip.append(item)
        elif entry is None or (entry.status == "waiting" and not entry.attempts):
            fresh.append(item)
        elif entry.status == "skipped" and is_raised and position < backfill:
            fresh.append(item)
            lifted.append(item)
        elif entry.status == "landing" or (entry.status == "waiting" and entry.attempts < MOST_ATTEMPTS):
            again.append(item)
    wanted = [*fresh, *again]
    return Plan(tuple(wanted[:most]), tuple(skip), tuple(lifted), pending=max(0, len(fresh) - most))


def is_due(source: Source, ledger: Ledger, now: datetime) -> bool:
    """Return whether to list the source: never done, its interval has passed, or items are left of the last listing.

    A clock that was set back does not postpone the next listing.
    """
    if ledger.last_listing is None or ledger.last_listing > now:
        return True
    if ledger.pending and not ledger.error:
        return True
    return now - ledger.last_listing >= timedelta(hours=source.every_hours)


def due(sources: Mapping[str, Source], ledgers: Mapping[str, Ledger], kind: Kind, now: datetime) -> list[str]:
    """Return the names of the sources of this kind to list, those that waited longest first."""
    found = [
        name
        for name, source in sources.items()
        if source.kind == kind and is_due(source, ledgers.get(name, Ledger()), now)
    ]
    return sorted(found, key=lambda name: (ledgers.get(name, Ledger()).looked, name))
