"""search: run a question against words and vectors at once, and rank the results as moments."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial

from transcription_assets.domain.passages import Sentence
from transcription_assets.embedding import Encoder, Weights
from transcription_assets.embedding.profiles import profile
from transcription_assets.errors import TranscriptionError
from transcription_assets.search import ranking
from transcription_assets.search.filters import KINDS, Facets, Filters, with_suggestions
from transcription_assets.search.index import Index
from transcription_assets.search.index_errors import FilesGone
from transcription_assets.search.query import (
    MAX_LIMIT,
    MAX_OFFSET,
    Answer,
    Hit,
    Mode,
    ParsedQuery,
    Query,
    SimilarQuery,
    parse_query,
)
from transcription_assets.search.ranking import Candidate, RankedMoments, Vector
from transcription_assets.search.retrieval import Snapshot
from transcription_assets.search.vocabulary import Forms, forms_of

CANDIDATES = 2
"""Passages requested per moment of the answer: neighbours are merged."""
FEWEST = 24
GROWTH = 4
MOST = CANDIDATES * (MAX_OFFSET + MAX_LIMIT + 1)
"""At least FEWEST passages are read for the first page, GROWTH times as many at each step for later ones."""
THREADS = 8
NEIGHBOUR_S = 15.0
"""Seconds before and after a moment within which its neighbouring passages are."""
WORDS_ONLY = Weights(weak_below=float("inf"))
"""Without vectors a moment that holds few of the words is weak."""

NO_KINDS = "the search table has the columns of an earlier version, without slides: run `index rebuild`"

Encoders = Callable[[str], Encoder]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """Passages that may answer a question, and what ranks them; `mode` and `note` are those of `Answer`."""

    parsed: ParsedQuery
    candidates: Sequence[Candidate]
    vector: Vector | None
    mode: Mode
    unknown: Sequence[str]
    forms: Forms
    weights: Weights
    passages: int
    note: str
    is_full: bool
    """True if more passages may answer the question than were requested."""

    def ranked(
        self,
        speakers: Sequence[str] = (),
        weights: Weights | None = None,
        earlier: Sequence[Sequence[Candidate]] = (),
    ) -> RankedMoments:
        """Return the moments, best first, by the weights of the table's encoder unless others are given.

        What belongs to an `earlier` moment is left out.
        """
        return ranking.rank_moments(
            self.candidates,
            self.parsed,
            self.vector,
            self.mode,
            unknown=self.unknown,
            forms=self.forms,
            weights=weights or self.weights,
            speakers=speakers,
            earlier=earlier,
        )


_Means = tuple[Mode, Vector | None, Weights, str]
"""The mode that is possible, the question's vector, the weights of the ranking, and a note."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A question about one snapshot, which is encoded only once, however often passages are looked up for it."""

    query: Query
    parsed: ParsedQuery
    forms: Forms
    snapshot: Snapshot
    means: Callable[[], _Means]


