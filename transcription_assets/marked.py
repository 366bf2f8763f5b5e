"""A found passage, cut where its marking changes: no reader has to count characters as we do."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """A run of text that is marked alike: in the sentence that fits best, and a word of the question."""

    text: str
    sentence: bool
    match: bool


def parts(text: str, sentence: Span, matches: Sequence[Span]) -> list[Part]:
    """The text in parts that give it back when joined; spans that reach beyond it are cut to it."""
    edges = {0, len(text)} | {edge for span in (sentence, *matches) for edge in span if 0 < edge < len(text)}
    borders = sorted(edges)
    return [
        Part(text[a:b], _covers(sentence, a, b), any(_covers(match, a, b) for match in matches))
        for a, b in pairwise(borders)
    ]


def _covers(span: Span, start: int, end: int) -> bool:
    return span[0] <= start and end <= span[1]
