"""The store: recordings and artefacts in one local folder or one `s3://bucket/prefix`, behind one interface.

Artefacts are read and written with obstore, which writes atomically to both. Users choose the names of recordings, and
obstore cannot express all of them, so `Folder` and `Bucket` list and look up recordings themselves.
"""

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
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from transcription_assets.domain.inbox_diff import SCHEMA
from transcription_assets.domain.media_keys import DONE, INBOXES, decode, encode, moved
from transcription_assets.errors import NotFound, Occupied, PermanentFailure, TooLarge, TransientFailure
from transcription_assets.storage.backend import Backend, Listing, ObjectEntry
from transcription_assets.storage.bucket import Bucket, Timeouts
from transcription_assets.storage.folder import Folder

if TYPE_CHECKING:
    from obstore import GetResult

_BLOCK = 8 << 20
# Errors of range requests: an empty object has no first byte, and some stores may ignore a range that covers it all.
_NO_RANGE = re.compile(r"416 Range Not Satisfiable|non-partial response")
_BEING_WRITTEN = re.compile(r"#\d+$")  # obstore's temporary names in a folder


@dataclass(frozen=True, slots=True)
class MediaObject:
    """Current version of a recording in the store; `size` in bytes, `last_modified` in UTC."""

    key: str
    etag: str
    size: int
    last_modified: datetime


