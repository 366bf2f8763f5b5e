"""Temporary folders; those of killed processes are removed by the next process."""

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

    The process holds a lock on a file in the folder. Across containers that share a disk, this distinguishes a folder
    in use from an abandoned one, which process IDs do not.

    Raises:
        OSError: The folder or its lock cannot be created.

    """
    clear_abandoned(Path(tempfile.gettempdir()))
    made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    with made as name, Path(name, LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


@cache
def clear_abandoned(directory: Path) -> None:
    """Remove the folders of killed processes of this user in `directory`, once in a process."""
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
        return False  # its process has not locked it yet, or it is not ours
    except OSError:  # locked by its process, or the file system has no locks
        return False
    return True
