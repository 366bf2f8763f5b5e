"""Processes forked from one that has already imported everything.

Imports take most of the time of a pod in the stand-in cluster; a test of imports starts a cold process instead.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

import pytest

_FORKS = multiprocessing.get_context("forkserver")
_ONE_ASKS = threading.Lock()
"""Serialise starts and joins: an exit status can be read once, and starting another process reads it too."""


def prepare(modules: Sequence[str], variables: Mapping[str, str]) -> None:
    """Start the process that imports these modules, with these environment variables."""
    _FORKS.set_forkserver_preload(["__main__", *modules])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        first = _FORKS.Process(target=os.getpid)
        first.start()
        first.join()


class Forked:
    """A `dagster` command in its own process, with exactly this environment; its log file must exist."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._process = _FORKS.Process(target=_become, args=([*command], dict(environment), str(log)))
        with _ONE_ASKS:
            self._process.start()
        self.pid = self._process.pid or 0

    def wait(self) -> int:
        """Wait for the process and return its exit code; a negative one is the signal that killed it."""
        wait([self._process.sentinel])
        with _ONE_ASKS:
            self._process.join()
        return self._process.exitcode or 0


def _become(command: list[str], environment: dict[str, str], log: str) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    from dagster._cli import main

    main()
