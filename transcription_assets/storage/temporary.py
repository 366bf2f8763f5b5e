"""Temporary folders; those of killed processes are removed by the next process."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

PREFIX = ".transcription-assets-"
LOCK = ".lock"


@contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder and remove it at the end.

    The process holds a lock on a file in the folder. Across containers that share a disk, this distinguishes a folder
    in use from an abandoned one, which process IDs do not.

    Raises:
        OSError: The folder or its lock file cannot be created.

    """
    clear()
    with ExitStack() as held:
        yield _created(held)


def _created(held: ExitStack) -> Path:
    """Make a folder and lock it for as long as `held` lasts."""
    while True:
        made = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)))
        if locked(held.enter_context((made / LOCK).open("w"))):
            return made


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
    for left in directory.glob(f"{PREFIX}*"):
        # Without a lock file its process is about to make one, or it is not ours. Locked: in use.
        with suppress(OSError):
            if left.lstat().st_uid == os.geteuid() and not left.is_symlink():
                _remove(left)


def _remove(left: Path) -> None:
    with (left / LOCK).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left, ignore_errors=True)  # locked: its process may be about to lock it, see `locked`
