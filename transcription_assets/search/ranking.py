"""Ranking: fusion of the candidates by vector and by words, merging of neighbours, and the start of each moment. Pure.

Candidates are ordered by the evidence in their sentences (`Evidence`): those with all words of the question as typed
first, then by the evidence with all forms of the words, then by that with the words as typed, then by a score:
closeness (cosine of the passage and of its best sentence) plus a share for the words of the question that it holds,
weighted by how rare they are (BM25). Weak moments come last. Evaluation: docs/benchmarks/search.md; reasons:
docs/decisions/0026.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from functools import cached_property, partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.passages import Sentence, join_sentences
from transcription_assets.embedding.profiles import Weights
from transcription_assets.search.query import (
    STEM_LETTERS,
    Hit,
    HitSlide,
    Mode,
    ParsedQuery,
    Span,
    Token,
    count_held,
    fold,
    is_frequent,
    is_inflected,
    is_like,
    spans,
    tokens,
    words_of,
)
from transcription_assets.search.vocabulary import Forms
from transcription_assets.search.word_forms import merge_numbers

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


class Evidence(IntEnum):
    """Degree to which one sentence holds the words of the question; more evidence always ranks first."""

    SOME = 0
    ALL = 1
    IN_ORDER = 2
    """One after another, with only frequent words between them."""
    AS_TYPED = 3


_Rank = tuple[bool, Evidence, Evidence]
"""Whether all words are there as typed, evidence with all forms of the words, and evidence with the words as typed."""
_NO_EVIDENCE: _Rank = (False, Evidence.SOME, Evidence.SOME)
_Place = tuple[Evidence, int | None]
"""Evidence of a text, and the offset of the question in it (None if its words are scattered)."""


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
    evidence: "_Rank"


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
    fitting = [item for item in found if all(_runs(tokens(item.text), phrase) for phrase in query.phrases)]
    scorer = _Scorer(
        query=query,
        alike=_alike(fitting, unknown),
        forms=forms or Forms(),
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
        matches = self.scorer.highlights(text, item.language)
        inside = [match[0] - place[0] for match in matches if place[0] <= match[0] < place[1]]
        words_at = self.scorer.place(best_sentence.text, item.language)
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
    return any(typed <= words_of(item.text) and _runs(tokens(item.text), query.typed) for item in found)


def _alike(found: Sequence[Candidate], unknown: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the words of the candidates that are spelt like each unknown word."""
    vocabulary = _NONE.union(*(words_of(item.text) for item in found)) if unknown else _NONE
    # Similar words have the same first letter; checked here first, as it avoids most comparisons.
    return {
        term: frozenset(word for word in vocabulary if word[0] == term[0] and is_like(word, term)) for term in unknown
    }


@dataclass(frozen=True, slots=True)
class _Wording:
    """A way to read the question: the words as typed, its terms, and the term that another word of a text counts as."""

    typed: Sequence[str]
    terms: Sequence[str]
    spelling: Mapping[str, str]

    def found(self, words_held: Sequence[Token]) -> _Place:
        """Return the evidence of a text with these words, and the offset of the question in it (None if scattered)."""
        held = [self.spelling.get(token.folded, token.folded) for token in words_held]
        if not set(held).issuperset(self.terms or self.typed):
            return Evidence.SOME, None
        if places := _places(held, self.typed):
            return Evidence.AS_TYPED, words_held[places[0]].start
        informative = [
            (folded, token.start)
            for folded, token in zip(held, words_held, strict=True)
            if folded in self.terms or not is_frequent(token)
        ]
        if places := _places([folded for folded, _ in informative], self.terms):
            return Evidence.IN_ORDER, informative[places[0]][1]
        return Evidence.ALL, None


