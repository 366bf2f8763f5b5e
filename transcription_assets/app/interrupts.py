"""Signals that ask a command to end: it stops what it does, removes what it made for the moment, and reports."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end; `exit_code` is what shells expect of it (128 + its number)."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Interrupted` in the main thread at the first Ctrl-C, SIGTERM or SIGHUP; a second one ends at once.

    SIGHUP stays ignored where it is (`nohup`). Only for the main thread.
    """
    asked = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if not _ignores_hangup(number)]

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in asked:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignores_hangup(number: int) -> bool:
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
