"""Out of passages that may fit, the moments that do: two lists fused, neighbours merged, the second found. Pure.

Candidates are ordered by the evidence in their sentences (`Evidence`), then by a score: closeness (cosine of the
passage and of its best sentence) plus a share for the words of the question that it holds, weighed by how rare they are
(BM25). Weak moments come last. What the evaluation said about this: docs/search.md; why: docs/decisions/0026.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from transcription_assets.passages import Sentence, joined
from transcription_assets.query import (
    Hit,
    Mode,
    Sought,
    Token,
    is_frequent,
    is_inflected,
    is_like,
    spans,
    tokens,
    words_of,
)

Vector = NDArray[np.float32]

SENTENCE_SHARE = 0.5
"""Of a candidate's closeness: how much is its best sentence's, the rest is the passage's."""
WORDS_SHARE = 0.5
"""What a candidate gains that holds all words of the question."""
SENTENCE_WORDS = 0.3
"""What a sentence gains over its neighbours in a passage that holds all words."""
ADJOINING_S = 2.0
"""Passages of a recording with no more silence than this between them are neighbours."""
_NONE: frozenset[str] = frozenset()
LONG_SENTENCE_S = 10.0
LEAD_IN_S = 2.0
"""In a sentence longer than LONG_SENTENCE_S a moment starts so many seconds before the words that fit."""
FULL_SCORE = 1.0 + WORDS_SHARE


class Evidence(IntEnum):
    """The words of the question that one sentence holds; any sentence with more evidence wins."""

    SOME = 0
    ALL = 1
    IN_ORDER = 2
    """One after another, with nothing but frequent words between them."""
    AS_TYPED = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage of the table; vectors are of unit length, None where it has none of the model in use.

    `row` is its place in this version of the table, `bm25` its score among the passages that hold words of the
    question, 0.0 where it holds none.
    """

    row: int
    media_key: str
    title: str
    language: str
    recorded: date | None
    duration_s: float | None
    start: float
    end: float
    text: str
    sentences: tuple[Sentence, ...]
    vector: Vector | None
    sentence_vectors: Vector | None
    bm25: float = 0.0


@dataclass(frozen=True, slots=True)
class _Scored:
    candidate: Candidate
    score: float
    closeness: float
    coverage: float
    near: Vector | None
    evidence: Evidence


def moments(
    found: Sequence[Candidate],
    wanted: Sought,
    vector: Vector | None,
    mode: Mode,
    *,
    unknown: Sequence[str] = (),
    weak_below: float = 0.0,
    speakers: Sequence[str] = (),
) -> "Moments":
    """The moments in these candidates, best first, weak ones last.

    No two of them are of neighbouring passages, and no sentence is in two of them.
    `vector` is the question's (unit length), None where only words are compared; `unknown` are its words that nobody
    ever said. A hit is weak where its closeness is under `weak_below` and it does not hold most of the words. With
    `speakers` the second is in a sentence of theirs.
    """
    fitting = [item for item in found if all(_runs(list(tokens(item.text)), phrase) for phrase in wanted.phrases)]
    scorer = _Scorer(
        wanted=wanted,
        alike=_alike(fitting, unknown),
        vector=vector,
        mode=mode,
        best_words=max((item.bm25 for item in fitting), default=0.0),
        unmeasured=weak_below if vector is not None else 0.0,
    )
    groups: list[list[_Scored]] = []
    of_recording: dict[str, list[list[_Scored]]] = {}
    scored = map(scorer.scored, fitting)
    for item in sorted(
        scored, key=lambda one: (-one.evidence, -one.score, one.candidate.media_key, one.candidate.start)
    ):
        near = of_recording.setdefault(item.candidate.media_key, [])
        home = next((group for group in near if _adjoin(group[0].candidate, item.candidate)), None)
        if home is None:
            home = []
            near.append(home)
            groups.append(home)
        home.append(item)
    # The order of equals stays: it is that of their scores.
    groups.sort(key=lambda group: _is_weak(group[0], weak_below))
    found_each = [(group[0], said) for group, said in zip(groups, _shared_out(groups), strict=True)]
    return Moments(found_each, scorer, weak_below, frozenset(speakers))


def _is_weak(best: _Scored, weak_below: float) -> bool:
    """Return whether a passage is far from the question and holds no more than half of its words."""
    return best.closeness < weak_below and best.coverage <= 0.5  # noqa: PLR2004 -- half of its words


def _shared_out(groups: Sequence[Sequence[_Scored]]) -> list[list[Sentence]]:
    """The sentences that each moment is shown with, in their order: of its own passage, then of its neighbours.

    Two moments may have a neighbour between them, or neighbours that overlap: what both have is the better one's.
    """
    taken: set[tuple[str, float, float, str]] = set()
    shown: list[list[Sentence]] = [[] for _ in groups]
    for members in (slice(0, 1), slice(1, None)):
        for group, said in zip(groups, shown, strict=True):
            for item in group[members]:
                for one in item.candidate.sentences:
                    place = (item.candidate.media_key, one.start, one.end, one.text)
                    if place not in taken:
                        taken.add(place)
                        said.append(one)
    return [sorted(said, key=lambda one: (one.start, one.end, one.text)) for said in shown]


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments in their order; `hits` writes a page of them out."""

    found: list[tuple[_Scored, list[Sentence]]]
    """The best passage of each, and the sentences around it."""
    scorer: "_Scorer"
    weak_below: float
    speakers: frozenset[str]

    def __len__(self) -> int:
        return len(self.found)

    def hits(self, offset: int, limit: int) -> tuple[Hit, ...]:
        """From the `offset`th on, at most `limit`."""
        page = slice(offset, offset + limit)
        scores = self._scores()[page]
        return tuple(
            self._hit(best, context, score) for (best, context), score in zip(self.found[page], scores, strict=True)
        )

    def _scores(self) -> list[float]:
        """Return the scores in [0, 1] of all moments; none is below that of a moment after it."""
        own = (min(max(best.score / FULL_SCORE, 0.0), 1.0) for best, _ in reversed(self.found))
        return list(accumulate(own, max))[::-1]

    def _hit(self, best: _Scored, context: list[Sentence], score: float) -> Hit:
        item = best.candidate
        found = item.sentences[self.scorer.best_sentence(best, self.speakers)]
        text, places = joined(context)
        place = places[context.index(found)]
        matches = marked(text, self.scorer.wanted, self.scorer.alike)
        inside = [match[0] - place[0] for match in matches if place[0] <= match[0] < place[1]]
        words_at = self.scorer.place(found.text)[1]
        return Hit(
            media_key=item.media_key,
            recording=item.title,
            start=_second(found, words_at if words_at is not None else min(inside, default=0)),
            end=found.end,
            text=text,
            sentence=place,
            matches=tuple(matches),
            context_start=context[0].start,
            context_end=max(sentence.end for sentence in context),
            score=round(score, 4),
            weak=_is_weak(best, self.weak_below),
            language=item.language,
            speaker=found.speaker or None,
            recorded=item.recorded,
            duration_s=item.duration_s,
        )


