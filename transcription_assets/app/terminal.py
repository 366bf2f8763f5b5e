"""What all commands print with."""

from rich.console import Console
from rich.markup import escape

shown = Console(highlight=False)
aside = Console(stderr=True, highlight=False)


def plain(text: str) -> str:
    """Text of others is not markup."""
    return escape(text)
