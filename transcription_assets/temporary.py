"""Temporary folders that do not outlive a killed process for long: the next process removes them."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

PREFIX = ".transcription-assets-"
LOCK = ".lock"


@contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder and remove it at the end.

    Its process holds a lock on a file in it: an abandoned folder can be told from one in use across containers that
    share a disk, where process numbers mean nothing.
    """
    clear_abandoned(Path(tempfile.gettempdir()))
    made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    with made as name, Path(name, LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


@cache
def clear_abandoned(directory: Path) -> None:
    """Remove what killed processes of this user left in `directory`, once in a process."""
    for left in directory.glob(f"{PREFIX}*"):
        if _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def _is_abandoned(left: Path) -> bool:
    try:
        about = left.lstat()
        if about.st_uid != os.geteuid() or left.is_symlink():
            return False
        with (left / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False  # its process is about to lock it, or it is not ours
    except OSError:  # locked by its process, or on a disk that knows no locks
        return False
    return True