class Store:
    """A folder or a bucket. Paths are relative to its root; media keys are those of `media_keys.encode`."""

    def __init__(self, backend: Backend, *, read_only: bool = False) -> None:
        self._backend = backend
        self._read_only = read_only
        self.url = backend.url

    @classmethod
    def open(
        cls,
        url: str,
        *,
        s3_session: Any | None = None,
        s3_endpoint: str | None = None,
        timeouts: Timeouts | None = None,
        link_roots: Sequence[Path] = (),
        read_only: bool = False,
    ) -> Self:
        """Open the store at a local path, a `file://` or an `s3://bucket/prefix` URL.

        A missing local folder and its inboxes are created. With `read_only`, nothing is created or written. A bucket
        must exist. `s3_session` is a `boto3.Session` (default: from the environment) with the credentials, the region
        and, unless `s3_endpoint` is given, the endpoint. Links in a folder are followed if they lead into the store or
        into one of `link_roots`.

        Raises:
            PermanentFailure: there is no such store, or access is denied.
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
            backend = Bucket(bucket, prefix.strip("/"), s3_session, s3_endpoint, timeouts or Timeouts())
            return cls(backend, read_only=read_only)
        hint = "use a folder, file:///folder or s3://bucket/prefix"
        raise PermanentFailure(f"invalid store URL {url}; {hint}", hint=hint)

    @property
    def is_local(self) -> bool:
        """True if the store is a local folder."""
        return isinstance(self._backend, Folder)

    def list_media(self) -> Listing:
        """List all recordings in the inboxes.

        A single file that cannot be looked up is logged and left out.

        Raises:
            TransientFailure: an inbox is missing, or it or a folder in it cannot be read: it must not appear empty.
            Refused: the store denies access.

        """
        try:
            found = [self._backend.recordings(inbox) for inbox in INBOXES]
        except NotFound as error:
            hint = "check that the store is mounted"
            raise TransientFailure(f"{error}; {hint}", hint=hint) from error
        return Listing(
            pl.concat(part.frame for part in found).sort("key"),
            ignored=sum(part.ignored for part in found),
            unread=sum(part.unread for part in found),
        )

    def list_done(self) -> pl.DataFrame:
        """List the recordings that `move_when_done` moved out of the inboxes, in the columns of `inbox_diff.SCHEMA`.

        `key` is the unchanged media key; `etag` is that of the moved object, which may differ from the one before.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        found = [pl.DataFrame(schema=SCHEMA)]
        for inbox in INBOXES:
            with suppress(NotFound):
                found.append(self._backend.recordings(DONE + inbox).frame)
        return pl.concat(found).with_columns(pl.col("key").str.strip_prefix(DONE)).sort("key")

    def stat(self, key: str) -> MediaObject:
        """Look up the current version of a recording, in its inbox or below `DONE_`.

        A moved recording is reported with its ETag from the inbox, even if the store assigned another to the copy.

        Raises:
            NotFound: the recording does not exist (NotRegular: it is not a regular file).
            PermanentFailure: its name is too long for its artefacts, or access is denied.
            TransientFailure: the store does not answer.

        """
        try:
            found = self._backend.entry(decode(key))
        except NotFound:
            if (done := self._done(key)) is None:
                raise
            return MediaObject(key, self._etag_in_the_inbox(key, done.etag), done.size, done.last_modified)
        return MediaObject(encode(found.name), found.etag, found.size, found.last_modified)

    def move_when_done(self, key: str, etag: str) -> bool:
        """Move the recording from its inbox to `DONE_`, replacing one of the same name; return whether it was moved.

        Its key does not change: `stat` and the URL methods find it there. It is not moved if its version is no longer
        `etag` (the new version is still to be processed), if it was moved before, or if it is reached through a link.

        Raises:
            NotFound: the recording does not exist.
            PermanentFailure: the store is read-only or denies access.
            TransientFailure: the copy is incomplete, or the store is full or does not answer.

        """
        self._require_writable(key)
        name = decode(key)

        def arrived(moved_entry: ObjectEntry) -> None:
            if moved_entry.etag != etag:
                self.write(moved(key), json.dumps({"etag": etag, "etag_when_moved": moved_entry.etag}).encode())

        try:
            return self._backend.move(name, DONE + name, etag, arrived)
        except NotFound:
            if self._done(key) is None:
                raise
            return False

    def media_url(self, key: str) -> str:
        """Return ffmpeg's input for the recording: `file:/path`, or a signed URL that is valid for one hour.

        Raises:
            TranscriptionError: a link leads out of the store, or the store denies access or does not answer.

        """
        return self._backend.readable_url(self._name(key))

    def read_media(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` (at least 1) bytes of the recording from `start` on; empty if it ends before.

        Raises:
            NotFound: the recording does not exist.
            PermanentFailure: a link leads out of the store, or access is denied.
            TransientFailure: the store does not answer.

        """
        return self._backend.read_range(self._name(key), start, length)

    def public_url(self, key: str) -> str:
        """Return the location of the recording for display: a `file://` or `s3://` URL.

        Raises:
            TranscriptionError: the recording cannot be looked up.

        """
        return self._backend.public_url(self._name(key))

    def playable_url(self, key: str) -> str:
        """Return a URL that a browser plays: `file://`, or a signed URL that is valid for one hour.

        A signed URL grants access without credentials: return it to the user who requested it, and never write it to
        logs or metadata.

        Raises:
            TranscriptionError: the recording cannot be looked up, or the URL cannot be signed.

        """
        return self._backend.playable_url(self._name(key))

    def put_media(self, name: str, source: Path, *, move: bool = False) -> str:
        """Copy a local recording into the store as `name` (`video/talks/a.mp4`) and return its media key.

        With `move` the file is gone afterwards; within one file system it is renamed, which takes no time and no space.

        Raises:
            PermanentFailure: the store is read-only or denies access, or `name` is invalid.
            TransientFailure: the store is full or does not answer.

        """
        self._require_writable(name)
        self._backend.put(name, source, move=move)
        if move:
            source.unlink(missing_ok=True)
        return encode(name)

    def artefact_url(self, path: str) -> str:
        """Return the location of an artefact for display: a `file://` or `s3://` URL.

        Raises:
            NotFound: `path` has an empty, `.` or `..` segment (local folders only).

        """
        return self._backend.public_url(path)

    def playable_artefact_url(self, path: str) -> str:
        """Return a URL that a browser opens, as `playable_url` does for a recording.

        Raises:
            TranscriptionError: `path` is invalid, or the URL cannot be signed.

        """
        return self._backend.playable_url(path)

    def readable_url(self, path: str) -> str:
        """Return ffmpeg's input for an artefact, as `media_url` does for a recording.

        Raises:
            TranscriptionError: `path` is invalid or leads out of the store, or the URL cannot be signed.

        """
        return self._backend.readable_url(path)

    def exists(self, path: str) -> bool:
        """Return whether the artefact exists.

        Raises:
            TranscriptionError: the store denies access or does not answer, or `path` is not that of a file in it.

        """
        try:
            with self._translate_errors(path):
                obstore.head(self._backend.objects, path)
        except NotFound:
            return False
        return True

    def version(self, path: str) -> str:
        """Return the ETag of an artefact, "" if there is none.

        Raises:
            TranscriptionError: the store denies access or does not answer, or `path` is not that of a file in it.

        """
        try:
            with self._translate_errors(path):
                return obstore.head(self._backend.objects, path)["e_tag"] or ""
        except NotFound:
            return ""

    def last_modified(self, path: str) -> datetime:
        """Return the time of the last change of an artefact (UTC).

        Raises:
            NotFound: there is no such artefact.
            TranscriptionError: the store denies access or does not answer, or `path` is not that of a file in it.

        """
        with self._translate_errors(path):
            return obstore.head(self._backend.objects, path)["last_modified"]

    def read(self, path: str) -> bytes:
        """Return the content of an artefact.

        Raises:
            NotFound: there is no such artefact.
            PermanentFailure: the store denies access, or `path` is not that of a file in it.
            TransientFailure: the store does not answer, or ended its answer early.

        """
        with self._translate_errors(path):
            found, size = self._get(path)
            data = bytes(found.bytes())
            _require_complete(len(data), size)
        return data

    def read_small(self, path: str, most_bytes: int) -> bytes:
        """Return the content of a file that users put into the store by hand.

        Raises:
            NotFound: there is no such file (NotRegular: it is a folder or a pipe, which is never opened).
            TooLarge: it has more than `most_bytes` and was not read.
            PermanentFailure: the store denies access.
            TransientFailure: the store does not answer, or ended its answer early.

        """
        found = self._backend.entry(path)
        if found.size > most_bytes:
            hint = f"reduce it to at most {most_bytes} bytes"
            raise TooLarge(f"{self.url}/{path}: too large ({found.size} bytes); {hint}", hint=hint)
        return self.read(path)

    def fetch(self, path: str, target: Path) -> None:
        """Copy an artefact to a local file, block by block.

        Raises:
            NotFound: there is no such artefact.
            PermanentFailure: the store denies access, or `path` is not that of a file in it.
            TransientFailure: the local disk is full, or the store does not answer or ended its answer early.

        """
        with self._translate_errors(path):
            found, size = self._get(path)
            with target.open("wb") as file:
                file.writelines(found.stream(min_chunk_size=_BLOCK))
                _require_complete(file.tell(), size)

    def write(self, path: str, data: bytes) -> None:
        """Write an artefact atomically: readers get the old content or the new content.

        Raises:
            PermanentFailure: the store is read-only or denies access, or `path` is a folder or outside the store.
            TransientFailure: the store is full or does not answer.

        """
        self._require_writable(path)
        with self._translate_errors(path):
            obstore.put(self._backend.objects, path, data)

    def write_new(self, path: str, data: bytes) -> bool:
        """Write an artefact if none exists; return False if one exists, also if another process has just written it.

        Raises:
            PermanentFailure: the store is read-only or denies access, or `path` is a folder or outside the store.
            TransientFailure: the store is full or does not answer.

        """
        self._require_writable(path)
        with self._translate_errors(path):
            try:
                obstore.put(self._backend.objects, path, data, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def upload(self, path: str, source: Path) -> None:
        """Write an artefact from a local file, block by block, as atomically as `write`.

        Raises:
            PermanentFailure: the store is read-only or denies access, or `path` is a folder or outside the store.
            TransientFailure: the store is full or does not answer.

        """
        self._require_writable(path)
        with self._translate_errors(path):
            obstore.put(self._backend.objects, path, source)

    def delete(self, *paths: str) -> None:
        """Delete artefacts; missing ones are ignored.

        Raises:
            PermanentFailure: the store is read-only or denies access, or a path is outside the store.
            TransientFailure: the store does not answer.

        """
        for path in paths:
            self._require_writable(path)
            try:
                with self._translate_errors(path):
                    obstore.delete(self._backend.objects, path)
            except (NotFound, Occupied):
                continue

    def delete_below(self, folder: str) -> None:
        """Delete all artefacts below a folder such as `work/1/`, and on disk the folder.

        Raises:
            PermanentFailure: the store is read-only or denies access.
            TransientFailure: the store does not answer.

        """
        self.delete(*self.list(folder))
        self._backend.remove_empty(folder)

    def list(self, prefix: str) -> list[str]:
        """Return the paths of all artefacts below a folder such as `transcripts/`, sorted; empty if it is missing.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        try:
            names = [entry.name for entry in self._backend.entries(prefix)]
        except NotFound:
            return []
        return sorted(name for name in names if not (self.is_local and _BEING_WRITTEN.search(name)))

    def versions(self, prefix: str) -> dict[str, str]:
        """Return the ETags of all artefacts below a folder by path; empty if the folder is missing.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        try:
            found = {entry.name: entry.etag for entry in self._backend.entries(prefix)}
        except NotFound:
            return {}
        return {name: etag for name, etag in found.items() if not (self.is_local and _BEING_WRITTEN.search(name))}

    def oldest_first(self, prefix: str) -> dict[str, datetime]:
        """Return the times of modification (UTC) of all artefacts below a folder by path, the oldest first.

        Raises:
            NotFound: the folder is missing (local folders only).
            TranscriptionError: the store denies access or does not answer.

        """
        entries = sorted(self._backend.entries(prefix), key=attrgetter("last_modified", "name"))
        return {
            entry.name: entry.last_modified
            for entry in entries
            if not (self.is_local and _BEING_WRITTEN.search(entry.name))
        }

    @property
    def lancedb_uri(self) -> str:
        """Folder or `s3://…` of the LanceDB tables."""
        return f"{self.url}/lancedb"

    @property
    def lancedb_options(self) -> dict[str, str]:
        """LanceDB's `storage_options` with the current credentials, which expire: read them for each connection."""
        return self._backend.lancedb_options()

    @contextmanager
    def _translate_errors(self, path: str) -> Iterator[None]:
        """Wrap a request for an artefact: require that it is inside the store, and translate errors."""
        with self._backend.translate_errors(f"{self.url}/{path}"):
            self._backend.check(path)
            yield

    def _require_writable(self, path: str) -> None:
        if self._read_only:
            raise PermanentFailure(f"{self.url}/{path}: the store is opened read-only")

    def _get(self, path: str) -> "tuple[GetResult, int]":
        """Request an object and return it with its size; a range request makes the response itself state the size."""
        objects = self._backend.objects
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
        """Return the current name of the recording; the name in the inbox if it does not exist."""
        try:
            return self._backend.entry(decode(key)).name
        except NotFound:
            done = self._done(key)
            return decode(key) if done is None else done.name

    def _done(self, key: str) -> ObjectEntry | None:
        """Return the recording below `DONE_`, if it exists."""
        if not key.startswith(INBOXES):
            return None
        try:
            return self._backend.entry(DONE + decode(key))
        except NotFound:
            return None

    def _etag_in_the_inbox(self, key: str, etag: str) -> str:
        """Return the ETag before the move, or `etag` if it did not change or the object was replaced since."""
        try:
            record = json.loads(self.read(moved(key)))
            return str(record["etag"]) if record["etag_when_moved"] == etag else etag
        except (NotFound, ValueError, KeyError, TypeError):  # missing or damaged
            return etag


def _require_complete(received: int, size: int) -> None:
    """Check the length of a response, which some stores truncate without an error."""
    if received < size:
        raise OSError(f"incomplete response ({received} of {size} bytes); try again")
