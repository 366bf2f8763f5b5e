"""Queries against one snapshot of a table: by vector, by words, and by spelling, all with typed filters.

Queries return row ids and scores only; the rows of all of them are read at once. Row ids are valid for one version of a
table, so all queries for an answer use the same snapshot. They are coroutines because LanceDB's synchronous API
switches between threads five times for each query. `Index` translates LanceDB's exceptions.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from transcription_assets.search import packing, schema
from transcription_assets.search.filters import Filters, expression, quoted
from transcription_assets.search.query import ParsedQuery, allowed_edits
from transcription_assets.search.ranking import Candidate, Vector
from transcription_assets.search.selection import Selection, is_worth_reading
from transcription_assets.search.vocabulary import Forms

ROW = "_rowid"
SCORE = "_score"
NPROBES = 70
REFINE = 1.5
"""NPROBES cells of the vector index are searched for REFINE times the rows wanted, as its distances are approximate.

Both values come from benchmarks.
"""
QUERY_TIMEOUT = timedelta(seconds=20)
FUZZY_EXPANSIONS = 50
MAX_AT_ONCE = 16
"""Passages that may be spoken at the same time: neighbours overlap, and speakers may talk at once."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot: one version of a table, its number of passages, and the model of their vectors ("" if none).

    `async_table` is the same as `table`, for coroutines. A table of earlier columns has no slides (no `has_kinds`), no
    column `packed` (not `is_packed`), or float16 numbers in `near` (no `has_int8_near`).
    """

    table: Any
    async_table: Any
    version: int
    passages: int
    embedding_model: str
    dimension: int
    has_kinds: bool = True
    has_int8_near: bool = True
    is_packed: bool = True
    selections: dict[Filters, Selection] = field(default_factory=dict, compare=False)
    """The selections of recent filters (`Index` fills it)."""


async def search_vectors(snapshot: Snapshot, vector: Vector, selection: Selection, most: int) -> list[int]:
    """Return row ids that include the `most` nearest vectors; the caller ranks them by their stored vectors.

    LanceDB's `refine_factor` would read vectors here as well: they are read with the passages anyway.
    """
    search = snapshot.async_table.query().nearest_to(vector.astype(np.float32)).column("vector")
    search = search.distance_type("dot").nprobes(NPROBES)
    return list(await _run(search, selection, round(REFINE * most), "_distance"))


async def search_words(
    snapshot: Snapshot, parsed: ParsedQuery, selection: Selection, most: int, forms: Forms
) -> dict[int, float]:
    """Return the BM25 scores of rows that hold the phrases and any of the terms or their other forms.

    Up to `most` rows with the terms as typed and up to `most` with other forms are read: one query for both would
    return only the rarest of them. If `most` rows are found, there may be more that hold one term, or one word of a
    number. Then up to `most` rows with all terms and whole numbers are added, and if these reach the limit too, up to
    `most` rows that hold the question as it was typed. The rows with all terms are looked up beside the others: in a
    large table they are needed, in a small one they cost little.
    """

    async def found_by(terms: Any) -> dict[int, float]:
        return {} if terms is None else await _search_text(snapshot, _question(parsed, forms, terms), selection, most)

    others = dict.fromkeys(word for words in forms.looked_up.values() for word in words)
    every = _all_terms(parsed, forms)
    as_typed, in_forms, together = await asyncio.gather(
        found_by(_match(parsed.loose)), found_by(_match(*others) if others else None), found_by(every)
    )
    found = in_forms | as_typed
    if max(len(as_typed), len(in_forms)) < most or every is None:
        return found
    if len(together) >= most and parsed.typed[1:]:
        beside = await search_typed(snapshot, parsed, selection, most, forms)
        # The BM25 of a phrase is on another scale; rows outside the best with all terms get the lowest score of these.
        together |= dict.fromkeys(beside.keys() - together.keys(), min(together.values()))
    return together | found


async def search_typed(
    snapshot: Snapshot, parsed: ParsedQuery, selection: Selection, most: int, forms: Forms
) -> dict[int, float]:
    """Return the scores of rows that hold the words of the question as they were typed."""
    typed = parsed.loose if parsed.phrases else parsed.meaning
    query = _question(parsed, forms, _queries().PhraseQuery(typed, "text"))
    return await _search_text(snapshot, query, selection, most)


def _all_terms(parsed: ParsedQuery, forms: Forms) -> Any:
    """Return the query for all terms, each as it was typed or in another form; None if any is enough."""
    others = forms.looked_up
    if parsed.terms[1:] and not others:
        return _queries().MatchQuery(parsed.loose, "text", operator=_queries().FullTextOperator.AND)
    numerals = {term for number in forms.numbers for term in number.terms}
    words = [(parsed.spelt[term], *others.get(term, ())) for term in parsed.terms if term not in numerals]
    clauses = [_match(*each) for each in words]
    clauses += [_any_of(_all_of([_match(*part) for part in way]) for way in number.ways) for number in forms.numbers]
    is_one = not clauses[1:] and not any(way[1:] for number in forms.numbers for way in number.ways)
    return None if is_one else _all_of(clauses)


def _match(*words: str) -> Any:
    """Return the query for any of the words.

    The index has the lower case of U+0130 as one letter, but a dot on an i in a query is split from it (0.40).
    """
    return _queries().MatchQuery(" ".join(words).replace("i\u0307", "\u0130"), "text")


def _any_of(queries: Iterable[Any]) -> Any:
    return _queries().BooleanQuery([(_queries().Occur.SHOULD, query) for query in queries])


def _all_of(queries: Iterable[Any]) -> Any:
    return _queries().BooleanQuery([(_queries().Occur.MUST, query) for query in queries])


def _question(parsed: ParsedQuery, forms: Forms, terms: Any) -> Any:
    """Return the query for all quoted phrases (if any) and `terms`, that for the terms; None if there is neither."""
    queries = _queries()
    clauses: list[tuple[Any, Any]] = [
        (queries.Occur.MUST, _phrase(phrase, (typed, *forms.phrases.get(at, ()))))
        for at, (phrase, typed) in enumerate(zip(parsed.phrases, parsed.quoted, strict=True))
    ]
    if parsed.terms:
        clauses.append((queries.Occur.SHOULD, terms))
    if not clauses:
        return None
    return clauses[0][1] if len(clauses) == 1 else queries.BooleanQuery(clauses)


async def _search_text(snapshot: Snapshot, query: Any, selection: Selection, most: int) -> dict[int, float]:
    if query is None:
        return {}
    return await _run(snapshot.async_table.query().nearest_to_text(query), selection, most, SCORE)


def _phrase(phrase: Sequence[str], spelt: Sequence[str]) -> Any:
    """Return the query for a quoted phrase in any of its spellings."""
    if not phrase[1:]:
        return _match(*spelt)
    found = [_queries().PhraseQuery(one.replace("i\u0307", "\u0130"), "text") for one in spelt]
    return _any_of(found) if found[1:] else found[0]


async def search_similar_words(
    snapshot: Snapshot, words: Sequence[str], selection: Selection, most: int
) -> dict[int, float]:
    """Return the BM25 scores of the rows that hold a word spelt like one of `words`.

    Rows that are not in the index yet are not found (LanceDB 0.40); they are after the next refresh.
    """
    queries = _queries()
    found: dict[int, float] = {}
    for word in words:
        if edits := allowed_edits(word):
            # Lower case: LanceDB does not analyse the words of a fuzzy query.
            query = queries.MatchQuery(word, "text", fuzziness=edits, prefix_length=1, max_expansions=FUZZY_EXPANSIONS)
            search = snapshot.async_table.query().nearest_to_text(query)
            found = {**await _run(search, selection, most, SCORE), **found}
    return found


async def has_word(snapshot: Snapshot, word: str, selection: Selection) -> bool:
    """Return whether any of the selected passages holds the word."""
    search = snapshot.async_table.query().nearest_to_text(_match(word))
    return bool(await _run(search, selection, 1, SCORE))


async def passages_at(snapshot: Snapshot, media_key: str, second: float, kind: str = "speech") -> list[int]:
    """Return the row ids of what is said in a recording at this second, the most central passage first.

    With the kind `slide` they are those of its slides, the one that appeared last first.
    """
    if kind == "slide" and not snapshot.has_kinds:
        return []
    where = f"media_key = {quoted(media_key)} AND start_s <= {float(second)!r} AND end_s >= {float(second)!r}"
    if snapshot.has_kinds:
        where += f" AND kind = {quoted(kind)}"
    found = snapshot.async_table.query().where(where).with_row_id().select(["start_s", "end_s"])
    rows = (await found.limit(MAX_AT_ONCE).to_arrow(timeout=QUERY_TIMEOUT)).to_pylist()
    if kind == "slide":  # one ends where the next one begins
        rows.sort(key=lambda row: -row["start_s"])
    else:
        rows.sort(key=lambda row: abs((row["start_s"] + row["end_s"]) / 2 - second))
    return [row[ROW] for row in rows]


async def read(snapshot: Snapshot, rows: Sequence[int]) -> dict[int, Candidate]:
    """Return the passages with these row ids."""
    if not rows:
        return {}
    if not snapshot.is_packed:
        return await _read_earlier(snapshot, rows)
    found = await snapshot.async_table.take_row_ids(list(rows)).select([schema.PACKED]).with_row_id().to_arrow()
    parts = packing.unpack(found[schema.PACKED].to_pylist(), snapshot.dimension)
    return {
        row: schema.candidate(row, card, *((None, None) if vectors is None else (vectors[0], vectors[1:])))
        for row, (card, vectors) in zip(found[ROW].to_pylist(), parts, strict=True)
    }


async def _read_earlier(snapshot: Snapshot, rows: Sequence[int]) -> dict[int, Candidate]:
    """Return the passages with these row ids from a table of earlier columns."""
    columns = ["card", "near", "vector"]
    found = await snapshot.async_table.take_row_ids(list(rows)).select(columns).with_row_id().to_arrow()
    decode = schema.decode_vectors if snapshot.has_int8_near else schema.decode_halves
    vectors = iter(_matrix(found["vector"], snapshot.dimension))
    has_vector = found["vector"].is_valid().to_pylist()
    stored = zip(found[ROW].to_pylist(), found["card"].to_pylist(), found["near"].to_pylist(), has_vector, strict=True)
    return {
        row: schema.candidate(
            row,
            card,
            next(vectors) if is_valid else None,
            None if near is None else decode(near, snapshot.dimension),
        )
        for row, card, near, is_valid in stored
    }


def _matrix(column: Any, dimension: int) -> Vector:
    """Return the vectors of a column without the missing ones, shape (vectors, dimension), float32."""
    values = np.concatenate([np.asarray(chunk.flatten()) for chunk in column.chunks])
    return values.reshape(-1, dimension).astype(np.float32)


def _queries() -> Any:
    """Return LanceDB's query module; its type stubs omit the defaults."""
    return import_module("lancedb.query")


