"""Wait for other processes while they make progress, on a machine of any speed."""

import os
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

STALL_S = 300.0
"""Time without progress after which a wait fails."""
POLL_S = 1.0
"""A poll costs CPU time, which the processes waited for need."""
ASK_S = 2.0


def until(
    what: str, condition: Callable[[], bool], progress: Callable[[], object], log: Callable[[], str] = lambda: ""
) -> None:
    """Wait until `condition` holds; fail once the value of `progress` has not changed for `STALL_S`.

    The condition may be expensive: it is evaluated after each change, and every `ASK_S` without one.
    """
    seen, since = progress(), time.monotonic()
    asked = since
    while not condition():
        while True:
            time.sleep(POLL_S)
            now = progress()
            if now != seen:
                seen, since = now, time.monotonic()
                break
            if time.monotonic() - since > STALL_S:
                pytest.fail(f"no progress for {STALL_S:.0f} s while waiting for: {what}\n{log()}")
            if time.monotonic() - asked > ASK_S:
                break
        asked = time.monotonic()


def files(*folders: Path) -> frozenset[tuple[str, int, int]]:
    """Return path, size and modification time of every regular file in these folders.

    Folders and SQLite's journal files are excluded: reading alone changes them, and a daemon reads continuously.
    """
    found = set()
    for folder in folders:
        for path in folder.rglob("*"):
            with suppress(OSError):  # deleted meanwhile
                about = path.stat()
                if stat.S_ISREG(about.st_mode) and not path.name.endswith(("-journal", "-wal", "-shm")):
                    found.add((str(path), about.st_size, about.st_mtime_ns))
    return frozenset(found)


def cpu_seconds(processes: Iterable[int]) -> frozenset[tuple[int, int]]:
    """Return the whole seconds of CPU time that each process has used (where /proc exists)."""
    found = set()
    for process in processes:
        with suppress(OSError):  # ended meanwhile
            user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
            found.add((process, (int(user) + int(system)) // os.sysconf("SC_CLK_TCK")))
    return frozenset(found)
