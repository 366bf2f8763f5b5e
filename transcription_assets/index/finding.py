"""Looking into one table: passages that are near in meaning, passages that hold words, both with typed filters.

A candidate is read without its sentences: their lists in lists cost more than all the rest, and only the few moments
that are shown need them. Row ids hold for one version of a table, so all looks for an answer are into the same one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from transcription_assets.keys import decode
from transcription_assets.passages import Sentence
from transcription_assets.query import Filters, Sought, allowed_edits
from transcription_assets.ranking import LONG_SENTENCE_S, Candidate, Detail, Vector

COMPARED = ("media_key", "start_s", "end_s", "text", "vector", "sentence_vectors")
"""Of every candidate."""
SHOWN = ("media_key", "title", "language", "recorded", "duration_s", "sentences")
"""Of what is shown, besides."""
ROW = "_rowid"
NPROBES = 80
REFINE = 2
"""Cells of the vector index that are looked into, and how many times too many its rough distances keep: benchmarks."""
PATIENCE = timedelta(seconds=20)
FUZZY_EXPANSIONS = 50
LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Looked:
    """One version of a table: how many passages it has, and the model of their vectors ("" where there are none)."""

    table: Any
    version: int
    passages: int
    embedding_model: str
    columns: tuple[str, ...]
    dimension: int


def by_meaning(looked: Looked, vector: Vector, filters: Filters, most: int) -> dict[int, Candidate]:
    """The passages whose vectors are nearest, by row id."""
    search = (
        looked.table.search(vector.astype(np.float32), query_type="vector", vector_column_name="vector")
        .distance_type("dot")
        .nprobes(NPROBES)
        .refine_factor(REFINE)
    )
    return _found(looked, search, filters, most, "_distance")


def by_words(looked: Looked, wanted: Sought, filters: Filters, most: int) -> dict[int, Candidate]:
    """The passages that hold the phrases and most of the words (BM25), by row id."""
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
    return _found(looked, looked.table.search(query, query_type="fts"), filters, most, "_score")


def by_likeness(looked: Looked, words: Sequence[str], filters: Filters, most: int) -> dict[int, Candidate]:
    """The passages that hold something spelt like one of the words, by row id.

    Rows that the index does not hold yet are not found this way (LanceDB 0.40); they are once it is refreshed.
    """
    ask = _queries()
    found: dict[int, Candidate] = {}
    for word in words:
        if edits := allowed_edits(word):
            # Lower case: LanceDB does not analyse the words of a fuzzy query.
            query = ask.MatchQuery(word, "text", fuzziness=edits, prefix_length=1, max_expansions=FUZZY_EXPANSIONS)
            found = {**_found(looked, looked.table.search(query, query_type="fts"), filters, most, "_score"), **found}
    return found


def is_said(looked: Looked, word: str, filters: Filters) -> bool:
    """Whether any passage holds the word."""
    search = looked.table.search(_queries().MatchQuery(word, "text"), query_type="fts")
    return bool(_asked(looked, search.with_row_id(with_row_id=True), filters, 1, ["_score"]).num_rows)


def details(looked: Looked, rows: Sequence[int]) -> dict[int, Detail]:
    """What a moment is shown with, of these rows."""
    if not rows:
        return {}
    columns = [name for name in SHOWN if name in looked.columns]
    taken = looked.table.take_row_ids(list(rows)).select(columns).with_row_id().to_arrow().combine_chunks()
    spoken = _spoken(taken["sentences"].chunk(0))
    plain = taken.drop_columns(["sentences"]).to_pylist()
    return {row[ROW]: _detail(row, sentences) for row, sentences in zip(plain, spoken, strict=True)}


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


def _asked(looked: Looked, search: Any, filters: Filters, most: int, columns: Sequence[str]) -> Any:
    where = expression(filters, looked.columns)
    if where:
        search = search.where(where)
    return search.select(list(columns)).limit(most).to_arrow(timeout=PATIENCE)


def _found(looked: Looked, search: Any, filters: Filters, most: int, measure: str) -> dict[int, Candidate]:
    # The measure is named: LanceDB warns at each search that adds it by itself.
    rows = _asked(looked, search.with_row_id(with_row_id=True), filters, most, [*COMPARED, measure])
    if not rows.num_rows:
        return {}
    rows = rows.combine_chunks()
    vectors, near = _vectors(rows["vector"].chunk(0)), _lists_of_vectors(rows["sentence_vectors"].chunk(0))
    names = ("media_key", "start_s", "end_s", "text")
    plain = [rows[name].to_pylist() for name in names]
    scores = rows[measure].to_pylist() if measure == "_score" else [0.0] * rows.num_rows
    each = zip(rows[ROW].to_pylist(), *plain, vectors, near, scores, strict=True)
    return {row: Candidate(row, *rest) for row, *rest in each}


def _vectors(column: Any) -> list[Vector | None]:
    """A fixed-size list column as vectors, None where it is null."""
    numbers = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    kept = iter(numbers.reshape(-1, column.type.list_size))
    return [next(kept) if there else None for there in column.is_valid().to_pylist()]


def _lists_of_vectors(column: Any) -> list[Vector | None]:
    """A column of lists of vectors as arrays of shape (sentences, dimension), None where it is null."""
    inner = column.flatten()
    numbers = np.asarray(inner.flatten().to_numpy(zero_copy_only=False), np.float32)
    numbers = numbers.reshape(-1, inner.type.list_size)
    lengths = column.value_lengths().to_pylist()
    ends = np.cumsum([length or 0 for length in lengths])
    return [None if length is None else numbers[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def _spoken(column: Any) -> list[tuple[Sentence, ...]]:
    """The sentences of each row. Only long ones are given the times of their words: nothing else needs them."""
    inner = column.flatten()
    fields = {field.name: inner.field(place) for place, field in enumerate(inner.type)}
    starts, ends, texts = (fields[name].to_pylist() for name in ("start_s", "end_s", "text"))
    speakers = [name or "" for name in fields["speaker"].to_pylist()] if "speaker" in fields else [""] * len(starts)
    words: list[tuple[tuple[int, float], ...]] = [()] * len(starts)
    if "word_s" in fields:
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            if end - start > LONG_SENTENCE_S:
                at, second = (fields[name][place].as_py() for name in ("word_at", "word_s"))
                words[place] = tuple((where, round(when, 3)) for where, when in zip(at, second, strict=True))
    said = iter(map(Sentence, starts, ends, texts, speakers, words))
    return [tuple(islice(said, length)) for length in column.value_lengths().to_pylist()]


def _detail(row: Mapping[str, Any], spoken: tuple[Sentence, ...]) -> Detail:
    return Detail(
        title=row.get("title") or decode(row["media_key"]).rpartition("/")[2],
        language=row["language"] or "",
        recorded=row.get("recorded"),
        duration_s=row.get("duration_s"),
        sentences=spoken,
    )
