"""Answer a question: search, refuse if nothing matches well, ask the language model, and check its citations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transcription_assets.answers import prompt
from transcription_assets.answers.citations import CheckedReply, checked
from transcription_assets.answers.service import LanguageModel
from transcription_assets.answers.sources import Source, is_repeated, queries, source, support, within_budget
from transcription_assets.domain.passages import Sentence
from transcription_assets.search.filters import Filters
from transcription_assets.search.query import Hit, Mode, Query
from transcription_assets.search.searcher import Searcher

ENOUGH = 5
"""Moments that match well, after which no further query of a question is searched for."""
HITS = 8
MOST_SOURCES = 12

NOTHING_MATCHES = "Nothing in the recordings matches the question well enough."
NOT_ANSWERED = "The passages that were found do not answer the question."
CUT = "The model's reply was too long: its end is missing."
NOT_CITED = "The model's reply was discarded: no sentence of it cites a passage."


@dataclass(frozen=True, slots=True)
class Citation:
    """A moment that an answer cites: `number` from 1 in order of use, `second` where it is said, what, and by whom.

    `speaker` is empty if unknown; the one of the hit may be another, as a source has the sentences around it.
    """

    number: int
    hit: Hit
    second: float
    text: str
    speaker: str


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """A sentence, and the numbers of its citations, at least one."""

    text: str
    cites: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CitedAnswer:
    """An answer; without `sentences` the question was refused, and `reason` says why.

    `dropped` counts sentences of the model without a valid citation. `note` is that of the search.
    """

    sentences: tuple[AnswerSentence, ...] = ()
    citations: tuple[Citation, ...] = ()
    reason: str = ""
    model: str = ""
    dropped: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class FoundPassages:
    """Sources of an answer, none if nothing matches well, and the note of the search."""

    sources: Sequence[Source]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Asker:
    """Answers questions with a language model, from at most `most_tokens` of passages; thread-safe."""

    model: LanguageModel
    most_tokens: int

    def ask(self, searcher: Searcher, question: str, filters: Filters) -> CitedAnswer:
        """Return an answer; the model is asked only if some passages match well.

        Raises:
            InvalidQuery: the question is too long.
            TranscriptionError: the search table cannot be read, or the language model gives no answer.

        """
        return self.answer(question, self.found(searcher, question, filters))

    def found(self, searcher: Searcher, question: str, filters: Filters) -> FoundPassages:
        """Return the sources of an answer; with a filter of speakers, only what these say.

        Raises:
            InvalidQuery: the question is too long.
            TranscriptionError: the search table cannot be read.

        """
        hits, note = strong_hits(searcher, question, filters)
        each = (source(hit, _around(searcher, hit, filters)) for hit in hits)
        return FoundPassages(within_budget(each, self.most_tokens), note)

    def answer(self, question: str, found: FoundPassages) -> CitedAnswer:
        """Return the model's answer from the sources; without any it is not asked.

        Raises:
            TranscriptionError: the language model gives no answer.

        """
        sources, note = found.sources, found.note
        if not sources:
            return CitedAnswer(reason=NOTHING_MATCHES, note=note)
        reply = self.model.reply(prompt.messages(question, sources))
        answer = checked(reply.text, len(sources), is_cut=reply.is_cut)
        note = " ".join(filter(None, (note, CUT if reply.is_cut else "")))
        if not answer.sentences:
            reason = NOT_ANSWERED if answer.is_refusal else NOT_CITED
            return CitedAnswer(reason=reason, model=self.model.name, dropped=answer.dropped, note=note)
        return _with_citations(answer, sources, self.model.name, note)


def _around(searcher: Searcher, hit: Hit, filters: Filters) -> list[Sentence]:
    said = searcher.around(hit.media_key, hit.start, hit.end)
    wanted = {*filters.speakers, hit.speaker}
    return [item for item in said if item.speaker in wanted] if filters.speakers else said


def strong_hits(searcher: Searcher, question: str, filters: Filters) -> tuple[list[Hit], str]:
    """Return the moments that match the question well, best first, and the note of the search.

    There are none if none match the whole question: any of its parts may match something else. Else the parts are
    searched for until there are ENOUGH.

    Raises:
        InvalidQuery: the question is too long.
        TranscriptionError: the search table cannot be read.

    """
    found: list[Hit] = []
    note = ""
    # The characters of a Thai question are in every Thai text: only closeness of meaning says that a moment matches.
    mode = Mode.VECTOR if any("\u0e00" <= character <= "\u0e7f" for character in question) else Mode.HYBRID
    for text in queries(question):
        answer = searcher.search(Query(text, HITS, mode=mode, filters=filters))
        note = note or answer.note
        for hit in answer.hits:
            if not hit.weak and not is_repeated(hit, found):
                found.append(hit)
        if not found or len(found) >= ENOUGH:
            break
    return found[:MOST_SOURCES], note


def _with_citations(answer: CheckedReply, sources: Sequence[Source], model: str, note: str) -> CitedAnswer:
    """Return the answer with its citations, numbered in order of use; each has the second of its first sentence."""
    used: dict[int, Citation] = {}
    for sentence in answer.sentences:
        for number in sentence.cites:
            if number not in used:
                used[number] = _citation(len(used) + 1, sources[number - 1], sentence.text)
    sentences = tuple(AnswerSentence(item.text, tuple(sorted(_numbers(item.cites, used)))) for item in answer.sentences)
    return CitedAnswer(sentences, tuple(used.values()), model=model, dropped=answer.dropped, note=note)


def _numbers(cites: Iterable[int], used: dict[int, Citation]) -> Iterable[int]:
    return (used[number].number for number in cites)


def _citation(number: int, cited: Source, sentence: str) -> Citation:
    said, second = support(cited, sentence)
    return Citation(number, cited.hit, second, said.text, said.speaker)