@dataclass(frozen=True)
class _Scorer:
    query: ParsedQuery
    alike: Mapping[str, frozenset[str]]
    forms: Forms
    vector: Vector | None
    mode: Mode
    best_words: float
    weights: Weights

    @property
    def full_score(self) -> float:
        """The score of a passage with the question's meaning and all of its words."""
        return 1.0 + self.weights.words

    @cached_property
    def _as_typed(self) -> _Wording:
        """The question as it was typed; one of phrases only is located by its first phrase."""
        typed = self.query.typed or next(iter(self.query.phrases), ())
        return _Wording(typed, self.query.terms, _spelling(self.alike, self.query.terms))

    @cached_property
    def _wordings(self) -> dict[str, _Wording]:
        return {}

    def _in_all_forms(self, language: str) -> _Wording:
        """Return the question with other forms of its words in this language, and with its numbers merged."""
        if language not in self._wordings:
            self._wordings[language] = self._worded(language)
        return self._wordings[language]

    def _worded(self, language: str) -> _Wording:
        spelling = _spelling(self._counted(language), self.query.terms) | _spelling(self.alike, self.query.terms)
        if self.forms.numerals is None:
            return _Wording(self._as_typed.typed, self.query.terms, spelling)
        read = self.forms.numerals
        terms = tuple(dict.fromkeys(token.folded for token in read if _is_term(token, self.query)))
        return _Wording(tuple(token.folded for token in read), terms, spelling)

    @cached_property
    def _forms_in(self) -> dict[str, Mapping[str, frozenset[str]]]:
        return {}

    def _counted(self, language: str) -> Mapping[str, frozenset[str]]:
        """Return the folded other forms of each term in a passage of this language."""
        if language not in self._forms_in:
            self._forms_in[language] = self.forms.counted(language)
        return self._forms_in[language]

    def scored(self, item: Candidate) -> _Scored:
        coverage = self._coverage(item.text, item.language)
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
        evidence = _NO_EVIDENCE
        # A sentence holds no word that its passage lacks, unless numbers of two sentences are merged.
        if coverage == 1 or self.forms.numerals is not None:
            evidence = max((self._evidence(one, item.language) for one in item.sentences), default=_NO_EVIDENCE)
        return _Scored(item, score, closeness, coverage, similarities, evidence)

    def best_sentence(self, scored: _Scored, speakers: frozenset[str]) -> int:
        """Return the index of the sentence to start at: of these speakers (if any), most evidence, then closest."""
        spoken, language = scored.candidate.sentences, scored.candidate.language
        fit = np.zeros(len(spoken)) if scored.similarities is None else scored.similarities.astype(np.float64)
        if self.mode is not Mode.VECTOR:
            shares = np.array([self._coverage(sentence.text, language) for sentence in spoken])
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

    def _evidence(self, sentence: Sentence, language: str) -> _Rank:
        if self.mode is Mode.VECTOR or not self._may_hold_all(sentence.text, language):
            return _NO_EVIDENCE
        if self._coverage(sentence.text, language) < 1:
            return _NO_EVIDENCE
        (typed, _), (in_forms, _) = self._found(sentence.text, language)
        return typed >= Evidence.ALL, max(typed, in_forms), typed

    def _may_hold_all(self, text: str, language: str) -> bool:
        """Return False if a text lacks a word of a question with numbers, apart from these: merging them is slow."""
        if self.forms.numerals is None:
            return True
        folded = fold(text)
        words = (term for term in self._in_all_forms(language).terms if not term.startswith("#"))
        return all(any(word in folded for word in self._accepted_for(term, language)) for term in words)

    def place(self, text: str, language: str) -> int | None:
        """Return the offset of the question's words in a text that holds all of them, None if they are scattered."""
        (typed, at), (in_forms, there) = self._found(text, language)
        return there if in_forms > typed else at

    def _found(self, text: str, language: str) -> tuple[_Place, _Place]:
        """Return where a text holds the question as it was typed, and with all forms of its words."""
        if (text, language) not in self._places:
            typed = self._as_typed.found(tokens(text))
            is_varied = self._counted(language) or self.forms.numerals is not None
            in_forms = self._in_all_forms(language).found(self._words(text, language)) if is_varied else typed
            self._places[text, language] = typed, in_forms
        return self._places[text, language]

    @cached_property
    def _places(self) -> dict[tuple[str, str], tuple[_Place, _Place]]:
        return {}

    def highlights(self, text: str, language: str) -> list[Span]:
        """Return the character ranges of the question's words in a text, in any form."""
        counted = self._counted(language)
        others = {term: self.alike.get(term, _NONE) | counted.get(term, _NONE) for term in self.query.terms}
        found = set(highlight_ranges(text, self.query, others))
        if self.forms.numerals is not None:
            keys = {token.folded for token in self.forms.numerals if token.folded.startswith("#")}
            found |= {(token.start, token.end) for token in self._words(text, language) if token.folded in keys}
        outer = [one for one in found if not any(_is_inside(one, other) for other in found)]
        return sorted(outer)

    def _words(self, text: str, language: str) -> Sequence[Token]:
        """Return the words of a text, its numbers merged if the question has any."""
        if self.forms.numerals is None:
            return tokens(text)
        if (text, language) not in self._merged:
            self._merged[text, language] = merge_numbers(text, tokens(text), language)
        return self._merged[text, language]

    @cached_property
    def _merged(self) -> dict[tuple[str, str], list[Token]]:
        return {}

    def _coverage(self, text: str, language: str) -> float:
        """Return the share of the question's words in a text, in any form; a similar word counts for an unknown one.

        If the question has numbers, the share with the numbers merged counts if it is larger.
        """
        accepted = self._accepted(language)
        if not accepted:
            return 0.0
        share = count_held(text, accepted) / len(accepted)
        if self.forms.numerals is None or share == 1:
            return share
        merged = frozenset(token.folded for token in self._words(text, language))
        terms = [*(word for phrase in self.query.phrases for word in phrase), *self._in_all_forms(language).terms]
        return max(share, sum(not merged.isdisjoint(self._accepted_for(term, language)) for term in terms) / len(terms))

    @cached_property
    def _accepted_in(self) -> dict[str, list[frozenset[str]]]:
        return {}

    def _accepted(self, language: str) -> list[frozenset[str]]:
        """Return for each word of the question the words that count as it in a passage of this language."""
        if language not in self._accepted_in:
            self._accepted_in[language] = [self._accepted_for(word, language) for word in self.query.words]
        return self._accepted_in[language]

    def _accepted_for(self, word: str, language: str) -> frozenset[str]:
        return frozenset((word,)) | self._counted(language).get(word, _NONE) | self.alike.get(word, _NONE)


