"""Questions with another form of a word, by language: the first result starts in a sentence with the word's stem.

python -m benchmarks.word_forms

For each two words of a language's talks with the same stem, the question is one of them with a content word beside the
other. Words only; compared with a search without forms. Bar: nine of ten questions. Takes about a minute.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.machine import describe
from benchmarks.retrieval import DIMENSION, Told
from transcription_assets.domain.passages import cut_sentences
from transcription_assets.embedding import Vectors
from transcription_assets.evaluation.labelled_search import indexed
from transcription_assets.evaluation.search_quality import Talk, talks
from transcription_assets.search.index import Index
from transcription_assets.search.query import Mode, Query, Token, fold, is_frequent, tokens
from transcription_assets.search.retrieval import Snapshot
from transcription_assets.search.searcher import Searcher
from transcription_assets.search.vocabulary import Vocabulary
from transcription_assets.search.word_forms import stem

BAR = 0.9


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the sentences (media key, start, end) with the stem and the word beside it."""

    text: str
    places: frozenset[tuple[str, float, float]]


class WithoutForms(Index):
    """Index whose vocabulary is empty."""

    def vocabulary(self, pinned: Snapshot) -> Vocabulary:  # noqa: ARG002 -- as in the base class
        """Return no words."""
        return Vocabulary()


class Zeros(Told):
    """Encoder without meaning: only words are compared."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return equal vectors: shape (len(texts), DIMENSION)."""
        return np.full((len(texts), DIMENSION), DIMENSION**-0.5, np.float32)


def main() -> int:
    print(describe())
    recorded = talks()
    encoder = Zeros({})
    with indexed(recorded, encoder, 30.0) as table:
        ways = {
            "with forms": Searcher(table, lambda _model: encoder),
            "without": Searcher(WithoutForms(table.uri), lambda _model: encoder),
        }
        right, total = 0, 0
        for language, asked in by_language(recorded).items():
            found = {name: _found(searcher, asked) for name, searcher in ways.items()}
            shares = ", ".join(f"{name} {count}" for name, count in found.items())
            print(f"{language}: of {len(asked)} questions {shares} start in the right sentence", flush=True)
            right, total = right + found["with forms"], total + len(asked)
    print(f"{right} of {total}; the bar is {BAR:.0%}: {'held' if right >= BAR * total else 'MISSED'}")
    return int(right < BAR * total)


def by_language(recorded: Sequence[Talk]) -> Mapping[str, list[Asked]]:
    """Return the questions of each language."""
    languages = sorted({talk.transcript.language for talk in recorded})
    return {
        language: list(_questions([talk for talk in recorded if talk.transcript.language == language], language))
        for language in languages
    }


def _questions(recorded: Sequence[Talk], language: str) -> Iterator[Asked]:
    places: dict[tuple[str, str], set[tuple[str, float, float]]] = {}
    forms: dict[str, dict[str, str]] = {}
    beside: dict[tuple[str, str], str] = {}
    for talk in recorded:
        for said in cut_sentences(talk.transcript.segments):
            place = (talk.transcript.media.key, said.start, said.end)
            for one, other in pairwise(tokens(said.text)):
                if is_frequent(one) or is_frequent(other) or not (_is_word(one) and _is_word(other)):
                    continue
                root = stem(one.text.lower(), language)
                places.setdefault((root, other.folded), set()).add(place)
                beside[one.folded, root] = other.text
            for token in tokens(said.text):
                if _is_word(token) and not is_frequent(token):
                    forms.setdefault(stem(token.text.lower(), language), {})[token.folded] = token.text.lower()
    for (folded, root), neighbour in beside.items():
        for other_folded, form in forms[root].items():
            if other_folded != folded:
                yield Asked(f"{form} {neighbour}", frozenset(places[root, fold(neighbour)]))


def _is_word(token: Token) -> bool:
    return token.text.isalpha()


def _found(searcher: Searcher, asked: Sequence[Asked]) -> int:
    count = 0
    for question in asked:
        hits = searcher.search(Query(question.text, mode=Mode.TEXT, limit=1)).hits
        count += bool(hits) and any(
            hits[0].media_key == key and start <= hits[0].start < end for key, start, end in question.places
        )
    return count


if __name__ == "__main__":
    sys.exit(main())
