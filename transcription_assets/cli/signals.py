"""Signals that end a command: it stops its work, removes temporary files, and reports."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; `exit_code` is 128 + the number of the signal, as shells expect."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def raised() -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into `Interrupted`; a second one ends the process at once.

    SIGHUP stays ignored if it is ignored already (`nohup`). For the main thread only.

    Raises:
        Interrupted: a signal arrived; raised in the main thread.
        ValueError: this is not the main thread.

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
