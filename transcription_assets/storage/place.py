"""What the store needs of a folder and of a bucket."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl
from obstore.store import ObjectStore

from transcription_assets.catalog import SCHEMA
from transcription_assets.failures import PermanentFailure
from transcription_assets.keys import encode, is_media

LONGEST_ADDITION = ".small.webp#1"  # the longest artefact suffix, while it is being written


class Entry(NamedTuple):
    """A file or object by its name below the root."""

    name: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """Every recording in the inboxes.

    `frame` has the columns of `catalog.SCHEMA`, one row a recording, by key; `ignored` counts the rest. `unread`
    counts links that lead nowhere or out of the store: what lies behind them may be away for a while only.
    """

    frame: pl.DataFrame
    ignored: int
    unread: int = 0


class Place(Protocol):
    """What a folder and a bucket do differently."""

    url: str
    objects: ObjectStore

    def answered(self, what: str) -> AbstractContextManager[None]:
        """Turn what a request about `what` raises into failures of this library."""
        ...

    def check(self, path: str) -> None:
        """Raise Refused where the path leads out of the store by way of a link, Occupied where a folder is there."""
        ...

    def entries(self, folder: str) -> list[Entry]:
        """Every file or object below a folder; NotFound where there is no such folder on disk."""
        ...

    def recordings(self, folder: str) -> Listing:
        """The recordings below a folder; as `entries`, and fast for very many."""
        ...

    def entry(self, name: str) -> Entry:
        """One file or object; NotFound where it is gone."""
        ...

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Up to `length` (at least 1) bytes of a file or object from `start` on; none where it ends before."""
        ...

    def move(self, source: str, target: str, etag: str, arrived: Callable[[Entry], None]) -> bool:
        """Move a file or object; False, and nothing moved, where it is not the version `etag` any more.

        Whenever it is stopped, the source is whole or the target is, and it can be called again. Where the target
        gets an etag of its own, `arrived` is told of it before the source goes.
        """
        ...

    def readable_url(self, name: str) -> str:
        """What ffmpeg opens."""
        ...

    def playable_url(self, name: str) -> str:
        """What a browser opens and plays, now."""
        ...

    def put(self, name: str, source: Path) -> None:
        """Copy a local file to `name`; it is there only when it is whole."""
        ...

    def public_url(self, name: str) -> str:
        """What people are shown."""
        ...

    def lancedb_options(self) -> dict[str, str]:
        """LanceDB's `storage_options`."""
        ...


def listing(entries: Sequence[Entry]) -> Listing:
    """The recordings among these; one by one, so that names that are not UTF-8 get through."""
    rows = [(encode(entry.name), *entry[1:]) for entry in entries if is_media(entry.name)]
    return Listing(pl.DataFrame(rows, SCHEMA, orient="row"), len(entries) - len(rows))


def check_length(name: str, limit: int, shown: str) -> None:
    """PermanentFailure where a name made from a recording's would be longer than the store allows."""
    if (excess := len(name.encode()) - limit) > 0:
        raise PermanentFailure(
            f"{shown}: too long for the files that are made from it; shorten the name by {excess} bytes"
        )