async def select(snapshot: Snapshot, filters: Filters) -> Selection:
    """Return the rows that pass the filters, with their ids if that is worth it."""
    where = expression(filters)
    count = await asyncio.wait_for(snapshot.async_table.count_rows(where), QUERY_TIMEOUT.total_seconds())
    if not is_worth_reading(count, snapshot.passages):
        return Selection(where)
    search = snapshot.async_table.query().where(where).with_row_id().select([ROW]).limit(count)
    rows = (await search.to_arrow(timeout=QUERY_TIMEOUT))[ROW].to_numpy()
    return Selection(where, np.sort(rows), count / snapshot.passages)


async def _run(search: Any, selection: Selection, most: int, measure: str) -> dict[int, float]:
    """Run the search and return the measure of each row, best first."""
    if returned := selection.returned(most):
        unfiltered = await _rows(search, returned, measure)
        found = selection.selected(unfiltered)
        # A search by words that returns fewer rows than it may has returned all; one by vectors searches some cells.
        if len(found) >= most or (measure == SCORE and len(unfiltered) < returned):
            return dict(islice(found.items(), most))
    if selection.where:
        search = search.where(selection.where)
    return await _rows(search, most, measure)


async def _rows(search: Any, most: int, measure: str) -> dict[int, float]:
    # The column is named explicitly: LanceDB warns at each search that adds it implicitly.
    rows = await search.with_row_id().select([measure]).limit(most).to_arrow(timeout=QUERY_TIMEOUT)
    return dict(zip(rows[ROW].to_pylist(), rows[measure].to_pylist(), strict=True))
