"""Files in the making: nobody sees them under their own name until they are whole.

Each has a name of its own and is locked by the process that writes it. The system drops the lock when that process
ends, however it ends, so a file without a lock was abandoned.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from transcription_assets.temporary import locked

_NAME = re.compile(r"\.[0-9a-f]{16}\.part#1")
"""Hidden, without a media suffix, and of one short length: a long target leaves no room for an addition."""


@contextmanager
def published(target: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `target` when the block ends, and is removed when it fails.

    Write through this handle only: on NFS, closing another one of the same file would drop the lock.
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
    """Remove what killed writers left in `folder`."""
    with os.scandir(folder) as found:
        candidates = [item.path for item in found if _NAME.fullmatch(item.name)]
    for path in candidates:
        with suppress(OSError), Path(path).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()


def _created(folder: Path) -> IO[bytes]:
    """Open a new file in `folder`, locked."""
    while True:
        path = folder / f".{secrets.token_hex(8)}.part#1"
        file = path.open("xb")
        if locked(file):
            return file
        file.close()
