"""Ranking: fusion of the candidates by vector and by words, merging of neighbours, and the start of each moment. Pure.

Candidates are ordered by the evidence in their sentences (`evidence`): those with all words of the question as typed
first, then by the evidence with all forms of the words, then by that with the words as typed, then by a score:
closeness (cosine of the passage and of its best sentence) plus a share for the words of the question that it holds,
weighted by how rare they are (BM25). Weak moments come last. Evaluation: docs/benchmarks/search.md; reasons:
docs/decisions/0026.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.passages import Sentence, join_sentences
from transcription_assets.embedding.profiles import Weights
from transcription_assets.search.evidence import NO_EVIDENCE, QuestionWords, Rank, runs
from transcription_assets.search.query import (
    Hit,
    HitSlide,
    Mode,
    ParsedQuery,
    count_held,
    is_like,
    tokens,
    words_of,
)
from transcription_assets.search.vocabulary import Forms

Vector = NDArray[np.float32]
DEFAULT = Weights()

ADJOINING_S = 2.0
"""Passages of a recording with at most this much silence between them (seconds) are neighbours."""
SLIDE_JOINS_S = 30.0
"""Seconds from the start of a slide in which the best passage is one moment with it; later ones are separate."""
_NONE: frozenset[str] = frozenset()
LONG_SENTENCE_S = 10.0
LEAD_IN_S = 2.0
"""In a sentence longer than LONG_SENTENCE_S, seconds before the matching words at which a moment starts."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage of the table; vectors have unit length and are None if it has none of the model in use.

    `row` is its id in this version of the table, `bm25` its score among the passages that hold words of the question,
    0.0 if it holds none.
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
    slide: int = 0
    """The number of the slide that it is, 0 for speech."""


@dataclass(frozen=True, slots=True)
class _Scored:
    candidate: Candidate
    score: float
    closeness: float
    coverage: float
    similarities: Vector | None
    evidence: Rank


def rank_moments(
    found: Sequence[Candidate],
    query: ParsedQuery,
    vector: Vector | None,
    mode: Mode,
    *,
    unknown: Sequence[str] = (),
    forms: Forms | None = None,
    weights: Weights = DEFAULT,
    speakers: Sequence[str] = (),
    earlier: Sequence[Sequence[Candidate]] = (),
) -> "RankedMoments":
    """Merge these candidates into moments, best first, weak ones last.

    No two moments are of neighbouring passages, and no sentence is in two of them. A slide and the best passage that is
    said as it appears are one moment. `vector` is the question's (unit length), None if only words are compared;
    `unknown` are its words that no passage holds, `forms` the other forms of its words. A hit is weak if its closeness
    is below that of `weights` and it does not hold most of the words. With `speakers`, moments start in a sentence of
    theirs. What belongs to an `earlier` moment (its best passage, and its slide or what is said) is left out.
    """
    fitting = [item for item in found if all(runs(tokens(item.text), phrase) for phrase in query.phrases)]
    scorer = _Scorer(
        words=QuestionWords(query, _alike(fitting, unknown), forms or Forms()),
        vector=vector,
        mode=mode,
        best_words=max((item.bm25 for item in fitting), default=0.0),
        weights=weights,
    )
    span = partial(scorer.span, speakers=frozenset(speakers))
    groups: list[list[_Scored]] = []
    of_recording: dict[str, list[list[_Scored]]] = {}
    for moment in earlier:
        of_recording.setdefault(moment[0].media_key, []).append([scorer.scored(item) for item in moment])
    left_out = {item.row for moment in earlier for item in moment}
    scored = (scorer.scored(item) for item in fitting if item.row not in left_out)
    for item in sorted(scored, key=_order):
        neighbours = of_recording.setdefault(item.candidate.media_key, [])
        home = next((group for group in neighbours if _belongs(group, item, span)), None)
        if home is None:
            home = []
            neighbours.append(home)
            groups.append(home)
        home.append(item)
    # The sort is stable: among equals the order by score is preserved.
    groups.sort(key=lambda group: _is_weak(group[0], weights.weak_below))
    alone = [[item for item in group if _same_kind(item.candidate, group[0].candidate)] for group in groups]
    others = [
        next((item for item in group if not _same_kind(item.candidate, group[0].candidate)), None) for group in groups
    ]
    moments = [
        (group[0], context, other) for group, context, other in zip(groups, _shared_out(alone), others, strict=True)
    ]
    return RankedMoments(moments, scorer, weights.weak_below, frozenset(speakers))


def _order(item: _Scored) -> tuple[int, int, int, float, str, float]:
    all_typed, with_forms, typed = item.evidence
    return -all_typed, -with_forms, -typed, -item.score, item.candidate.media_key, item.candidate.start


def _is_weak(best: _Scored, weak_below: float) -> bool:
    """Return whether a passage is far from the question and holds at most half of its words."""
    return best.closeness < weak_below and best.coverage <= 0.5  # noqa: PLR2004 -- half of its words