def _spelling(others: Mapping[str, frozenset[str]], terms: Sequence[str]) -> dict[str, str]:
    """Return the term that each of the other words counts as; a term counts as itself."""
    return {word: term for term, words in others.items() for word in words if word not in terms}


def _is_term(token: Token, query: ParsedQuery) -> bool:
    """Return whether a word of the question, its numbers merged, is a number, a term, or the unit in one (`5km`)."""
    return token.folded.startswith("#") or token.folded in query.terms or token.folded not in query.typed


def _is_inside(one: Span, other: Span) -> bool:
    return one != other and other[0] <= one[0] and one[1] <= other[1]


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


def highlight_ranges(text: str, query: ParsedQuery, alike: Mapping[str, frozenset[str]]) -> list[tuple[int, int]]:
    """Return the character ranges of the question's words, also inflected ones, and those `alike` to unknown words."""
    terms: dict[str, list[str]] = {}
    for term in query.terms:
        terms.setdefault(term[:STEM_LETTERS], []).append(term)
    near = ((word, terms.get(word[:STEM_LETTERS], ())) for word in words_of(text))
    inflected = (word for word, others in near if any(is_inflected(word, term) for term in others))
    found = set(spans(text, frozenset(query.terms).union(inflected, *(alike.get(term, _NONE) for term in query.terms))))
    if query.phrases:
        words_held = tokens(text)
        for phrase in query.phrases:
            for first in _runs(words_held, phrase):
                found.update((token.start, token.end) for token in words_held[first : first + len(phrase)])
    return sorted(found)


def _runs(words_held: Sequence[Token], phrase: Sequence[str]) -> list[int]:
    """Return the positions in `words_held` at which the phrase begins."""
    return _places([token.folded for token in words_held], phrase)


def _places(held: Sequence[str], phrase: Sequence[str]) -> list[int]:
    """Return the positions in `held` at which the phrase begins; an empty one has none."""
    if not phrase:
        return []
    first, count = phrase[0], len(phrase)
    return [at for at, word in enumerate(held) if word == first and list(held[at : at + count]) == list(phrase)]


def nearest(found: Iterable[Candidate], vector: Vector, most: int) -> list[Candidate]:
    """Return the passages closest to the question's vector; distances of the vector index are only approximate."""
    having = [item for item in found if item.vector is not None]
    return sorted(having, key=lambda item: -float(item.vector @ vector))[:most]  # type: ignore[operator]  # not None
