"""A store in a local folder."""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from obstore.store import LocalStore, ObjectStore

from transcription_assets.failures import NotFound, TransientFailure
from transcription_assets.keys import INBOXES, encode
from transcription_assets.storage.errors import explained
from transcription_assets.storage.place import Entry, Listing, listing

log = logging.getLogger(__name__)


class Folder:
    """A local folder. Names are bytes to the system; they come as `os.fsdecode` gives them."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.url = str(self._root)
        with explained(self.url):
            for inbox in INBOXES:
                (self._root / inbox).mkdir(parents=True, exist_ok=True)
            self.objects: ObjectStore = LocalStore(self._root)

    def entries(self, folder: str) -> list[Entry]:
        """Every file below `folder`, by way of links too."""
        return self._found(folder)[0]

    def recordings(self, folder: str) -> Listing:
        """Every recording below `folder`."""
        entries, unread = self._found(folder)
        return replace(listing(entries), unread=unread)

    def entry(self, name: str) -> Entry:
        """The file as it is now."""
        shown = f"{self.url}/{encode(name)}"
        with explained(shown):
            found = _local_entry(name, Path(self._path(name)).stat())
        if found is None:
            raise NotFound(f"{shown}: not a file")
        return found

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
        return f"file:{self._path(name)}"

    def playable_url(self, name: str) -> str:
        """A `file://` URL."""
        return self.public_url(name)

    def put(self, name: str, source: Path) -> None:
        """Copy the file with its date, under a temporary name until it is whole."""
        target = Path(self._path(name))
        with explained(f"{self.url}/{encode(name)}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = Path(f"{target}#1")
            shutil.copy2(source, unfinished)
            unfinished.replace(target)

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
        unfinished = Path(f"{there}#1")
        shutil.copy2(here, unfinished)
        if self.entry(source).etag != etag:
            unfinished.unlink()
            return False
        unfinished.replace(there)
        arrived(self.entry(target))
        here.unlink()
        return True

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self.url}/")

    def _found(self, folder: str) -> tuple[list[Entry], int]:
        """The files, and how many links lead nowhere."""
        top = self._root / folder
        with explained(str(top)):
            top.stat()
        found = list(self._walk(str(top), frozenset()))
        entries = [entry for entry in found if entry is not None]
        return entries, len(found) - len(entries)

    def _walk(self, directory: str, above: frozenset[tuple[int, int]]) -> Iterator[Entry | None]:
        """Every file; None for a link that leads nowhere."""
        try:
            here = Path(directory).stat()
            with os.scandir(directory) as scan:
                found = list(scan)
        except OSError as error:
            raise self._unreadable(directory, error) from error
        identity = (here.st_dev, here.st_ino)
        if identity in above:
            log.warning("%r: a link to a folder above it, not followed", directory)
            return
        for item in found:
            try:
                entry = None if item.is_dir() else _local_entry(self._name(item.path), item.stat())
            except OSError as error:
                self._leave_out(item, error)
                if item.is_symlink():
                    yield None
                continue
            if entry is not None:
                yield entry
            elif item.is_dir():
                yield from self._walk(item.path, above | {identity})

    def _leave_out(self, item: os.DirEntry[str], error: OSError) -> None:
        """Go on without a file that vanished or a link that leads nowhere; anything else hides more than one."""
        if error.errno != errno.ENOENT and not item.is_symlink():
            raise self._unreadable(item.path, error) from error
        log.warning("%r: left out, %s", item.path, error.strerror)

    def _unreadable(self, path: str, error: OSError) -> TransientFailure:
        shown = f"{self.url}/{encode(self._name(path))}"
        return TransientFailure(f"{shown}: cannot be read ({error.strerror}); mend its mount or permissions")


def _local_entry(name: str, about: os.stat_result) -> Entry | None:
    """The entry of a regular file. Its ctime says when it last changed: unlike its mtime, none can set it."""
    if not stat.S_ISREG(about.st_mode):
        return None
    etag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
    return Entry(name, etag, about.st_size, datetime.fromtimestamp(about.st_ctime, UTC))
