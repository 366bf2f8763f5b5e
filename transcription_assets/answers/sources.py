"""Sources of an answer: passages that a search found, with their neighbours, up to a number of tokens. Pure.

Also the queries of a question, and the second of a source that supports a sentence.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from transcription_assets.domain.passages import Sentence
from transcription_assets.domain.text import is_unspaced
from transcription_assets.search.query import Hit, parse_query, tokens

BYTES_PER_TOKEN = 4
"""Of UTF-8: a token is about four Latin letters, two Cyrillic ones, or one Chinese character and a third."""
MOST_BYTES_EACH = 2_000
MOST_QUERIES = 4
SHORTEST_CLAUSE = 2
"""Words that a part of a question needs to be a query of its own."""
_CLAUSE_ENDS = re.compile(
    r"(?<=[?!.;:,])\s+(?:(?:and|or|und|oder|et|ou|y|o|e)\s+)?|(?<=[。\uff1f\uff01\uff1b])", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that an answer may cite: its recording, its best second, and its sentences in order of time."""

    hit: Hit
    sentences: tuple[Sentence, ...]

    @property
    def size(self) -> int:
        """Bytes of its title and text in UTF-8."""
        return len(self.hit.recording.encode(errors="replace")) + sum(_size(item) for item in self.sentences)


def queries(question: str) -> list[str]:
    """Return the queries of a question, the question first, then its parts and its words without frequent ones."""
    clauses = [part.strip(" ?!.;:,。\uff1f\uff01\uff1b") for part in _CLAUSE_ENDS.split(question)]
    terms = parse_query(question).terms
    more = [clause for clause in clauses if len(parse_query(clause).terms) >= SHORTEST_CLAUSE]
    # In scripts without spaces the words are characters, which say little on their own.
    words = "" if any(map(is_unspaced, question)) else " ".join(terms)
    found = [question, *more, words]
    return [text for text in dict.fromkeys(found) if text.strip()][:MOST_QUERIES]


def is_repeated(hit: Hit, found: Iterable[Hit]) -> bool:
    """Return whether one of the hits is the same moment: in the same recording, with text of the same time."""
    return any(
        hit.media_key == other.media_key
        and hit.kind == other.kind
        and hit.context_start < other.context_end
        and other.context_start < hit.context_end
        for other in found
    )


def source(hit: Hit, around: Sequence[Sentence]) -> Source:
    """Return the source of a hit with as many of the sentences around it as MOST_BYTES_EACH allows, nearest first."""
    own = Sentence(hit.start, hit.end, hit.text, hit.speaker or "")
    sentences = around if hit.kind == "speech" and around else [own]
    by_distance = sorted(sentences, key=lambda item: (abs(item.start - hit.start), item.start))
    chosen: list[Sentence] = []
    size = 0
    for item in by_distance:
        size += _size(item)
        if chosen and size > MOST_BYTES_EACH:
            break
        chosen.append(replace(item, text=_cut(item.text, MOST_BYTES_EACH)))
    return Source(hit, tuple(sorted(chosen, key=lambda item: item.start)))


def within_budget(found: Iterable[Source], most_tokens: int) -> list[Source]:
    """Return the first sources that have at most `most_tokens` together, at least one if there is any."""
    chosen: list[Source] = []
    left = most_tokens * BYTES_PER_TOKEN
    for item in found:
        left -= item.size
        if chosen and left < 0:
            break
        chosen.append(item)
    return chosen


def support(cited: Source, sentence: str) -> tuple[Sentence, float]:
    """Return what the source says that is most like the sentence, and its second.

    If nothing is alike, what is said at the best second of the source, or nearest to it.
    """
    said, best_s = _words(sentence), cited.hit.start

    def rank(item: Sentence) -> tuple[int, bool, float]:
        return len(said & _words(item.text)), item.start <= best_s < item.end, -abs(item.start - best_s)

    chosen = max(cited.sentences, key=rank)
    is_alike, is_inside, _ = rank(chosen)
    return chosen, best_s if is_inside and not is_alike else chosen.start


def _words(text: str) -> set[str]:
    terms = set(parse_query(text).terms)
    return terms or {token.folded for token in tokens(text)}


def _size(sentence: Sentence) -> int:
    return len(sentence.text.encode(errors="replace"))


def _cut(text: str, most_bytes: int) -> str:
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")