class Searcher:
    """Search over one index; thread-safe. `encoders` returns the encoder of a table by its recorded model name.

    An encoder is loaded at the first question that needs it, and reused.
    """

    def __init__(self, table: Index, encoders: Encoders) -> None:
        self._index = table
        self._encoders = encoders
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="search")

    def search(self, query: Query) -> Answer:
        """Return the moments that match the question, best first.

        The answer is empty for an empty question, and no model is loaded for an empty table. If the table's model is
        not on this machine, or its service does not answer, only words are compared and the answer's `note` says why.

        Raises:
            TranscriptionError: the search table cannot be read.

        """
        try:
            return self._answered(query)
        except FilesGone:
            self._index.forget()
            return self._answered(query)

    def _answered(self, query: Query) -> Answer:
        snapshot = self._index.snapshot()
        passages = snapshot.passages if snapshot else 0
        filters = _applicable(query.filters, snapshot)
        if filters is None:
            return Answer((), more=False, passages=passages, mode=query.mode, note=NO_KINDS)
        question = self._question(replace(query, filters=filters), snapshot)
        if question is None:
            return Answer((), more=False, passages=passages, mode=query.mode)
        speakers = with_suggestions(filters.speakers)

        def ranked(most: int, earlier: Sequence[Sequence[Candidate]]) -> tuple[RankedMoments, bool]:
            found = self._found(question, most)
            return found.ranked(speakers, earlier=earlier), found.is_full

        hits, more = _page(query.offset, query.limit, ranked)
        mode, _, _, note = question.means()
        return Answer(hits, more, passages, mode, note)

    def find(self, query: Query) -> "Found | None":
        """Return the passages that the first page of the answer is made of.

        None if the question is empty or nothing has been indexed.

        Raises:
            TranscriptionError: the search table cannot be read.

        """
        question = self._question(query, self._index.snapshot())
        return self._found(question, _fewest(query.limit)) if question else None

    def _question(self, query: Query, snapshot: Snapshot | None) -> _Question | None:
        if snapshot is None or not snapshot.passages:
            return None
        vocabulary = None if query.mode is Mode.VECTOR else self._index.vocabulary(snapshot)
        parsed = parse_query(query.text, vocabulary)
        if not (parsed.meaning or parsed.terms):
            return None
        forms = Forms() if vocabulary is None else forms_of(parsed, vocabulary)
        means = cache(partial(self._means, query.mode, parsed.meaning, snapshot))
        return _Question(query, parsed, forms, snapshot, means)

    def _found(self, question: _Question, most: int) -> Found:
        """Return up to `most` passages by each of meaning, words and other forms of the words."""
        query, parsed, forms, snapshot = question.query, question.parsed, question.forms, question.snapshot
        find_words = partial(self._index.search_words, snapshot, parsed, query.filters, most, forms)
        # Submitted before the question is encoded, so that both run at the same time.
        words = self._pool.submit(find_words) if query.mode is not Mode.VECTOR or parsed.phrases else None
        mode, vector, weights, note = question.means()
        if words is None and mode is not Mode.VECTOR:
            words = self._pool.submit(find_words)
        nearest_rows: Sequence[int] = ()
        if vector is not None:
            nearest_rows = self._index.search_vectors(snapshot, vector, query.filters, most)
        scores = dict(words.result()) if words else {}
        passages = dict(self._index.read(snapshot, [*{*nearest_rows, *scores}]))
        if len(scores) >= most and self._is_incomplete(parsed, [passages[row] for row in scores]):
            # One informative word in too many passages: those with the frequent words beside it may be others.
            beside = self._index.search_typed(snapshot, parsed, query.filters, most, forms)
            scores = dict.fromkeys(beside, min(scores.values())) | scores
            passages |= self._index.read(snapshot, [row for row in beside if row not in passages])
        unknown = ranking.unknown_words([passages[row] for row in scores or nearest_rows], parsed, forms)
        if words and (len(scores) >= most or parsed.phrases):
            # More passages hold one of the words than were returned: a frequent word may be in the others.
            unknown = tuple(word for word in unknown if not self._has_word(snapshot, parsed.spelt[word], query.filters))
        if words and unknown:
            spelt = tuple(parsed.spelt[word] for word in unknown)
            scores = {**self._index.search_similar_words(snapshot, spelt, query.filters, most), **scores}
            passages |= self._index.read(snapshot, [row for row in scores if row not in passages])
        found = {row: replace(passages[row], bm25=score) for row, score in scores.items()}
        if vector is not None:
            others = ranking.nearest((passages[row] for row in nearest_rows), vector, most)
            found = {item.row: item for item in others} | found
        return Found(
            parsed=parsed,
            candidates=list(found.values()),
            vector=vector,
            mode=mode,
            unknown=unknown,
            forms=forms,
            weights=weights,
            passages=snapshot.passages,
            note=note,
            # Passages without the phrases are never moments, and those with them are found by words.
            is_full=len(scores) >= most or (len(nearest_rows) > most and not parsed.phrases),
        )

    def similar(self, query: SimilarQuery) -> Answer:
        """Return the moments whose passages are nearest to the passage of a moment, without its neighbours.

        The answer is empty if nothing is indexed at that moment, or if its passage has no vector yet.

        Raises:
            TranscriptionError: the search table cannot be read.

        """
        try:
            return self._similar(query)
        except FilesGone:
            self._index.forget()
            return self._similar(query)

    def _similar(self, query: SimilarQuery) -> Answer:
        snapshot = self._index.snapshot()
        nothing = Answer((), more=False, passages=snapshot.passages if snapshot else 0, mode=Mode.VECTOR)
        filters = _applicable(query.filters, snapshot)
        if filters is None:
            return replace(nothing, note=NO_KINDS)
        origin = self._origin(snapshot, query) if snapshot else None
        if snapshot is None or origin is None:
            return replace(nothing, note="nothing is indexed at this moment")
        if origin.vector is None:
            return replace(nothing, note="not indexed by meaning yet")
        hits, more = _page(query.offset, query.limit, partial(self._similar_to, origin, snapshot, filters))
        return replace(nothing, hits=hits, more=more)

    def _similar_to(
        self,
        origin: Candidate,
        snapshot: Snapshot,
        filters: Filters,
        most: int,
        earlier: Sequence[Sequence[Candidate]],
    ) -> tuple[RankedMoments, bool]:
        """Return the moments of the `most` passages nearest to this one, and whether there may be more."""
        assert origin.vector is not None  # noqa: S101 -- for the type checker: the caller has checked it
        nearest_rows = self._index.search_vectors(snapshot, origin.vector, filters, most)
        found = self._index.read(snapshot, nearest_rows).values()
        # A slide may be shown for an hour: of what is said meanwhile, only the beginning is the moment of the slide.
        others = [item for item in found if origin.slide or not ranking.are_neighbours(item, origin)]
        moments = ranking.rank_moments(
            ranking.nearest(others, origin.vector, most),
            parse_query(""),
            origin.vector,
            Mode.VECTOR,
            weights=self._index.calibrated(snapshot.embedding_model) or _in_profile(snapshot.embedding_model),
            speakers=with_suggestions(filters.speakers),
            earlier=[(origin,), *earlier],
        )
        return moments, len(nearest_rows) > most

    def _origin(self, snapshot: Snapshot, query: SimilarQuery) -> Candidate | None:
        """Return the passage or the slide of the moment, None if nothing is indexed there."""
        for kind in sorted(KINDS, key=lambda kind: kind != query.moment_kind):
            if rows := self._index.passages_at(snapshot, query.media_key, query.second, kind):
                return self._index.read(snapshot, rows[:1])[rows[0]]
        return None

    def around(self, media_key: str, start: float, end: float) -> list[Sentence]:
        """Return what is said in a recording from `start` to `end` (seconds), with the passages before and after.

        Sentences are in order of time; there are none if nothing is indexed there.

        Raises:
            TranscriptionError: the search table cannot be read.

        """
        try:
            return self._around(media_key, start, end)
        except FilesGone:
            self._index.forget()
            return self._around(media_key, start, end)

    def _around(self, media_key: str, start: float, end: float) -> list[Sentence]:
        snapshot = self._index.snapshot()
        if snapshot is None:
            return []
        seconds = (start - NEIGHBOUR_S, start, end, end + NEIGHBOUR_S)
        rows = {row for second in seconds for row in self._index.passages_at(snapshot, media_key, second)}
        found = self._index.read(snapshot, sorted(rows)).values()
        said = {(item.start, item.text): item for passage in found for item in passage.sentences}
        return sorted(said.values(), key=lambda item: item.start)

    def facets(self) -> Facets:
        """Return the values that can be filtered by.

        Raises:
            TranscriptionError: the search table cannot be read.

        """
        return self._index.facets()

    def _means(self, mode: Mode, meaning: str, snapshot: Snapshot) -> _Means:
        if mode is Mode.TEXT:
            return mode, None, WORDS_ONLY, ""
        reason = "a table with vectors of the current encoder is under construction"
        try:
            if snapshot.embedding_model:
                encoder = self._encoders(snapshot.embedding_model)
                vector = encoder.encode_query(meaning)
                if len(vector) == snapshot.dimension:
                    return mode, vector, self._index.calibrated(snapshot.embedding_model) or encoder.weights, ""
                reason = f"the encoder has dimension {len(vector)}, the table {snapshot.dimension}"
        except TranscriptionError as error:
            reason = str(error)
        except Exception as error:  # for any reason (no memory on the GPU, a bug): a search by words is still possible
            log.exception("the query cannot be encoded")
            reason = f"the encoder failed ({type(error).__name__})"
        return Mode.TEXT, None, WORDS_ONLY, f"searched by words only: {reason}"

    @staticmethod
    def _is_incomplete(parsed: ParsedQuery, found: Sequence[Candidate]) -> bool:
        """Return whether none of the passages holds a question of one term and frequent words as it was typed."""
        has_one_term = parsed.typed[1:] and not parsed.terms[1:] and not parsed.phrases
        return bool(has_one_term) and not ranking.is_held_as_typed(found, parsed)

    def _has_word(self, snapshot: Snapshot, word: str, filters: Filters) -> bool:
        """Return whether any passage that passes the filters holds the word."""
        if filters == Filters() and self._index.vocabulary(snapshot).has_spelling(word):
            return True
        return self._index.has_word(snapshot, word, filters)


