"""Looking into one table: passages that are near in meaning, passages that hold words, both with typed filters.

Looks give rows and scores only; what the rows hold is read for all of them at once. Row ids hold for one version of a
table, so all looks for an answer are into the same one. Coroutines, because LanceDB's other way goes to and fro between
threads five times for each look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

import numpy as np

from transcription_assets.index import cards
from transcription_assets.query import Filters, Sought, allowed_edits
from transcription_assets.ranking import Candidate, Vector

ROW = "_rowid"
NPROBES = 50
REFINE = 1.5
"""Cells of the vector index that are looked into, and how many times too many its rough distances name: benchmarks."""
PATIENCE = timedelta(seconds=20)
FUZZY_EXPANSIONS = 50
LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Looked:
    """One version of a table: how many passages it has, and the model of their vectors ("" where there are none).

    `reading` is the same as `table`, for coroutines.
    """

    table: Any
    reading: Any
    version: int
    passages: int
    embedding_model: str
    columns: tuple[str, ...]
    dimension: int


async def by_meaning(looked: Looked, vector: Vector, filters: Filters, most: int) -> list[int]:
    """Rows among which are those of the `most` nearest vectors; their true distances decide.

    Not LanceDB's `refine_factor`: the true vectors are read with the passages anyway.
    """
    search = looked.reading.query().nearest_to(vector.astype(np.float32)).column("vector")
    search = search.distance_type("dot").nprobes(NPROBES)
    return list(await _found(looked, search, filters, round(REFINE * most), "_distance"))


async def by_words(looked: Looked, wanted: Sought, filters: Filters, most: int) -> dict[int, float]:
    """BM25 of the rows that hold the phrases and most of the words."""
    ask = _queries()
    clauses: list[tuple[Any, Any]] = [
        (ask.Occur.MUST, ask.PhraseQuery(" ".join(said), "text") if said[1:] else ask.MatchQuery(said[0], "text"))
        for said in wanted.phrases
    ]
    if wanted.terms:
        clauses.append((ask.Occur.SHOULD, ask.MatchQuery(" ".join(wanted.terms), "text")))
    if not clauses:
        return {}
    query = clauses[0][1] if len(clauses) == 1 else ask.BooleanQuery(clauses)
    return await _found(looked, looked.reading.query().nearest_to_text(query), filters, most, "_score")


async def by_likeness(looked: Looked, words: Sequence[str], filters: Filters, most: int) -> dict[int, float]:
    """BM25 of the rows that hold something spelt like one of the words.

    Rows that the index does not hold yet are not found this way (LanceDB 0.40); they are once it is refreshed.
    """
    ask = _queries()
    found: dict[int, float] = {}
    for word in words:
        if edits := allowed_edits(word):
            # Lower case: LanceDB does not analyse the words of a fuzzy query.
            query = ask.MatchQuery(word, "text", fuzziness=edits, prefix_length=1, max_expansions=FUZZY_EXPANSIONS)
            search = looked.reading.query().nearest_to_text(query)
            found = {**await _found(looked, search, filters, most, "_score"), **found}
    return found


async def is_said(looked: Looked, word: str, filters: Filters) -> bool:
    """Whether any passage holds the word."""
    search = looked.reading.query().nearest_to_text(_queries().MatchQuery(word, "text"))
    return bool(await _found(looked, search, filters, 1, "_score"))


async def read(looked: Looked, rows: Sequence[int]) -> dict[int, Candidate]:
    """What these rows hold."""
    if not rows:
        return {}
    has_cards = "card" in looked.columns
    columns = ("card", "near") if has_cards else cards.BEFORE_CARDS
    search = looked.reading.take_row_ids(list(rows)).select([name for name in columns if name in looked.columns])
    held = await search.with_row_id().to_arrow()
    numbers = held[ROW].to_pylist()
    if not has_cards:
        every = zip(numbers, held.to_pylist(), strict=True)
        return {number: cards.candidate_before(number, row) for number, row in every}
    each = zip(numbers, held["card"].to_pylist(), held["near"].to_pylist(), strict=True)
    return {number: cards.candidate(number, card, near, looked.dimension) for number, card, near in each}


def expression(filters: Filters, columns: Sequence[str]) -> str | None:
    """The filter in LanceDB's language; each value goes through its own typed literals, so it stays a value.

    Raises ValueError where the table is of an older release and has not all columns.
    """
    from lancedb.expr import Expr, col, lit

    parts: list[Expr] = []
    if filters.prefix:
        parts += [col("media_key") >= lit(filters.prefix), col("media_key") < lit(filters.prefix + LAST)]
    if filters.languages:
        parts.append(col("language").isin([lit(code) for code in filters.languages]))
    if filters.since:
        parts.append(col("recorded") >= lit(filters.since))
    if filters.until:
        parts.append(col("recorded") <= lit(filters.until))
    if filters.shortest_s is not None:
        parts.append(col("duration_s") >= lit(float(filters.shortest_s)))
    if filters.longest_s is not None:
        parts.append(col("duration_s") <= lit(float(filters.longest_s)))
    said = [part.to_sql() for part in parts]
    if filters.speakers:
        # There is no typed form of array_has in LanceDB 0.40; its argument is a typed literal all the same.
        anyone = " OR ".join(f"array_has(speakers, {lit(name).to_sql()})" for name in filters.speakers)
        said.append(f"({anyone})")
    needed = {
        "speakers": bool(filters.speakers),
        "recorded": bool(filters.since or filters.until),
        "duration_s": filters.shortest_s is not None or filters.longest_s is not None,
    }
    if missing := [name for name, used in needed.items() if used and name not in columns]:
        raise ValueError(
            f"it is of an older release and has no {', '.join(missing)} to filter by: run `transcription-assets index "
            "rebuild`"
        )
    return " AND ".join(said) or None


def _queries() -> Any:
    """LanceDB's queries; their defaults are not in what they say about their types."""
    return import_module("lancedb.query")


async def _found(looked: Looked, search: Any, filters: Filters, most: int, measure: str) -> dict[int, float]:
    """The measure of each row, best first."""
    where = expression(filters, looked.columns)
    if where:
        search = search.where(where)
    # The measure is named: LanceDB warns at each search that adds it by itself.
    rows = await search.with_row_id().select([measure]).limit(most).to_arrow(timeout=PATIENCE)
    return dict(zip(rows[ROW].to_pylist(), rows[measure].to_pylist(), strict=True))
