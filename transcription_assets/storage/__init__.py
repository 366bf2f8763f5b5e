"""The store: one local folder or one `s3://bucket/prefix` that holds everything, behind one interface.

Artefacts go through obstore, which writes both kinds atomically. Recordings carry names that people
chose, and obstore cannot express all of them, so the folder or the bucket itself lists and looks them up.
"""

import builtins
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
import polars as pl
from obstore.exceptions import BaseError

from transcription_assets.catalog import SCHEMA
from transcription_assets.failures import NotFound, Occupied, PermanentFailure, TooLarge, TransientFailure
from transcription_assets.keys import DONE, INBOXES, decode, encode, moved
from transcription_assets.storage.bucket import Bucket, Patience
from transcription_assets.storage.folder import Folder
from transcription_assets.storage.place import Entry, Listing, Place

if TYPE_CHECKING:
    from obstore import GetResult

__all__ = ["Listing", "MediaObject", "Patience", "Store"]

_BLOCK = 8 << 20
# An empty object has no first byte, and some stores may answer with the whole when asked for all of it.
_NO_RANGE = re.compile(r"416 Range Not Satisfiable|non-partial response")
_BEING_WRITTEN = re.compile(r"#\d+$")  # obstore's temporary names in a folder


@dataclass(frozen=True, slots=True)
class MediaObject:
    """One recording as the store has it now; `size` in bytes, `last_modified` in UTC."""

    key: str
    etag: str
    size: int
    last_modified: datetime


