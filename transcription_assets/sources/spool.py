"""The spool of uploads: a bounded folder on local disk that holds what clients have sent so far.

An upload is a record `<id>.json` and its bytes `<id>.part`. The offset is the size of the part, so that nothing has to
be written when a connection or a process ends. Several processes may share a folder: a lock protects the limits, and
each upload has one writer at a time.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import TypeAdapter

from transcription_assets.domain.text import printable
from transcription_assets.errors import NotFound, PermanentFailure, StoreFull, TooLarge, TransientFailure
from transcription_assets.sources import names
from transcription_assets.storage.errors import translate_errors

MOST_ENDED = 1000
"""Records of uploads that have ended, which tell clients about the outcome until they expire."""
FREE_BYTES = 256 << 20
"""Bytes of the disk that uploads leave free."""
UNSTARTED_S = 900.0
"""Time without progress after which an upload without bytes, or one that cannot be resumed, is deleted."""
LOCK_S = 10.0
_NAME = re.compile(r"[0-9a-f]{32}")

State = Literal["receiving", "checking", "storing", "landed", "failed"]
ENDED: frozenset[State] = frozenset({"landed", "failed"})
log = logging.getLogger(__name__)


class UnsupportedFile(PermanentFailure):
    """The name of a file is not that of a recording."""


class EmptyFile(PermanentFailure):
    """A file of no bytes."""


class TooManyUploads(TransientFailure):
    """The limit of unfinished uploads is reached."""


class UploadInUse(TransientFailure):
    """Another request or process writes or reads this upload."""


class WrongOffset(PermanentFailure):
    """The bytes do not begin where the received ones end."""


class WrongChecksum(PermanentFailure):
    """The bytes of a request do not have the checksum that was sent with them."""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Limits in bytes, for one upload and for all unfinished ones; `expire_s` is the time without progress."""

    most_bytes: int
    most_unfinished_bytes: int
    most_unfinished: int
    expire_s: float


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """Description of a file by its client; `length` in bytes, `user` is whom a proxy signed in.

    `metadata` is the header Upload-Metadata, which is sent back.
    """

    filename: str
    length: int
    content_type: str = ""
    folder: str = ""
    title: str = ""
    user: str = ""
    is_resumable: bool = True
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload. `name` is that in the inbox; `created` is Unix time in seconds, `reason` why it failed or waits.

    `title` is what the client or the tags of the file state; "" = the name of the file is the title.

    `unchecked_from` is the offset from which bytes have a checksum that has not been compared, None if there are none.
    """

    identifier: str
    filename: str
    name: str
    title: str
    length: int
    user: str
    created: float
    state: State = "receiving"
    reason: str = ""
    unchecked_from: int | None = None
    is_resumable: bool = True
    metadata: str = ""


_ADAPTER = TypeAdapter(Upload)


@dataclass
class UploadSpool:
    """Uploads in `folder`, which is made when the first one begins. `now` is a clock in seconds (Unix)."""

    folder: Path
    limits: SpoolLimits
    now: Callable[[], float] = time.time
    free: Callable[[Path], int] = field(default=lambda folder: shutil.disk_usage(folder).free)

    def create(self, request: UploadRequest) -> Upload:
        """Begin an upload, which reserves its length of the limits.

        Raises:
            UnsupportedFile: neither name nor type is that of a recording.
            EmptyFile: its length is 0.
            TooLarge: it exceeds the maximum size.
            TooManyUploads: the limit of unfinished uploads is reached.
            StoreFull: the spool or its disk has no room for it.
            TranscriptionError: the folder cannot be written.

        """
        identifier = secrets.token_hex(16)
        name = names.uploaded(request.filename, request.content_type, request.folder, identifier[:8])
        shown = names.uploaded_title(request.filename) or "the file"
        if not name:
            raise UnsupportedFile(
                f"{shown}: neither its name nor its type is that of a recording (such as .mp4 or .mp3)"
            )
        if request.length == 0:
            raise EmptyFile(f"{shown}: the file is empty")
        if request.length > self.limits.most_bytes:
            hint = "raise TRANSCRIPTION_UPLOAD_MAX_GB"
            raise TooLarge(
                f"{shown}: {request.length / 1e9:.3g} GB are more than the {self.limits.most_bytes / 1e9:g} GB that one"
                " upload may have (TRANSCRIPTION_UPLOAD_MAX_GB)",
                hint=hint,
            )
        upload = Upload(
            identifier=identifier,
            filename=printable(request.filename)[: names.LONGEST_UPLOADED_TITLE],
            name=name,
            title=printable(request.title)[: names.LONGEST_UPLOADED_TITLE],
            length=request.length,
            user=request.user,
            created=self.now(),
            is_resumable=request.is_resumable,
            metadata=request.metadata,
        )
        with translate_errors(str(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=LOCK_S):
                self._require_room(request.length)
                self.path(identifier).touch(exist_ok=False)
                self._write(upload)
        return upload

    def get(self, identifier: str) -> Upload:
        """Return an upload.

        Raises:
            NotFound: there is none, or it has expired.
            TranscriptionError: the folder cannot be read.

        """
        if not _NAME.fullmatch(identifier):
            raise NotFound("no such upload")
        with translate_errors(str(self.folder)):
            try:
                found = _ADAPTER.validate_python(json.loads(self._record(identifier).read_bytes()))
            except (FileNotFoundError, ValueError):
                raise NotFound("no such upload; it has expired, or was cancelled") from None
        return found

    def offset(self, upload: Upload) -> int:
        """Return the number of bytes that were received; all of them once the upload has ended."""
        if upload.state != "receiving":
            return upload.length
        with suppress(FileNotFoundError):
            size = self.path(upload.identifier).stat().st_size
            return size if upload.unchecked_from is None else min(size, upload.unchecked_from)
        return 0

    def expires(self, upload: Upload) -> float:
        """Return when the upload is deleted unless it makes progress (Unix time in seconds).

        A complete upload that has not landed does not expire: for it, the time is always in the future.
        """
        most_s = self.limits.expire_s
        if upload.state not in ENDED:
            offset = self.offset(upload)
            if offset == upload.length:
                return self.now() + most_s
            if not offset or not upload.is_resumable:
                most_s = min(most_s, UNSTARTED_S)
        return self._touched(upload.identifier) + most_s

    def path(self, identifier: str) -> Path:
        """Return the path of the bytes of an upload."""
        return self.folder / f"{identifier}.part"

    @contextmanager
    def writing(self, identifier: str, offset: int, checksum: "Checksum | None" = None) -> Iterator["UploadWriter"]:
        """Yield a writer that appends from `offset` on; with a checksum, the bytes count only if they have it.

        Raises:
            NotFound: there is no such upload.
            UploadInUse: another request or process has it, or it is complete.
            WrongOffset: `offset` is not the number of bytes that were received.
            WrongChecksum: the bytes have another checksum; raised at the end of the block.
            TranscriptionError: the folder cannot be written, or the disk is full.

        """
        self.get(identifier)
        with self.locked(identifier) as file, translate_errors(str(self.folder)):
            upload = self.get(identifier)  # another request may have changed it before this one had the lock
            if upload.state != "receiving":
                raise UploadInUse(f"{upload.filename}: the upload is complete")
            start = self.offset(upload)
            if offset != start:
                raise WrongOffset(f"{upload.filename}: received {start} bytes, but these begin at {offset}")
            file.truncate(start)
            file.seek(start)
            if checksum or upload.unchecked_from is not None:  # a killed process left unchecked bytes, now truncated
                self._write(replace(upload, unchecked_from=start if checksum else None))
            writer = UploadWriter(file, upload.length, start, checksum)
            is_valid = checksum is None
            try:
                yield writer
                is_valid = checksum is None or checksum.matches
            finally:
                if not is_valid:
                    file.truncate(start)
                os.fsync(file.fileno())
                if checksum:
                    self._write(replace(upload, unchecked_from=None))
            if checksum:
                checksum.require_match(upload.filename)

    @contextmanager
    def locked(self, identifier: str) -> Iterator[FileIO]:
        """Yield the file of the bytes while no other request or process has it.

        Raises:
            NotFound: there is no such file.
            UploadInUse: another request or process has it.
            TranscriptionError: the file cannot be opened or locked.

        """
        with ExitStack() as stack:
            with translate_errors(str(self.folder)):
                try:
                    file = stack.enter_context(self.path(identifier).open("r+b", buffering=0))
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_current = os.path.samestat(self.path(identifier).stat(), os.fstat(file.fileno()))
                except FileNotFoundError:
                    is_current = False
                except BlockingIOError:
                    raise UploadInUse("another request writes this upload; try again") from None
            if not is_current:  # deleted or moved, perhaps between opening and locking
                raise NotFound("no such upload; it has expired, was cancelled, or has ended")
            yield file

    def mark(self, upload: Upload, state: State, reason: str = "", *, length: int | None = None) -> Upload:
        """Write a new state; the bytes of an upload that has ended are deleted.

        Raises:
            TranscriptionError: the folder cannot be written.

        """
        changed = replace(upload, state=state, reason=reason, length=upload.length if length is None else length)
        with translate_errors(str(self.folder)):
            self._write(changed)
            if state in ENDED:
                self.path(upload.identifier).unlink(missing_ok=True)
        return changed

    def discard(self, identifier: str) -> None:
        """Delete an upload, its bytes first.

        Raises:
            UploadInUse: another request or process has it.
            TranscriptionError: the folder cannot be written.

        """
        with translate_errors(str(self.folder)):
            try:
                with self.locked(identifier):
                    self.path(identifier).unlink(missing_ok=True)
                    self._record(identifier).unlink(missing_ok=True)
            except NotFound:
                self._record(identifier).unlink(missing_ok=True)

    def all(self) -> list[Upload]:
        """Return all uploads, oldest first; damaged records are left out.

        Raises:
            TranscriptionError: the folder cannot be read.

        """
        with translate_errors(str(self.folder)):
            found = []
            for path in self.folder.glob("*.json"):
                with suppress(NotFound):
                    found.append(self.get(path.stem))
        return sorted(found, key=lambda upload: upload.created)

    def expire(self) -> int:
        """Delete what has expired, and the oldest records of ended uploads; return how many uploads were deleted.

        Raises:
            TranscriptionError: the folder cannot be read or written.

        """
        now = self.now()
        uploads = self.all()
        ended = [upload for upload in uploads if upload.state in ENDED]
        surplus = {upload.identifier for upload in ended[: max(0, len(ended) - MOST_ENDED)]}
        count = 0
        for upload in uploads:
            if upload.identifier in surplus or self.expires(upload) < now:
                with suppress(UploadInUse):
                    received = self.offset(upload)
                    self.discard(upload.identifier)
                    log.warning(
                        "upload %s expired: %s, %s, %s of %s bytes",
                        upload.identifier,
                        upload.filename,
                        upload.state,
                        received,
                        upload.length,
                    )
                    count += 1
        known = {upload.identifier for upload in uploads}
        for path in (*self.folder.glob("*.part"), *self.folder.glob("*.new"), *self.folder.glob("*.json")):
            with suppress(OSError):  # gone meanwhile
                if path.stem not in known and path.stat().st_mtime < now - self.limits.expire_s:
                    path.unlink()
                    log.warning("deleted %s, which belongs to no upload", path.name)
        return count

    def _require_room(self, length: int) -> None:
        unfinished = [upload for upload in self.all() if upload.state not in ENDED]
        if len(unfinished) >= self.limits.most_unfinished:
            raise TooManyUploads(
                f"{len(unfinished)} uploads are unfinished; try again when they end"
                " (TRANSCRIPTION_UPLOAD_MAX_UNFINISHED)",
                hint="raise TRANSCRIPTION_UPLOAD_MAX_UNFINISHED",
            )
        if sum(upload.length for upload in unfinished) + length > self.limits.most_unfinished_bytes:
            raise StoreFull(
                "unfinished uploads use all the space that they may have; try again when they end"
                " (TRANSCRIPTION_UPLOAD_SPOOL_GB)",
                hint="raise TRANSCRIPTION_UPLOAD_SPOOL_GB",
            )
        missing = sum(upload.length - self.offset(upload) for upload in unfinished)
        if self.free(self.folder) < missing + length + FREE_BYTES:
            raise StoreFull(
                "the disk of the uploads has no room for this file; free some space (TRANSCRIPTION_UPLOADS_DIR)",
                hint="free some space in TRANSCRIPTION_UPLOADS_DIR",
            )

    def _touched(self, identifier: str) -> float:
        """Return when the upload received its last bytes, or when it ended (Unix time in seconds)."""
        for path in (self.path(identifier), self._record(identifier)):
            with suppress(FileNotFoundError):
                return path.stat().st_mtime
        return 0.0

    def _write(self, upload: Upload) -> None:
        new = self.folder / f"{upload.identifier}.new"
        new.write_text(json.dumps(asdict(upload)), encoding="utf-8")
        new.replace(self._record(upload.identifier))

    def _record(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.json"


class Checksum:
    """The checksum that a client sent with its bytes; `algorithm` is one of `ALGORITHMS`."""

    ALGORITHMS = ("sha1", "sha256")

    def __init__(self, algorithm: str, expected: bytes) -> None:
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self._expected = expected

    def update(self, data: bytes | memoryview) -> None:
        """Add received bytes."""
        self._digest.update(data)

    @property
    def matches(self) -> bool:
        """Return whether the bytes so far have the checksum."""
        return self._digest.digest() == self._expected

    def require_match(self, name: str) -> None:
        """Check the bytes.

        Raises:
            WrongChecksum: they have another checksum.

        """
        if not self.matches:
            raise WrongChecksum(f"{name}: the bytes were damaged on their way; send them again")


@dataclass
class UploadWriter:
    """Appends to an upload of `length` bytes, of which `offset` have been received."""

    file: FileIO
    length: int
    offset: int
    checksum: Checksum | None = None

    def write(self, data: bytes) -> None:
        """Append bytes; those that do not fit on the disk are left out.

        Raises:
            TooLarge: they are more than the length of the upload.
            StoreFull: the disk is full.
            TranscriptionError: the file cannot be written.

        """
        if self.offset + len(data) > self.length:
            raise TooLarge(f"more than the {self.length} bytes that were announced")
        waiting = memoryview(data)
        with translate_errors(str(self.file.name)):
            while waiting:
                written = self.file.write(waiting)
                if self.checksum:
                    self.checksum.update(waiting[:written])
                self.offset += written
                waiting = waiting[written:]