def unknown_words(found: Sequence[Candidate], wanted: Sought) -> tuple[str, ...]:
    """Words that stand in no candidate."""
    return tuple(term for term in wanted.terms if not any(term in words_of(item.text) for item in found))


def words_each(found: Iterable[Candidate]) -> Iterator[frozenset[str]]:
    """The words that stand in each candidate."""
    return (words_of(item.text) for item in found)


def _alike(found: Sequence[Candidate], unknown: Sequence[str]) -> dict[str, frozenset[str]]:
    """Words that nobody ever said, with those that are spelt like them."""
    held = _NONE.union(*words_each(found)) if unknown else _NONE
    # What is alike begins alike; looked at here, because it spares most of the comparisons.
    return {term: frozenset(word for word in held if word[0] == term[0] and is_like(word, term)) for term in unknown}


@dataclass(frozen=True, slots=True)
class _Scorer:
    wanted: Sought
    alike: Mapping[str, frozenset[str]]
    vector: Vector | None
    mode: Mode
    best_words: float
    unmeasured: float

    def scored(self, item: Candidate) -> _Scored:
        coverage = self._coverage(words_of(item.text))
        # A passage that waits for its vector is neither near nor far.
        closeness, by_meaning, near = 0.0, self.unmeasured, None
        if self.vector is not None and item.vector is not None and item.sentence_vectors is not None:
            whole, near = float(item.vector @ self.vector), item.sentence_vectors @ self.vector
            by_meaning = (1 - SENTENCE_SHARE) * whole + SENTENCE_SHARE * float(near.max())
            closeness = max(whole, float(near.max()))
        by_words = coverage * item.bm25 / self.best_words if self.best_words else 0.0
        score = {
            Mode.HYBRID: by_meaning + WORDS_SHARE * by_words,
            Mode.VECTOR: by_meaning,
            Mode.TEXT: FULL_SCORE * by_words,
        }[self.mode]
        evidence = max(map(self._evidence, item.sentences), default=Evidence.SOME)
        return _Scored(item, score, closeness, coverage, near, evidence)

    def best_sentence(self, found: _Scored, speakers: frozenset[str]) -> int:
        """Return the sentence to start at: of these speakers (if any), with most evidence, near in meaning."""
        spoken = found.candidate.sentences
        fit = np.zeros(len(spoken)) if found.near is None else found.near.astype(np.float64)
        if self.mode is not Mode.VECTOR:
            fit = fit + SENTENCE_WORDS * np.array([self._coverage(words_of(sentence.text)) for sentence in spoken])
        ranks = [
            (not speakers or sentence.speaker in speakers, self._evidence(sentence), fit_of_it)
            for sentence, fit_of_it in zip(spoken, fit.tolist(), strict=True)
        ]
        return ranks.index(max(ranks))

    def _evidence(self, sentence: Sentence) -> Evidence:
        if self.mode is Mode.VECTOR or self._coverage(words_of(sentence.text)) < 1:
            return Evidence.SOME
        return self.place(sentence.text)[0]

    def place(self, text: str) -> tuple[Evidence, int | None]:
        """Return how the words of the question stand in a text that holds all, and where (None if they are apart).

        A question that has nothing but phrases is answered by its first phrase.
        """
        meant = {word: term for term, words in self.alike.items() for word in words}
        held = [token._replace(folded=meant.get(token.folded, token.folded)) for token in tokens(text)]
        typed = self.wanted.typed or next(iter(self.wanted.phrases), ())
        if places := _runs(held, typed):
            return Evidence.AS_TYPED, held[places[0]].start
        terms = self.wanted.terms
        telling = [token for token in held if token.folded in terms or not is_frequent(token)]
        if terms and (places := _runs(telling, terms)):
            return Evidence.IN_ORDER, telling[places[0]].start
        return Evidence.ALL, None

    def _coverage(self, held: frozenset[str]) -> float:
        """Share of the words that are held; one that nobody ever said counts by what is like it."""
        words = self.wanted.words
        if not words:
            return 0.0
        return sum(word in held or bool(held & self.alike.get(word, _NONE)) for word in words) / len(words)


