"""A store in a local folder."""

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

from transcription_assets.failures import NotFound, NotRegular, Occupied, PermanentFailure, Refused, TransientFailure
from transcription_assets.keys import INBOXES, encode, is_media
from transcription_assets.storage import parts
from transcription_assets.storage.errors import explained
from transcription_assets.storage.place import Entry, Listing, listing

log = logging.getLogger(__name__)

_BLOCK = 8 << 20


class Folder:
    """A local folder. Names are bytes to the system; they come as `os.fsdecode` gives them.

    A link is followed where it leads to something inside the store, or inside one of `link_roots`. The folders directly
    below the root may be links to anywhere: whoever made the store made them.
    """

    def __init__(self, root: Path, link_roots: Sequence[Path] = (), *, read_only: bool = False) -> None:
        self._root = root.absolute()
        self._read_only = read_only
        self.url = str(self._root)
        with explained(self.url):
            if read_only and not self._root.is_dir():
                raise PermanentFailure(
                    f"there is no store at {self.url}: set TRANSCRIPTION_STORE to the folder or bucket of the"
                    " recordings, or put the first ones there (transcription-assets put)",
                    hint="set TRANSCRIPTION_STORE",
                )
            if not read_only:
                for inbox in INBOXES:
                    (self._root / inbox).mkdir(parents=True, exist_ok=True)
            self.objects: ObjectStore = LocalStore(self._root)
        self._allowed = [os.path.realpath(path) for path in (self._root, *link_roots)]

    def answered(self, what: str) -> AbstractContextManager[None]:
        """Turn errors into failures that name `what`."""
        return explained(what)

    def check(self, path: str) -> None:
        """Raise Refused where the path leads out of the store by way of a link, Occupied where a folder is there."""
        if ".." in path.split("/"):
            raise PermanentFailure(f"{self.url}/{path}: no path in a store")
        self._require_inside(path)
        if Path(f"{self.url}/{path}").is_dir():
            raise Occupied(
                f"{self.url}/{path}: a folder has the name of this file; rename the folder or the recording",
                hint="rename the folder or the recording",
            )

    def _require_inside(self, path: str) -> None:
        if not self._is_inside(f"{self.url}/{path}"):
            raise Refused(
                f"{self.url}/{encode(path)}: a link out of the store; add the folder that it leads to to"
                " TRANSCRIPTION_LINK_ROOTS, or copy the file",
                hint="add its target to TRANSCRIPTION_LINK_ROOTS",
            )

    def entries(self, folder: str) -> list[Entry]:
        """Every file below `folder`, by way of links too."""
        return self._found(folder)[0]

    def recordings(self, folder: str) -> Listing:
        """Every recording below `folder`."""
        if self._read_only and not (self._root / folder).exists():
            return listing([])  # nobody makes the inboxes of a store that is only read
        entries, unread = self._found(folder)
        return replace(listing(entries), unread=unread)

    def entry(self, name: str) -> Entry:
        """The file as it is now."""
        shown = f"{self.url}/{encode(name)}"
        path = self._path(name)
        with explained(shown):
            self._require_inside(name)
            found = _local_entry(name, Path(path).stat())
        if found is None:
            raise NotRegular(f"{shown}: not a regular file")
        return found

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Bytes of the file; what is no regular file is not opened."""
        self.entry(name)
        with explained(f"{self.url}/{encode(name)}"), Path(self._path(name)).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def move(self, source: str, target: str, etag: str, arrived: Callable[[Entry], None]) -> bool:
        """Rename the file; where the target is another disk, copy it there under a temporary name first.

        What is reached by way of a link lies elsewhere and stays there.
        """
        here, there = Path(self._path(source)), Path(self._path(target))
        if self.entry(source).etag != etag:
            return False
        if here.resolve() != self._root.resolve() / source:
            log.warning("%s/%s: reached by way of a link, so it stays where it is", self.url, encode(source))
            return False
        with explained(f"{self.url}/{encode(target)}"):
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                here.replace(there)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                return self._carry(source, target, etag, arrived)
        if self.entry(target).etag == etag:
            return True
        with suppress(FileExistsError):
            # Somebody replaced it in this very moment: unlike a rename, a link never replaces what is there by now.
            here.hardlink_to(there)
            there.unlink()
        return False

    def readable_url(self, name: str) -> str:
        """`file:` and the path, which ffmpeg takes as it is."""
        path = self._path(name)
        self._require_inside(name)
        return f"file:{path}"

    def playable_url(self, name: str) -> str:
        """A `file://` URL."""
        return self.public_url(name)

    def put(self, name: str, source: Path) -> None:
        """Copy the file with its date, under a temporary name until it is whole."""
        target = Path(self._path(name))
        with explained(f"{self.url}/{encode(name)}"):
            self._require_inside(name.rpartition("/")[0])
            target.parent.mkdir(parents=True, exist_ok=True)
            with parts.published(target) as file:
                _copy(source, file)

    def public_url(self, name: str) -> str:
        """A `file://` URL."""
        return Path(self._path(name)).as_uri()

    def lancedb_options(self) -> dict[str, str]:
        """None are needed."""
        return {}

    def _path(self, name: str) -> str:
        if {"", ".", ".."} & set(name.split("/")):
            raise NotFound(f"{self.url}/{encode(name)}: not the name of a file")
        return f"{self.url}/{name}"

    def _carry(self, source: str, target: str, etag: str, arrived: Callable[[Entry], None]) -> bool:
        here, there = Path(self._path(source)), Path(self._path(target))
        try:
            with parts.published(there) as file:
                _copy(here, file)
                self._require_version(source, etag)
        except _Replaced:
            return False
        arrived(self.entry(target))
        here.unlink()
        return True

    def _require_version(self, name: str, etag: str) -> None:
        if self.entry(name).etag != etag:
            raise _Replaced

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self.url}/")

    def _is_inside(self, path: str) -> bool:
        """Whether the path, its links followed, is inside the store or an allowed root."""
        folder, below, _ = path.removeprefix(f"{self.url}/").partition("/")
        top = f"{self.url}/{folder}"
        own = [os.path.realpath(top)] if below or Path(top).is_dir() else []
        real = os.path.realpath(path)
        return any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in (*self._allowed, *own))

    def _found(self, folder: str) -> tuple[list[Entry], int]:
        """The files, and how many links lead nowhere or out of the store."""
        top = self._root / folder
        with explained(str(top)):
            top.stat()
        found = list(self._walk(str(top)))
        entries = [entry for entry in found if entry is not None]
        return entries, len(found) - len(entries)

    def _walk(self, top: str) -> Iterator[Entry | None]:
        """Every file, each real folder once; None for a link that leads nowhere or out of the store.

        Links to folders come last, so that a recording has the key of the place where it really is.
        """
        seen = {_identity(self._root.stat())}
        folders, links = deque([top]), deque[str]()
        while folders or links:
            directory = folders.popleft() if folders else links.popleft()
            try:
                identity = _identity(Path(directory).stat())
                if identity in seen:
                    log.warning("%r: a link to a folder that is listed already, not followed", directory)
                    continue
                seen.add(identity)
                with os.scandir(directory) as scan:
                    found = sorted(scan, key=attrgetter("name"))
            except OSError as error:
                raise self._unreadable(directory, error) from error
            for item in found:
                if item.is_symlink() and not self._is_inside(item.path):
                    log.warning("%r: a link out of the store, left out; see TRANSCRIPTION_LINK_ROOTS", item.path)
                    if is_media(item.name) or _is_folder(item):
                        yield None
                elif _is_folder(item):
                    (links if item.is_symlink() else folders).append(item.path)
                else:
                    yield from self._file(item)

    def _file(self, item: os.DirEntry[str]) -> Iterator[Entry | None]:
        """The entry of a regular file; None for a link that leads nowhere."""
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
        """Go on without a file that vanished or a link that leads nowhere; anything else hides more than one."""
        if error.errno != errno.ENOENT and not item.is_symlink():
            raise self._unreadable(item.path, error) from error
        log.warning("%r: left out, %s", item.path, error.strerror)

    def _unreadable(self, path: str, error: OSError) -> TransientFailure:
        shown = f"{self.url}/{encode(self._name(path))}"
        return TransientFailure(f"{shown}: cannot be read ({error.strerror}); mend its mount or permissions")


class _Replaced(Exception):
    """The file became another version while it was copied."""


def _copy(source: Path, file: IO[bytes]) -> None:
    """Copy content and dates."""
    with source.open("rb") as original:
        shutil.copyfileobj(original, file, _BLOCK)
    file.flush()
    shutil.copystat(source, file.name)


def _is_folder(item: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; not where nobody can tell."""
    try:
        return item.is_dir()
    except OSError:
        return False


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _local_entry(name: str, about: os.stat_result) -> Entry | None:
    """The entry of a regular file. Its ctime says when it last changed: unlike its mtime, none can set it."""
    if not stat.S_ISREG(about.st_mode):
        return None
    etag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
    return Entry(name, etag, about.st_size, datetime.fromtimestamp(about.st_ctime, UTC))
