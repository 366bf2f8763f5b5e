"""Words of a question in a text: which of them it holds, in which form, and how close together. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from transcription_assets.search.query import (
    STEM_LETTERS,
    ParsedQuery,
    Span,
    Token,
    count_held,
    is_frequent,
    is_inflected,
    spans,
    tokens,
    words_of,
)
from transcription_assets.search.vocabulary import Forms
from transcription_assets.search.word_forms import SMALLEST, may_hold_numbers, merge_numbers, value_of

_NONE: frozenset[str] = frozenset()


class Evidence(IntEnum):
    """Degree to which one sentence holds the words of the question; more evidence always ranks first."""

    SOME = 0
    ALL = 1
    IN_ORDER = 2
    """One after another, with only frequent words between them."""
    AS_TYPED = 3


Rank = tuple[bool, Evidence, Evidence]
"""Key by which sentences are ordered.

It is whether all words are there as typed, the evidence with all forms of the words, and that with the words as typed.
"""
NO_EVIDENCE: Rank = (False, Evidence.SOME, Evidence.SOME)
_Place = tuple[Evidence, int | None]
"""Evidence of a text, and the offset of the question in it; None if its words are scattered."""


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
        if starts := _starts(held, self.typed):
            return Evidence.AS_TYPED, words_held[starts[0]].start
        informative = [
            (folded, token.start)
            for folded, token in zip(held, words_held, strict=True)
            if folded in self.terms or not is_frequent(token)
        ]
        if starts := _starts([folded for folded, _ in informative], self.terms):
            return Evidence.IN_ORDER, informative[starts[0]][1]
        return Evidence.ALL, None


@dataclass(frozen=True)
class QuestionWords:
    """The words of a question: `alike` has the words that are spelt like unknown ones, `forms` those in other forms."""

    query: ParsedQuery
    alike: Mapping[str, frozenset[str]]
    forms: Forms

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

    def evidence(self, text: str, language: str) -> Rank:
        """Return the evidence of a text (a sentence), by which moments are ordered."""
        if not self._may_hold_all(text, language) or self.coverage(text, language) < 1:
            return NO_EVIDENCE
        (typed, _), (in_forms, _) = self._located(text, language)
        return typed >= Evidence.ALL, max(typed, in_forms), typed

    def _may_hold_all(self, text: str, language: str) -> bool:
        """Return False if a text lacks a word of a question with numbers, apart from these: merging them is slow."""
        if self.forms.numerals is None:
            return True
        # Not `fold(text)`: signs that are tokens by themselves in scripts without spaces would be dropped.
        folded = text.lower() if text.isascii() else "".join(token.folded for token in tokens(text))
        words = (term for term in self._in_all_forms(language).terms if not term.startswith("#"))
        return all(any(word in folded for word in self._accepted_for(term, language)) for term in words)

    def place(self, text: str, language: str) -> int | None:
        """Return the offset of the question's words in a text that holds all of them, None if they are scattered."""
        (typed, at), (in_forms, there) = self._located(text, language)
        return there if in_forms > typed else at

    def _located(self, text: str, language: str) -> tuple[_Place, _Place]:
        """Return where a text holds the question as it was typed, and with all forms of its words."""
        if (text, language) not in self._located_in:
            typed = self._as_typed.found(tokens(text))
            is_varied = self._counted(language) or self.forms.numerals is not None
            in_forms = self._in_all_forms(language).found(self._words(text, language)) if is_varied else typed
            self._located_in[text, language] = typed, in_forms
        return self._located_in[text, language]

    @cached_property
    def _located_in(self) -> dict[tuple[str, str], tuple[_Place, _Place]]:
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
        if not self._may_hold_its_numbers(text, language):
            return tokens(text)
        if (text, language) not in self._merged:
            self._merged[text, language] = merge_numbers(text, tokens(text), language)
        return self._merged[text, language]

    @cached_property
    def _merged(self) -> dict[tuple[str, str], list[Token]]:
        return {}

    def _may_hold_its_numbers(self, text: str, language: str) -> bool:
        """Return False if the question has no numbers, or a text certainly none of them: merging them is slow."""
        if self.forms.numerals is None:
            return False
        return self._has_small_number or may_hold_numbers(text, language)

    @cached_property
    def _has_small_number(self) -> bool:
        """Numbers below SMALLEST are also said by words that are no numbers by themselves (one point one)."""
        values = (value_of(token.folded) for token in self.forms.numerals or ())
        return any(value is not None and value < SMALLEST for value in values)

    def coverage(self, text: str, language: str) -> float:
        """Return the share of the question's words in a text, in any form; a similar word counts for an unknown one.

        If the question has numbers, the share with the numbers merged counts if it is larger.
        """
        accepted = self._accepted(language)
        if not accepted:
            return 0.0
        share = count_held(text, accepted) / len(accepted)
        if self.forms.numerals is None or share == 1:
            return share
        if self._may_hold_its_numbers(text, language):
            merged = frozenset(token.folded for token in self._words(text, language))
        else:
            merged = words_of(text)
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
            for first in runs(words_held, phrase):
                found.update((token.start, token.end) for token in words_held[first : first + len(phrase)])
    return sorted(found)


def runs(words_held: Sequence[Token], phrase: Sequence[str]) -> list[int]:
    """Return the positions in `words_held` at which the phrase begins."""
    return _starts([token.folded for token in words_held], phrase)


def _starts(held: Sequence[str], phrase: Sequence[str]) -> list[int]:
    """Return the positions in `held` at which the phrase begins; an empty one has none."""
    if not phrase:
        return []
    wanted = list(phrase)
    return [at for at, word in enumerate(held) if word == wanted[0] and list(held[at : at + len(wanted)]) == wanted]