def _shared_out(groups: Sequence[Sequence[_Scored]]) -> list[list[Sentence]]:
    """Return the sentences to display with each moment, in order: of its own passage, then of its neighbours.

    Two moments may have a neighbour between them, or overlapping neighbours: a common sentence goes to the better
    moment.
    """
    assigned: set[tuple[str, float, float, str]] = set()
    contexts: list[list[Sentence]] = [[] for _ in groups]
    for members in (slice(0, 1), slice(1, None)):
        for group, context in zip(groups, contexts, strict=True):
            for item in group[members]:
                for one in item.candidate.sentences:
                    place = (item.candidate.media_key, one.start, one.end, one.text)
                    if place not in assigned:
                        assigned.add(place)
                        context.append(one)
    return [
        context if group[0].candidate.slide else sorted(context, key=lambda one: (one.start, one.end, one.text))
        for group, context in zip(groups, contexts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class RankedMoments:
    """Ranked moments; `hits` returns a page of them."""

    found: list[tuple[_Scored, list[Sentence], _Scored | None]]
    """The best passage of each moment, the sentences around it, and its slide, or what is said while that is shown."""
    scorer: "_Scorer"
    weak_below: float
    speakers: frozenset[str]

    def __len__(self) -> int:
        return len(self.found)

    @property
    def first(self) -> tuple[float, float] | None:
        """Closeness of the first moment, and the share of the question's words in it; None if there is no moment."""
        return (self.found[0][0].closeness, self.found[0][0].coverage) if self.found else None

    def passages(self, count: int) -> list[tuple[Candidate, ...]]:
        """Return the best passage of each of the first `count` moments, with its slide or what is said meanwhile."""
        return [
            tuple(item.candidate for item in (best, other) if item is not None) for best, _, other in self.found[:count]
        ]

    def hits(self, offset: int, limit: int) -> tuple[Hit, ...]:
        """Return at most `limit` hits from `offset` on."""
        page = slice(offset, offset + limit)
        scores = self._scores()[page]
        return tuple(self._hit(*moment, score) for moment, score in zip(self.found[page], scores, strict=True))

    def _scores(self) -> list[float]:
        """Return the scores in [0, 1] of all moments; none is below that of a moment after it."""
        scores = (min(max(best.score / self.scorer.full_score, 0.0), 1.0) for best, _, _ in reversed(self.found))
        return list(accumulate(scores, max))[::-1]

    def _sentence(self, scored: _Scored) -> Sentence:
        """Return the sentence that fits best."""
        return scored.candidate.sentences[self.scorer.best_sentence(scored, self.speakers)]

    def _hit(self, best: _Scored, context: list[Sentence], other: _Scored | None, score: float) -> Hit:
        item = best.candidate
        slide = item if item.slide else other.candidate if other else None
        best_sentence = self._sentence(best)
        text, places = join_sentences(context)
        place = places[context.index(best_sentence)]
        matches = self.scorer.words.highlights(text, item.language)
        inside = [match[0] - place[0] for match in matches if place[0] <= match[0] < place[1]]
        words_at = self.scorer.words.place(best_sentence.text, item.language)
        return Hit(
            media_key=item.media_key,
            recording=item.title,
            start=_second(best_sentence, words_at if words_at is not None else min(inside, default=0)),
            end=best_sentence.end,
            text=text,
            sentence=place,
            matches=tuple(matches),
            context_start=context[0].start,
            context_end=max(sentence.end for sentence in context),
            score=round(score, 4),
            weak=_is_weak(best, self.weak_below),
            language=item.language,
            speaker=best_sentence.speaker or None,
            recorded=item.recorded,
            duration_s=item.duration_s,
            kind="slide" if item.slide else "speech",
            slide=HitSlide(slide.slide, slide.start, slide.end, slide.text) if slide else None,
            said=self._sentence(other).text if item.slide and other else "",
        )


def unknown_words(found: Sequence[Candidate], query: ParsedQuery, forms: Forms) -> tuple[str, ...]:
    """Return the terms that no candidate holds in any form; those of numbers are never unknown."""
    counted = {language: forms.counted(language) for language in {item.language for item in found}}

    def is_held(term: str, item: Candidate) -> bool:
        return count_held(item.text, [(term, *counted[item.language].get(term, _NONE))]) > 0

    terms = (term for term in query.terms if term not in forms.number_words)
    return tuple(term for term in terms if not any(is_held(term, item) for item in found))


def is_held_as_typed(found: Iterable[Candidate], query: ParsedQuery) -> bool:
    """Return whether a candidate holds the words of the question as they were typed, frequent ones included."""
    typed = frozenset(query.typed)
    return any(typed <= words_of(item.text) and runs(tokens(item.text), query.typed) for item in found)


def _alike(found: Sequence[Candidate], unknown: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the words of the candidates that are spelt like each unknown word."""
    vocabulary = _NONE.union(*(words_of(item.text) for item in found)) if unknown else _NONE
    # Similar words have the same first letter; checked here first, as it avoids most comparisons.
    return {
        term: frozenset(word for word in vocabulary if word[0] == term[0] and is_like(word, term)) for term in unknown
    }


@dataclass(frozen=True, slots=True)
class _Scorer:
    words: QuestionWords
    vector: Vector | None
    mode: Mode
    best_words: float
    weights: Weights

    @property
    def full_score(self) -> float:
        """The score of a passage with the question's meaning and all of its words."""
        return 1.0 + self.weights.words

    def scored(self, item: Candidate) -> _Scored:
        coverage = self.words.coverage(item.text, item.language)
        # A passage without a vector yet is scored as neither close nor far.
        unmeasured = self.weights.weak_below if self.vector is not None else 0.0
        closeness, by_meaning, similarities = 0.0, unmeasured, None
        if self.vector is not None and item.vector is not None and item.sentence_vectors is not None:
            whole, similarities = float(item.vector @ self.vector), item.sentence_vectors @ self.vector
            closest = float(similarities.max())
            by_meaning = whole + self.weights.sentence * (closest - whole)
            closeness = max(whole, closest)
        by_words = coverage * item.bm25 / self.best_words if self.best_words else 0.0
        score = {
            Mode.HYBRID: by_meaning + self.weights.words * by_words,
            Mode.VECTOR: by_meaning,
            Mode.TEXT: self.full_score * by_words,
        }[self.mode]
        evidence = NO_EVIDENCE
        # A sentence holds no word that its passage lacks, unless numbers of two sentences are merged.
        if coverage == 1 or self.words.forms.numerals is not None:
            evidence = max((self._evidence(one, item.language) for one in item.sentences), default=NO_EVIDENCE)
        return _Scored(item, score, closeness, coverage, similarities, evidence)

    def best_sentence(self, scored: _Scored, speakers: frozenset[str]) -> int:
        """Return the index of the sentence to start at: of these speakers (if any), most evidence, then closest."""
        spoken, language = scored.candidate.sentences, scored.candidate.language
        fit = np.zeros(len(spoken)) if scored.similarities is None else scored.similarities.astype(np.float64)
        if self.mode is not Mode.VECTOR:
            shares = np.array([self.words.coverage(sentence.text, language) for sentence in spoken])
            fit = fit + self.weights.sentence_words * shares
        ranks = [
            (not speakers or sentence.speaker in speakers, self._evidence(sentence, language), fit_of_it)
            for sentence, fit_of_it in zip(spoken, fit.tolist(), strict=True)
        ]
        return ranks.index(max(ranks))

    def span(self, scored: _Scored, speakers: frozenset[str]) -> tuple[float, float]:
        """Return the times of the first SLIDE_JOINS_S of a slide, or of the best sentence of a passage."""
        item = scored.candidate
        if item.slide:
            return item.start, min(item.end, item.start + SLIDE_JOINS_S)
        best = item.sentences[self.best_sentence(scored, speakers)]
        return best.start, best.end

    def _evidence(self, sentence: Sentence, language: str) -> Rank:
        return NO_EVIDENCE if self.mode is Mode.VECTOR else self.words.evidence(sentence.text, language)


def are_neighbours(one: Candidate, other: Candidate) -> bool:
    """Return whether two passages are of one recording, and overlap or nearly touch."""
    return one.media_key == other.media_key and _adjoin(one, other)


def _same_kind(one: Candidate, other: Candidate) -> bool:
    """Return whether both are speech, or both slides."""
    return (one.slide > 0) == (other.slide > 0)


def _belongs(group: Sequence[_Scored], item: _Scored, span: Callable[[_Scored], tuple[float, float]]) -> bool:
    """Return whether an item belongs to a moment, of which the first is the best; `span` gives the times of each.

    Neighbouring passages are one moment, two slides never. As a slide may be shown for an hour, not all that is said
    meanwhile is one moment with it: only the best passage at its beginning, and the neighbours of that.
    """
    same = next((one.candidate for one in group if _same_kind(one.candidate, item.candidate)), None)
    if same:
        return not item.candidate.slide and _adjoin(same, item.candidate)
    (start, end), (other_start, other_end) = span(group[0]), span(item)
    return start < other_end and other_start < end


def _adjoin(one: Candidate, other: Candidate) -> bool:
    """Return whether two passages of a recording are neighbours."""
    return other.start <= one.end + ADJOINING_S and one.start <= other.end + ADJOINING_S


def _second(sentence: Sentence, offset: int) -> float:
    """Return the start of the sentence; in a long one, of a word shortly before the one at `offset`."""
    if sentence.end - sentence.start <= LONG_SENTENCE_S or not offset:
        return sentence.start
    spoken = [start for at, start in sentence.words if at <= offset]
    if not spoken:
        return sentence.start
    earlier = [start for start in spoken if start >= spoken[-1] - LEAD_IN_S]
    return max(sentence.start, min(earlier))


def nearest(found: Iterable[Candidate], vector: Vector, most: int) -> list[Candidate]:
    """Return the passages closest to the question's vector; distances of the vector index are only approximate."""
    having = [item for item in found if item.vector is not None]
    return sorted(having, key=lambda item: -float(item.vector @ vector))[:most]  # type: ignore[operator]  # not None
