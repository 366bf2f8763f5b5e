"""The store in a local folder."""

import errno
import logging
import os
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import IO

from obstore.store import LocalStore, ObjectStore

from transcription_assets.domain.media_keys import INBOXES, encode, is_media
from transcription_assets.errors import NotFound, NotRegular, Occupied, PermanentFailure, Refused, TransientFailure
from transcription_assets.storage import temporary
from transcription_assets.storage.backend import Listing, ObjectEntry, listing
from transcription_assets.storage.errors import translate_errors

log = logging.getLogger(__name__)

_BLOCK = 8 << 20


class Folder:
    """A local folder; names that are not UTF-8 are as `os.fsdecode` returns them.

    A link is followed if its target is inside the store or one of `link_roots`. The folders directly below the root
    may be links to anywhere, since only the owner of the store can create them.

    Raises:
        PermanentFailure: `read_only` is set and there is no such folder, or access is denied.
        TransientFailure: the folders cannot be created, for example because the disk is full or read-only.

    """

    def __init__(self, root: Path, link_roots: Sequence[Path] = (), *, read_only: bool = False) -> None:
        self._root = root.absolute()
        self._read_only = read_only
        self.url = str(self._root)
        with translate_errors(self.url):
            if read_only and not self._root.is_dir():
                raise PermanentFailure(
                    f"no store at {self.url}: set TRANSCRIPTION_STORE to the folder or bucket of the recordings, or"
                    " create the store with `transcription-assets put`",
                    hint="set TRANSCRIPTION_STORE",
                )
            if not read_only:
                for inbox in INBOXES:
                    (self._root / inbox).mkdir(parents=True, exist_ok=True)
            self.objects: ObjectStore = LocalStore(self._root)
        self._allowed = [os.path.realpath(path) for path in (self._root, *link_roots)]

    def translate_errors(self, what: str) -> AbstractContextManager[None]:
        """Translate the errors of a block; messages name `what`.

        Raises:
            TranscriptionError: the failure of the block, see `storage.errors`.

        """
        return translate_errors(what)

    def check(self, path: str) -> None:
        """Check that the path can be that of a file in the store.

        Raises:
            PermanentFailure: the path contains `..`.
            Refused: a link leads out of the store.
            Occupied: it is the path of a folder.

        """
        if ".." in path.split("/"):
            raise PermanentFailure(f"{self.url}/{path}: invalid path: it contains `..`")
        self._require_inside(path)
        if Path(f"{self.url}/{path}").is_dir():
            raise Occupied(
                f"{self.url}/{path}: a folder of this name exists; rename the folder or the recording",
                hint="rename the folder or the recording",
            )

    def _require_inside(self, path: str) -> None:
        if not self._is_inside(f"{self.url}/{path}"):
            raise Refused(
                f"{self.url}/{encode(path)}: the link leads out of the store; add its target folder to"
                " TRANSCRIPTION_LINK_ROOTS, or copy the file",
                hint="add its target folder to TRANSCRIPTION_LINK_ROOTS, or copy the file",
            )

    def entries(self, folder: str) -> list[ObjectEntry]:
        """List every file below `folder`, following links.

        Raises:
            NotFound: there is no such folder.
            TransientFailure: a folder cannot be read.
            Refused: access to `folder` is denied.

        """
        return self._list(folder)[0]

    def remove_empty(self, folder: str) -> None:
        """Remove a folder and the empty folders below it."""
        for place, _, _ in os.walk(self._root / folder, topdown=False):
            with suppress(OSError):  # it holds files, or another process removed it or writes to it
                Path(place).rmdir()

    def recordings(self, folder: str) -> Listing:
        """List every recording below `folder`; none if it is missing and the store is read-only.

        Raises:
            NotFound: there is no such folder.
            TransientFailure: a folder cannot be read.
            Refused: access to `folder` is denied.

        """
        if self._read_only and not (self._root / folder).exists():
            return listing([])  # inboxes are not created in a read-only store
        entries, unread = self._list(folder)
        return replace(listing(entries), unread=unread)

    def entry(self, name: str) -> ObjectEntry:
        """Look up a file.

        Raises:
            NotFound: there is no such file (NotRegular: it is not a regular file).
            Refused: a link leads out of the store, or access is denied.
            TransientFailure: the file cannot be looked up now.

        """
        location = f"{self.url}/{encode(name)}"
        path = self._path(name)
        with translate_errors(location):
            self._require_inside(name)
            found = _local_entry(name, Path(path).stat())
        if found is None:
            raise NotRegular(f"{location}: not a regular file")
        return found

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes of a file from `start` on; empty if it ends before.

        Raises:
            NotFound: there is no such file (NotRegular: it is not a regular file, and was not opened).
            Refused: a link leads out of the store, or access is denied.
            TransientFailure: the file cannot be read now.

        """
        self.entry(name)
        with translate_errors(f"{self.url}/{encode(name)}"), Path(self._path(name)).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def move(self, source: str, target: str, etag: str, arrived: Callable[[ObjectEntry], None]) -> bool:
        """Rename the file; if the target is on another disk, copy it under a temporary name first, then delete it.

        A file that is reached through a link is not moved.

        Raises:
            NotFound: there is no such file.
            PermanentFailure: access is denied, or a link leads out of the store.
            TransientFailure: the disk is full or cannot be written.

        """
        original, destination = Path(self._path(source)), Path(self._path(target))
        if self.entry(source).etag != etag:
            return False
        if original.resolve() != self._root.resolve() / source:
            log.warning("%s/%s: not moved, as its path contains a link", self.url, encode(source))
            return False
        with translate_errors(f"{self.url}/{encode(target)}"):
            destination.parent.mkdir(parents=True, exist_ok=True)
            if not _renamed(original, destination):
                return self._copy_across_disks(source, target, etag, arrived)
        if self.entry(target).etag == etag:
            return True
        with suppress(FileExistsError):
            # The file was replaced just before the rename: move it back. Unlike a rename, a hard link replaces no file.
            original.hardlink_to(destination)
            destination.unlink()
        return False

    def readable_url(self, name: str) -> str:
        """Return `file:` and the path, which ffmpeg accepts without escapes.

        Raises:
            NotFound: the name has an empty, `.` or `..` segment.
            Refused: a link leads out of the store.

        """
        path = self._path(name)
        self._require_inside(name)
        return f"file:{path}"

    def playable_url(self, name: str) -> str:
        """Return the `file://` URL.

        Raises:
            NotFound: the name has an empty, `.` or `..` segment.

        """
        return self.public_url(name)

    def put(self, name: str, source: Path, *, move: bool = False) -> None:
        """Copy the file with its modification time, under a temporary name until it is complete.

        With `move` it is renamed if it is on the same disk.

        Raises:
            PermanentFailure: the name is invalid, a link leads out of the store, or access is denied.
            TransientFailure: the disk is full or cannot be written.

        """
        target = Path(self._path(name))
        with translate_errors(f"{self.url}/{encode(name)}"):
            self._require_inside(name.rpartition("/")[0])
            target.parent.mkdir(parents=True, exist_ok=True)
            if move and _renamed(source, target):
                return
            with temporary.published(target) as file:
                _copy(source, file)

    def public_url(self, name: str) -> str:
        """Return the `file://` URL.

        Raises:
            NotFound: the name has an empty, `.` or `..` segment.

        """
        return Path(self._path(name)).as_uri()

    def lancedb_options(self) -> dict[str, str]:
        """Return LanceDB's `storage_options`: none."""
        return {}

    def _path(self, name: str) -> str:
        if {"", ".", ".."} & set(name.split("/")):
            raise NotFound(f"{self.url}/{encode(name)}: invalid file name")
        return f"{self.url}/{name}"

    def _copy_across_disks(self, source: str, target: str, etag: str, arrived: Callable[[ObjectEntry], None]) -> bool:
        original, destination = Path(self._path(source)), Path(self._path(target))
        try:
            with temporary.published(destination) as file:
                _copy(original, file)
                self._require_version(source, etag)
        except _Replaced:
            return False
        arrived(self.entry(target))
        original.unlink()
        return True

    def _require_version(self, name: str, etag: str) -> None:
        if self.entry(name).etag != etag:
            raise _Replaced

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self.url}/")

    def _is_inside(self, path: str) -> bool:
        """Return whether the path is inside the store or an allowed root after links are resolved."""
        folder, below, _ = path.removeprefix(f"{self.url}/").partition("/")
        top = f"{self.url}/{folder}"
        links = [os.path.realpath(top)] if below or Path(top).is_dir() else []
        real = os.path.realpath(path)
        return any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in (*self._allowed, *links))

    def _list(self, folder: str) -> tuple[list[ObjectEntry], int]:
        """Return the files, and the number of links that are broken or lead out of the store."""
        top = self._root / folder
        with translate_errors(str(top)):
            top.stat()
        found = list(self._walk(str(top)))
        entries = [entry for entry in found if entry is not None]
        return entries, len(found) - len(entries)

    def _walk(self, top: str) -> Iterator[ObjectEntry | None]:
        """Yield every file, visiting each real folder once; None for a link that is broken or leads out of the store.

        Links to folders come last, so that a recording has the key of its real location.
        """
        seen = {_identity(self._root.stat())} - {_identity(Path(top).stat())}
        folders, links = deque([top]), deque[str]()
        while folders or links:
            directory = folders.popleft() if folders else links.popleft()
            try:
                identity = _identity(Path(directory).stat())
                if identity in seen:
                    log.warning("%r: not followed, as this link leads to a folder that is already listed", directory)
                    continue
                seen.add(identity)
                with os.scandir(directory) as scan:
                    found = sorted(scan, key=attrgetter("name"))
            except OSError as error:
                raise self._unreadable(directory, error) from error
            for item in found:
                if item.is_symlink() and not self._is_inside(item.path):
                    log.warning(
                        "%r: ignored, as this link leads out of the store (see TRANSCRIPTION_LINK_ROOTS)", item.path
                    )
                    if is_media(item.name) or _is_folder(item):
                        yield None
                elif _is_folder(item):
                    (links if item.is_symlink() else folders).append(item.path)
                else:
                    yield from self._file(item)

    def _file(self, item: os.DirEntry[str]) -> Iterator[ObjectEntry | None]:
        """Yield the entry of a regular file, None for a broken link, and nothing for other files."""
        try:
            entry = _local_entry(self._name(item.path), item.stat())
        except OSError as error:
            self._leave_out(item, error)
            if item.is_symlink():
                yield None
            return
        if entry is not None:
            yield entry

    def _leave_out(self, item: os.DirEntry[str], error: OSError) -> None:
        """Log a file that vanished or a broken link; raise for any other error, which may affect more files."""
        if error.errno != errno.ENOENT and not item.is_symlink():
            raise self._unreadable(item.path, error) from error
        log.warning("%r: ignored: %s", item.path, error.strerror)

    def _unreadable(self, path: str, error: OSError) -> TransientFailure:
        location = f"{self.url}/{encode(self._name(path))}"
        hint = "check its mount and its permissions"
        return TransientFailure(f"{location}: cannot be read ({error.strerror}); {hint}", hint=hint)


class _Replaced(Exception):
    """The file was replaced while it was copied."""


def _renamed(source: Path, target: Path) -> bool:
    """Rename a file; return False if the target is on another disk."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _copy(source: Path, file: IO[bytes]) -> None:
    """Copy the content and the file times."""
    with source.open("rb") as original:
        shutil.copyfileobj(original, file, _BLOCK)
    file.flush()
    shutil.copystat(source, file.name)


def _is_folder(item: os.DirEntry[str]) -> bool:
    """Return whether the item is a folder or a link to one; False if that cannot be determined."""
    try:
        return item.is_dir()
    except OSError:
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _local_entry(name: str, status: os.stat_result) -> ObjectEntry | None:
    """Return the entry of a regular file, else None; ctime is its last change, since mtime can be set by users."""
    if not stat.S_ISREG(status.st_mode):
        return None
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    return ObjectEntry(name, etag, status.st_size, datetime.fromtimestamp(status.st_ctime, UTC))
