"""The interface that a local folder and a bucket implement for the store."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl
from obstore.store import ObjectStore

from transcription_assets.domain.inbox_diff import SCHEMA
from transcription_assets.domain.media_keys import encode, is_media
from transcription_assets.errors import PermanentFailure

LONGEST_ADDITION = ".small.webp#1"  # longest suffix of an artefact's temporary file


class ObjectEntry(NamedTuple):
    """A file or object; `name` is relative to the root, `size` in bytes."""

    name: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """Recordings below a folder.

    `frame` has the columns of `inbox_diff.SCHEMA`, one row for each recording; `ignored` counts other files. `unread`
    counts links that are broken or lead out of the store: their targets may be unavailable for a while only.
    """

    frame: pl.DataFrame
    ignored: int
    unread: int = 0


class Backend(Protocol):
    """Operations that differ between a folder and a bucket; names and paths are relative to its root."""

    url: str
    objects: ObjectStore

    def translate_errors(self, what: str) -> AbstractContextManager[None]:
        """Translate the errors of a request for `what`.

        Raises:
            TranscriptionError: the request failed.

        """
        ...

    def check(self, path: str) -> None:
        """Check that the path can be that of a file in the store.

        Raises:
            PermanentFailure: the path contains `..`.
            Refused: a link leads out of the store.
            Occupied: it is the path of a folder.

        """
        ...

    def entries(self, folder: str) -> list[ObjectEntry]:
        """List every file or object below a folder.

        Raises:
            NotFound: there is no such folder on disk.
            TranscriptionError: the store denies access or does not answer.

        """
        ...

    def remove_empty(self, folder: str) -> None:
        """Remove a folder and the empty folders below it from disk; nothing happens to one that holds files."""
        ...

    def recordings(self, folder: str) -> Listing:
        """List the recordings below a folder; fast for very many.

        Raises:
            NotFound: there is no such folder on disk.
            TranscriptionError: the store denies access or does not answer.

        """
        ...

    def entry(self, name: str) -> ObjectEntry:
        """Look up a file or object.

        Raises:
            NotFound: there is none.
            TranscriptionError: the name is too long, or the store denies access or does not answer.

        """
        ...

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return up to `length` (at least 1) bytes of a file or object from `start` on; empty if it ends before.

        Raises:
            NotFound: there is no such file or object.
            TranscriptionError: the store denies access or does not answer.

        """
        ...

    def move(self, source: str, target: str, etag: str, arrived: Callable[[ObjectEntry], None]) -> bool:
        """Move a file or object; do nothing and return False if its version is no longer `etag`.

        If it is interrupted, the source or the target is complete, and it can be called again. If the target gets
        another ETag, `arrived` is called with it before the source is deleted.

        Raises:
            NotFound: there is no such file or object.
            TranscriptionError: the store denies access, is full or does not answer.

        """
        ...

    def readable_url(self, name: str) -> str:
        """Return ffmpeg's input for a file or object.

        Raises:
            TranscriptionError: the name is invalid, a link leads out of the store, or the URL cannot be signed.

        """
        ...

    def playable_url(self, name: str) -> str:
        """Return a URL that a browser plays.

        Raises:
            TranscriptionError: the name is invalid, or the URL cannot be signed.

        """
        ...

    def put(self, name: str, source: Path, *, move: bool = False) -> None:
        """Copy a local file to `name`, which appears when it is complete; with `move` it may be renamed instead.

        Raises:
            TranscriptionError: the name is invalid, or the store denies access, is full or does not answer.

        """
        ...

    def public_url(self, name: str) -> str:
        """Return the location for display.

        Raises:
            NotFound: the name is invalid.

        """
        ...

    def lancedb_options(self) -> dict[str, str]:
        """Return LanceDB's `storage_options`."""
        ...


def listing(entries: Sequence[ObjectEntry]) -> Listing:
    """Return the recordings among these; keys are encoded one by one, as some names are not UTF-8."""
    rows = [(encode(entry.name), *entry[1:]) for entry in entries if is_media(entry.name)]
    return Listing(pl.DataFrame(rows, SCHEMA, orient="row"), len(entries) - len(rows))


def check_length(name: str, limit: int, location: str) -> None:
    """Check the length of an artefact's name, in bytes; `location` is the recording for the message.

    Raises:
        PermanentFailure: the name is longer than `limit`.

    """
    if (excess := len(name.encode()) - limit) > 0:
        hint = f"shorten the name by {excess} bytes"
        raise PermanentFailure(f"{location}: the name is too long for the names of its artefacts; {hint}", hint=hint)
