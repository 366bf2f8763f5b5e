"""Output of all commands: no line is ever cut, and lines are wrapped in a terminal only."""

from collections.abc import Iterable, Sequence

import click
from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from transcription_assets.words import printable

UNBOUNDED = 10**9
"""Columns of a pipe or a file: more than any line has."""


class Output(Console):
    """A console that takes the width of a terminal from that terminal; a pipe or a file has none.

    Rich itself assumes 80 columns, `COLUMNS`, or the width of any other terminal of the process, and cuts tables there.
    """

    @property  # type: ignore[misc]  # Rich lets it be set; nobody does here
    def size(self) -> ConsoleDimensions:
        """Columns and lines to print in."""
        size = super().size
        return size if self.file.isatty() else ConsoleDimensions(UNBOUNDED, size.height)


# A name such as `:bee:` is not an emoji.
shown = Output(highlight=False, emoji=False)
aside = Output(stderr=True, highlight=False, emoji=False)


def plain(text: str) -> str:
    """Return the text of others so that it is not markup, and tells the terminal nothing."""
    return escape("\n".join(map(printable, text.split("\n"))))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of markup as a table; in a terminal that is too narrow for it, one cell to a line.

    Each row of the table is one line. A cell on a line of its own is wrapped by the terminal: it is copied whole.
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
    """A group of commands whose descriptions are wrapped in its help; click cuts them at the width."""

    group_class = type

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Register a command, with the first paragraph of its help as its description."""
        if not cmd.short_help and cmd.help:
            cmd.short_help = " ".join(cmd.help.partition("\n\n")[0].split())
        super().add_command(cmd, name)
