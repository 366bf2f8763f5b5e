"""Temporary files that replace their target when they are complete.

Each has a random name and is locked by the process that writes it. The system releases the lock when that process
ends, even if it is killed, so a file without a lock is abandoned.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from transcription_assets.storage.temporary import locked

_NAME = re.compile(r"\.[0-9a-f]{16}\.part#1")
"""Hidden, without a media suffix, and short, since a long target name leaves no room for a suffix."""


@contextmanager
def published(target: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `target` when the block ends, and is removed if the block fails.

    Write through this handle only: on NFS, closing another handle of the same file would release the lock.

    Raises:
        OSError: the file cannot be created, written or renamed.

    """
    clear_abandoned(target.parent)
    with _created(target.parent) as file:
        try:
            yield file
            file.flush()
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def clear_abandoned(folder: Path) -> None:
    """Remove the files that killed processes left in `folder`.

    Raises:
        OSError: the folder cannot be read.

    """
    with os.scandir(folder) as found:
        candidates = [item.path for item in found if _NAME.fullmatch(item.name)]
    for path in candidates:
        with suppress(OSError), Path(path).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()


def _created(folder: Path) -> IO[bytes]:
    """Open a new file in `folder` and lock it."""
    while True:
        path = folder / f".{secrets.token_hex(8)}.part#1"
        file = path.open("xb")
        if locked(file):
            return file
        file.close()
