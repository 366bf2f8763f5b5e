"""Temporary folders, and temporary files that replace their target when they are complete.

The process holds a lock on each. The system releases the lock when that process ends, even if it is killed, so whatever
has no lock is abandoned, and is removed by the next process.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

PREFIX = ".transcription-assets-"
LOCK = ".lock"
UNLOCKED_S = 60.0
"""Age from which a folder without a lock file is abandoned: its process was killed before it made one."""

_NAME = re.compile(r"\.[0-9a-f]{16}\.part#1")
"""Hidden, without a media suffix, and short, since a long target name leaves no room for a suffix."""


@contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder and remove it at the end.

    The process holds a lock on a file in the folder. Across containers that share a disk, this distinguishes a folder
    in use from an abandoned one, which process IDs do not.

    Raises:
        OSError: The folder or its lock file cannot be created.

    """
    clear()
    with ExitStack() as stack:
        yield _created(stack)


class _Own:
    """The folders of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: set[Path] | None = set()

    def create(self, stack: ExitStack) -> Path:
        """Create a folder that is removed with `stack`."""
        with self._lock:
            if self._paths is None:
                raise SystemExit  # another thread is about to end the process
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)))
            self._paths.add(path)
            stack.callback(self._removed, path)
        return path

    def _removed(self, path: Path) -> None:
        with self._lock:
            if self._paths is not None:
                self._paths.discard(path)

    def end(self) -> None:
        """Remove all folders, and prevent new ones."""
        with self._lock:
            paths, self._paths = self._paths or set(), None
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)


_own = _Own()


def end() -> None:
    """Remove the folders of this process, to be called before `os._exit`, which runs no other cleanup."""
    _own.end()


def _created(stack: ExitStack) -> Path:
    """Create a folder and lock it for as long as `stack` is open."""
    while True:
        path = _own.create(stack)
        if locked(stack.enter_context((path / LOCK).open("w"))):
            return path


def locked(file: IO[Any]) -> bool:
    """Lock a file that was just made; False where it was taken for abandoned, and removed, before it had its lock."""
    with suppress(OSError):  # a file system without locks: then nothing is ever taken for abandoned there
        fcntl.flock(file, fcntl.LOCK_EX)
    with suppress(FileNotFoundError):
        return os.path.samestat(Path(file.name).stat(), os.fstat(file.fileno()))
    return False


def clear() -> None:
    """Remove the folders of killed processes of this user, once in a process."""
    clear_abandoned(Path(tempfile.gettempdir()))


@cache
def clear_abandoned(directory: Path) -> None:
    """Remove the folders of killed processes of this user in `directory`, once in a process."""
    for abandoned in directory.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if abandoned.lstat().st_uid == os.geteuid() and not abandoned.is_symlink():
                _remove(abandoned)


def _remove(abandoned: Path) -> None:
    """Remove a folder unless it is locked, so in use, or its process may be about to lock it."""
    is_old = time.time() - abandoned.stat().st_mtime > UNLOCKED_S
    with (abandoned / LOCK).open("a" if is_old else "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(abandoned, ignore_errors=True)  # locked: its process may be about to lock it, see `locked`


@contextmanager
def published(target: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `target` when the block ends, and is removed if the block fails.

    Write through this handle only: on NFS, closing another handle of the same file would release the lock.

    Raises:
        OSError: the file cannot be created, written or renamed.

    """
    clear_abandoned_files(target.parent)
    with _created_file(target.parent) as file:
        try:
            yield file
            file.flush()
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def clear_abandoned_files(directory: Path) -> None:
    """Remove the files that killed processes left in `directory`.

    Raises:
        OSError: the folder cannot be read.

    """
    with os.scandir(directory) as found:
        candidates = [item.path for item in found if _NAME.fullmatch(item.name)]
    for path in candidates:
        with suppress(OSError), Path(path).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()


def _created_file(directory: Path) -> IO[bytes]:
    """Open a new file in `directory` and lock it."""
    while True:
        path = directory / f".{secrets.token_hex(8)}.part#1"
        file = path.open("xb")
        if locked(file):
            return file
        file.close()
