"""The terminal: output of all commands, in which no line is ever cut, and the signals that end a command."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from transcription_assets.domain.text import printable

UNBOUNDED = 10**9
"""Columns of a pipe or a file: longer than any line."""


class Output(Console):
    """A console with the width of its terminal; unbounded for a pipe or a file.

    Rich itself assumes 80 columns, `COLUMNS`, or the width of any other terminal of the process, and cuts tables there.
    """

    @property  # type: ignore[misc]  # Rich defines a setter, which is not used here
    def size(self) -> ConsoleDimensions:
        """Columns and lines to print in."""
        size = super().size
        return size if self.file.isatty() else ConsoleDimensions(UNBOUNDED, size.height)


# A name such as `:bee:` is not an emoji.
shown = Output(highlight=False, emoji=False)
aside = Output(stderr=True, highlight=False, emoji=False)


def plain(text: str) -> str:
    """Escape text from other sources, so that it is neither markup nor control sequences of the terminal."""
    return escape("\n".join(map(printable, text.split("\n"))))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of markup as a table; if the terminal is too narrow for it, one cell per line.

    Each row of the table is one line. A cell on its own line is wrapped by the terminal, so that it is copied as a
    whole.
    """
    rows = list(rows)
    table = Table(*headings, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    needed = Measurement.get(shown, shown.options.update(width=UNBOUNDED), table).maximum
    if needed <= shown.width:
        shown.print(table)
        return
    shown.print(f"[dim]{headings[0]}:[/]")
    for name, *cells in rows:
        shown.print(f"[bold]{name}[/]", soft_wrap=True)
        for heading, cell in zip(headings[1:], cells, strict=True):
            if cell:
                shown.print(f"  [dim]{heading}:[/] {cell}", soft_wrap=True)


class Group(click.Group):
    """A group whose help wraps the descriptions of its commands; click cuts them at the width."""

    group_class = type

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Register a command, with the first paragraph of its help as its description."""
        if not cmd.short_help and cmd.help:
            cmd.short_help = " ".join(cmd.help.partition("\n\n")[0].split())
        super().add_command(cmd, name)


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; `exit_code` is 128 + the number of the signal, as shells expect."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into `Interrupted`; a second one ends the process at once.

    SIGHUP stays ignored if it is ignored already (`nohup`). For the main thread only.

    Raises:
        Interrupted: a signal arrived; raised in the main thread.
        ValueError: this is not the main thread.

    """
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if not _ignores_hangup(number)]

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignores_hangup(number: int) -> bool:
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
