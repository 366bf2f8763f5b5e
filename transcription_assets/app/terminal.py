"""What all commands print with."""

from rich.console import Console
from rich.markup import escape

from transcription_assets.words import printable

shown = Console(highlight=False)
aside = Console(stderr=True, highlight=False)


def plain(text: str) -> str:
    """Return the text of others so that it is not markup, and tells the terminal nothing."""
    return escape("\n".join(map(printable, text.split("\n"))))
