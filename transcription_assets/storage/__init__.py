"""The store: one local folder or one `s3://bucket/prefix` that holds everything, behind one interface.

Artefacts go through obstore, which writes both kinds atomically. Recordings carry names that people
chose, and obstore cannot express all of them, so the folder or the bucket itself lists and looks them up.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
import polars as pl

from transcription_assets.catalog import SCHEMA
from transcription_assets.failures import NotFound, PermanentFailure, TransientFailure
from transcription_assets.keys import INBOXES, decode, encode, is_media
from transcription_assets.storage.bucket import Bucket
from transcription_assets.storage.errors import explained
from transcription_assets.storage.folder import Folder
from transcription_assets.storage.place import Place

__all__ = ["Listing", "MediaObject", "Store"]

_BLOCK = 8 << 20
_BEING_WRITTEN = re.compile(r"#\d+$")  # obstore's temporary names in a folder


@dataclass(frozen=True, slots=True)
class MediaObject:
    """One recording as the store has it now; `size` in bytes, `last_modified` in UTC."""

    key: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """Every recording in the inboxes.

    `frame` has the columns of `catalog.SCHEMA`, one row a recording, by key; `ignored` counts the rest.
    """

    frame: pl.DataFrame
    ignored: int


class Store:
    """A folder or a bucket. Paths are relative to its root; media keys are those of `keys.encode`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.url = place.url

    @classmethod
    def open(cls, url: str, *, s3_session: Any | None = None) -> Self:
        """Open the store at a local path, a `file://` or an `s3://bucket/prefix` URL.

        A local folder and its inboxes are made where they are missing; a bucket has to exist. `s3_session` is
        a `boto3.Session`, by default the environment's: credentials, region and endpoint are taken from it.
        """
        scheme, separator, rest = url.partition("://")
        if not separator:
            return cls(Folder(Path(url)))
        if scheme == "file":
            return cls(Folder(Path(url2pathname(urlsplit(url).path))))
        bucket, _, prefix = rest.partition("/")
        if scheme == "s3" and bucket:
            return cls(Bucket(bucket, prefix.strip("/"), s3_session))
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
            entries = [entry for inbox in INBOXES for entry in self._place.entries(inbox)]
        except NotFound as error:
            raise TransientFailure(f"{error}; is the store mounted?") from error
        rows = [(encode(entry.name), *entry[1:]) for entry in entries if is_media(entry.name)]
        return Listing(pl.DataFrame(rows, SCHEMA, orient="row").sort("key"), len(entries) - len(rows))

    def stat(self, key: str) -> MediaObject:
        """The recording as it is now; NotFound where it is gone."""
        found = self._place.entry(decode(key))
        return MediaObject(encode(found.name), found.etag, found.size, found.last_modified)

    def media_url(self, key: str) -> str:
        """What ffmpeg reads the recording from: `file:/path`, or an https URL that is good for one hour."""
        return self._place.readable_url(decode(key))

    def public_url(self, key: str) -> str:
        """Where the recording is, for people: a `file://` or `s3://` URL."""
        return self._place.public_url(decode(key))

    def artefact_url(self, path: str) -> str:
        """Where an artefact is, for people: a `file://` or `s3://` URL."""
        return self._place.public_url(path)

    def readable_url(self, path: str) -> str:
        """What ffmpeg reads an artefact from, as `media_url` is for a recording."""
        return self._place.readable_url(path)

    def exists(self, path: str) -> bool:
        """Whether the artefact is there."""
        try:
            with explained(f"{self.url}/{path}"):
                obstore.head(self._place.objects, path)
        except NotFound:
            return False
        return True

    def read(self, path: str) -> bytes:
        """The whole artefact; NotFound where there is none."""
        with explained(f"{self.url}/{path}"):
            return bytes(obstore.get(self._place.objects, path).bytes())

    def fetch(self, path: str, target: Path) -> None:
        """Copy the artefact to a local file, block by block; NotFound where there is none."""
        with explained(f"{self.url}/{path}"):
            blocks = obstore.get(self._place.objects, path).stream(min_chunk_size=_BLOCK)
            with target.open("wb") as file:
                file.writelines(blocks)

    def write(self, path: str, data: bytes) -> None:
        """Write an artefact; readers see the old one or the new one, never a part."""
        with explained(f"{self.url}/{path}"):
            obstore.put(self._place.objects, path, data)

    def upload(self, path: str, source: Path) -> None:
        """Write an artefact from a local file, block by block; as atomic as `write`."""
        with explained(f"{self.url}/{path}"):
            obstore.put(self._place.objects, path, source)

    def delete(self, *paths: str) -> None:
        """Delete artefacts; those that are not there are fine."""
        for path in paths:
            try:
                with explained(f"{self.url}/{path}"):
                    obstore.delete(self._place.objects, path)
            except NotFound:
                continue

    def list(self, prefix: str) -> list[str]:
        """The paths of all artefacts below a folder such as `transcripts/`, sorted; none if missing."""
        try:
            names = [entry.name for entry in self._place.entries(prefix)]
        except NotFound:
            return []
        return sorted(name for name in names if not (self.is_local and _BEING_WRITTEN.search(name)))

    @property
    def lancedb_uri(self) -> str:
        """Where LanceDB keeps its tables."""
        return f"{self.url}/lancedb"

    @property
    def lancedb_options(self) -> dict[str, str]:
        """LanceDB's `storage_options`, with the credentials of this moment: ask anew for each connection."""
        return self._place.lancedb_options()
