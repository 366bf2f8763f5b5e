"""Text of a hit split at its highlights, so that clients need not count characters."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class HighlightPart:
    """A run of text with the same highlighting: in the best sentence or not, a word of the question or not."""

    text: str
    sentence: bool
    match: bool


def split_highlights(text: str, sentence: Span, matches: Sequence[Span]) -> list[HighlightPart]:
    """Split the text into parts that join to the whole; spans are clipped to the text."""
    edges = {0, len(text)} | {edge for span in (sentence, *matches) for edge in span if 0 < edge < len(text)}
    borders = sorted(edges)
    return [
        HighlightPart(text[a:b], _covers(sentence, a, b), any(_covers(match, a, b) for match in matches))
        for a, b in pairwise(borders)
    ]


def _covers(span: Span, start: int, end: int) -> bool:
    return span[0] <= start and end <= span[1]