class Store:
    """A folder or a bucket. Paths are relative to its root; media keys are those of `keys.encode`."""

    def __init__(self, place: Place, *, read_only: bool = False) -> None:
        self._place = place
        self._read_only = read_only
        self.url = place.url

    @classmethod
    def open(
        cls,
        url: str,
        *,
        s3_session: Any | None = None,
        s3_endpoint: str | None = None,
        patience: Patience | None = None,
        link_roots: Sequence[Path] = (),
        read_only: bool = False,
    ) -> Self:
        """Open the store at a local path, a `file://` or an `s3://bucket/prefix` URL.

        A local folder and its inboxes are made where they are missing, unless it is `read_only`: then nothing is ever
        written. A bucket has to exist. `s3_session` is a `boto3.Session`, by default the environment's: credentials,
        region and endpoint are taken from it, unless `s3_endpoint` names another one. Links in a folder are followed
        inside the store and inside `link_roots`.

        Raises:
            PermanentFailure: there is no such store, or it may not be read.
            TransientFailure: the store does not answer.

        """
        scheme, separator, rest = url.partition("://")
        if not separator:
            return cls(Folder(Path(url), link_roots, read_only=read_only), read_only=read_only)
        if scheme == "file":
            path = Path(url2pathname(urlsplit(url).path))
            return cls(Folder(path, link_roots, read_only=read_only), read_only=read_only)
        bucket, _, prefix = rest.partition("/")
        if scheme == "s3" and bucket:
            place = Bucket(bucket, prefix.strip("/"), s3_session, s3_endpoint, patience or Patience())
            return cls(place, read_only=read_only)
        raise PermanentFailure(f"{url}: not a store; give a folder, file:///folder or s3://bucket/prefix")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder on this machine."""
        return isinstance(self._place, Folder)

    def list_media(self) -> Listing:
        """All recordings below the inboxes.

        One odd entry is logged and left out; TransientFailure where an inbox or a folder in it cannot be
        read, since what could not be read is not empty.
        """
        try:
            found = [self._place.recordings(inbox) for inbox in INBOXES]
        except NotFound as error:
            raise TransientFailure(f"{error}; is the store mounted?") from error
        return Listing(
            pl.concat(part.frame for part in found).sort("key"),
            ignored=sum(part.ignored for part in found),
            unread=sum(part.unread for part in found),
        )

    def list_done(self) -> pl.DataFrame:
        """The recordings that were moved out of the inboxes when they were done.

        By the key that they keep, in the columns of `catalog.SCHEMA`; an etag is that of the object where it is now.
        """
        found = [pl.DataFrame(schema=SCHEMA)]
        for inbox in INBOXES:
            with suppress(NotFound):
                found.append(self._place.recordings(DONE + inbox).frame)
        return pl.concat(found).with_columns(pl.col("key").str.strip_prefix(DONE)).sort("key")

    def stat(self, key: str) -> MediaObject:
        """The recording as it is now, in its inbox or, where it is done, below `DONE_`; NotFound where it is gone.

        One that was moved keeps the etag that it had in the inbox, though the store gave the copy another.
        """
        try:
            found = self._place.entry(decode(key))
        except NotFound:
            if (done := self._done(key)) is None:
                raise
            return MediaObject(key, self._etag_in_the_inbox(key, done.etag), done.size, done.last_modified)
        return MediaObject(encode(found.name), found.etag, found.size, found.last_modified)

    def move_when_done(self, key: str, etag: str) -> bool:
        """Move the recording out of the inbox, below `DONE_`; it keeps its key, and `stat` and the URLs find it there.

        False where there is nothing to move: it is another version than `etag` by now (which is new work), was moved
        before, or lies elsewhere by way of a link. An older recording of the same name there is replaced.
        """
        self._require_writable(key)
        name = decode(key)

        def arrived(there: Entry) -> None:
            if there.etag != etag:
                self.write(moved(key), json.dumps({"etag": etag, "etag_when_moved": there.etag}).encode())

        try:
            return self._place.move(name, DONE + name, etag, arrived)
        except NotFound:
            if self._done(key) is None:
                raise
            return False

    def media_url(self, key: str) -> str:
        """What ffmpeg reads the recording from: `file:/path`, or an https URL that is good for one hour."""
        return self._place.readable_url(self._name(key))

    def read_media(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` (at least 1) bytes of the recording from `start` on; none where it ends before.

        Raises:
            NotFound: It is gone.
            TransientFailure: The store failed.

        """
        return self._place.read_range(self._name(key), start, length)

    def public_url(self, key: str) -> str:
        """Where the recording is, for people: a `file://` or `s3://` URL."""
        return self._place.public_url(self._name(key))

    def playable_url(self, key: str) -> str:
        """What a person can open in a browser: a `file://` URL, or one that is signed and good for one hour.

        For the one who asked: it stands in for credentials, so it belongs in no log and no metadata.
        """
        return self._place.playable_url(self._name(key))

    def put_media(self, name: str, source: Path) -> str:
        """Copy a local recording into the store as `name` (`video/talks/a.mp4`); returns its media key."""
        self._require_writable(name)
        self._place.put(name, source)
        return encode(name)

    def artefact_url(self, path: str) -> str:
        """Where an artefact is, for people: a `file://` or `s3://` URL."""
        return self._place.public_url(path)

    def playable_artefact_url(self, path: str) -> str:
        """Return what a person can open in a browser, as `playable_url` does for a recording."""
        return self._place.playable_url(path)

    def readable_url(self, path: str) -> str:
        """What ffmpeg reads an artefact from, as `media_url` is for a recording."""
        return self._place.readable_url(path)

    def exists(self, path: str) -> bool:
        """Whether the artefact is there."""
        try:
            with self._answered(path):
                obstore.head(self._place.objects, path)
        except NotFound:
            return False
        return True

    def version(self, path: str) -> str:
        """Return the ETag of an artefact, "" if there is none."""
        try:
            with self._answered(path):
                return obstore.head(self._place.objects, path)["e_tag"] or ""
        except NotFound:
            return ""

    def read(self, path: str) -> bytes:
        """The whole artefact; NotFound where there is none."""
        with self._answered(path):
            found, size = self._got(path)
            data = bytes(found.bytes())
            _require_all_of_it(len(data), size)
        return data

    def read_small(self, path: str, most_bytes: int) -> bytes:
        """Return a file that people put into the store by hand.

        Raises:
            NotFound: There is none (NotRegular: a folder or a pipe, which is never opened).
            TooLarge: It has more than `most_bytes`; it is not read then.

        """
        found = self._place.entry(path)
        if found.size > most_bytes:
            raise TooLarge(f"{self.url}/{path}: {found.size} bytes, at most {most_bytes} are read; make it smaller")
        return self.read(path)

    def fetch(self, path: str, target: Path) -> None:
        """Copy the artefact to a local file, block by block; NotFound where there is none."""
        with self._answered(path):
            found, size = self._got(path)
            with target.open("wb") as file:
                file.writelines(found.stream(min_chunk_size=_BLOCK))
                _require_all_of_it(file.tell(), size)

    def write(self, path: str, data: bytes) -> None:
        """Write an artefact; readers see the old one or the new one, never a part."""
        self._require_writable(path)
        with self._answered(path):
            obstore.put(self._place.objects, path, data)

    def upload(self, path: str, source: Path) -> None:
        """Write an artefact from a local file, block by block; as atomic as `write`."""
        self._require_writable(path)
        with self._answered(path):
            obstore.put(self._place.objects, path, source)

    def delete(self, *paths: str) -> None:
        """Delete artefacts; those that are not there are fine."""
        for path in paths:
            self._require_writable(path)
            try:
                with self._answered(path):
                    obstore.delete(self._place.objects, path)
            except (NotFound, Occupied):
                continue

    def list(self, prefix: str) -> list[str]:
        """The paths of all artefacts below a folder such as `transcripts/`, sorted; none if missing."""
        try:
            names = [entry.name for entry in self._place.entries(prefix)]
        except NotFound:
            return []
        return sorted(name for name in names if not (self.is_local and _BEING_WRITTEN.search(name)))

    def versions(self, prefix: str) -> dict[str, str]:
        """Return the ETags of all artefacts below a folder by path; empty if the folder is missing."""
        try:
            found = {entry.name: entry.etag for entry in self._place.entries(prefix)}
        except NotFound:
            return {}
        return {name: etag for name, etag in found.items() if not (self.is_local and _BEING_WRITTEN.search(name))}

    def oldest_first(self, prefix: str) -> builtins.list[str]:
        """As `list`, what was written last at the end."""
        entries = sorted(self._place.entries(prefix), key=attrgetter("last_modified", "name"))
        return [entry.name for entry in entries if not (self.is_local and _BEING_WRITTEN.search(entry.name))]

    @property
    def lancedb_uri(self) -> str:
        """Where LanceDB keeps its tables."""
        return f"{self.url}/lancedb"

    @property
    def lancedb_options(self) -> dict[str, str]:
        """LanceDB's `storage_options`, with the credentials of this moment: ask anew for each connection."""
        return self._place.lancedb_options()

    @contextmanager
    def _answered(self, path: str) -> Iterator[None]:
        """Make a request about an artefact: it has to be inside the store, and errors become failures that name it."""
        with self._place.answered(f"{self.url}/{path}"):
            self._place.check(path)
            yield

    def _require_writable(self, path: str) -> None:
        if self._read_only:
            raise PermanentFailure(f"{self.url}/{path}: the store was opened for reading only")

    def _got(self, path: str) -> "tuple[GetResult, int]":
        """The object and its size; asked for as a range, so that the answer itself has to tell how long it is."""
        objects = self._place.objects
        if self.is_local:
            found = obstore.get(objects, path)
            return found, found.meta["size"]
        try:
            found = obstore.get(objects, path, options={"range": {"offset": 0}})
            return found, found.meta["size"]
        except BaseError as error:
            if not _NO_RANGE.search(str(error)):
                raise
        return obstore.get(objects, path), obstore.head(objects, path)["size"]

    def _name(self, key: str) -> str:
        """What the recording is called now; the name in the inbox where it is nowhere."""
        try:
            return self._place.entry(decode(key)).name
        except NotFound:
            done = self._done(key)
            return decode(key) if done is None else done.name

    def _done(self, key: str) -> Entry | None:
        """The recording below `DONE_`, if it is there."""
        if not key.startswith(INBOXES):
            return None
        try:
            return self._place.entry(DONE + decode(key))
        except NotFound:
            return None

    def _etag_in_the_inbox(self, key: str, etag: str) -> str:
        """The etag before the move; the one that it has now if it kept it, or was replaced where it is now."""
        try:
            record = json.loads(self.read(moved(key)))
            return str(record["etag"]) if record["etag_when_moved"] == etag else etag
        except (NotFound, ValueError, KeyError, TypeError):  # none, or damaged
            return etag


def _require_all_of_it(given: int, size: int) -> None:
    """A store that ends its answer early may do so without a word."""
    if given < size:
        raise OSError(f"the store gave {given} bytes of {size}; try again")