_Ranked = Callable[[int, Sequence[Sequence[Candidate]]], tuple[RankedMoments, bool]]
"""Rank this number of passages without those of earlier moments, and tell whether there may be more passages."""


def _page(offset: int, limit: int, ranked: _Ranked) -> tuple[tuple[Hit, ...], bool]:
    """Return a page of moments, and whether a larger offset returns more.

    The first page ranks few passages. Later ones rank more of them, and a passage that was not examined before may be
    the best. So moments of an earlier page keep their places, and those of more passages follow: pages with the same
    limit neither repeat a moment nor leave one out.
    """
    end = offset + limit
    hits: list[Hit] = []
    earlier: list[tuple[Candidate, ...]] = []
    for most in _pools(limit):
        moments, is_full = ranked(most, earlier)
        count = min(len(moments), most // CANDIDATES - len(earlier)) if is_full else len(moments)
        first, last = max(offset - len(earlier), 0), min(end - len(earlier), count)
        hits += moments.hits(first, max(last - first, 0))
        earlier += moments.passages(count)
        if not offset or not is_full or len(earlier) > end:
            break
    more = len(earlier) > end or (is_full and not offset and bool(hits))
    return tuple(hits), more and end <= MAX_OFFSET


def _pools(limit: int) -> Iterator[int]:
    """Yield the numbers of passages to rank: enough for the first page, then for more and more pages."""
    most = _fewest(limit)
    while most < MOST:
        yield most
        most *= GROWTH
    yield MOST


def _fewest(limit: int) -> int:
    return max(FEWEST, CANDIDATES * (limit + 1))


def _applicable(filters: Filters, snapshot: Snapshot | None) -> Filters | None:
    """Return the filters for this table; None if they exclude all, as a table of earlier columns has no slides."""
    if not filters.kinds or snapshot is None or snapshot.has_kinds:
        return filters
    return replace(filters, kinds=()) if "speech" in filters.kinds else None


def _in_profile(embedding_model: str) -> Weights:
    """Return the weights of an encoder's profile, else the defaults; `embedding_model` is its name with its revision.

    The encoder itself is not loaded.
    """
    return profile(embedding_model.partition("@")[0]).weights or Weights()