def _adjoin(one: Candidate, other: Candidate) -> bool:
    """Whether two passages of a recording are neighbours."""
    return other.start <= one.end + ADJOINING_S and one.start <= other.end + ADJOINING_S


def _second(sentence: Sentence, offset: int) -> float:
    """The start of the sentence; in a long one, of a word shortly before the one at `offset`."""
    if sentence.end - sentence.start <= LONG_SENTENCE_S or not offset:
        return sentence.start
    spoken = [start for at, start in sentence.words if at <= offset]
    if not spoken:
        return sentence.start
    earlier = [start for start in spoken if start >= spoken[-1] - LEAD_IN_S]
    return max(sentence.start, min(earlier))


def marked(text: str, wanted: Sought, alike: Mapping[str, frozenset[str]]) -> list[tuple[int, int]]:
    """Return where the words of the question stand, also inflected, or what is `alike` to those that are never said."""
    inflected = (word for word in words_of(text) for term in wanted.terms if is_inflected(word, term))
    found = set(
        spans(text, frozenset(wanted.terms).union(inflected, *(alike.get(term, _NONE) for term in wanted.terms)))
    )
    if wanted.phrases:
        held = list(tokens(text))
        for phrase in wanted.phrases:
            for first in _runs(held, phrase):
                found.update((token.start, token.end) for token in held[first : first + len(phrase)])
    return sorted(found)


def _runs(held: Sequence[Token], phrase: Sequence[str]) -> list[int]:
    """Return the places in `held` at which the phrase (not empty) begins."""
    if not phrase:
        return []
    folded = [token.folded for token in held]
    return [at for at in range(len(held) - len(phrase) + 1) if folded[at : at + len(phrase)] == list(phrase)]


def nearest(found: Iterable[Candidate], vector: Vector, most: int) -> list[Candidate]:
    """The passages nearest to the question's vector; the index that named them knows only about how near they are."""
    having = [item for item in found if item.vector is not None]
    return sorted(having, key=lambda item: -float(item.vector @ vector))[:most]  # type: ignore[operator]  # not None
