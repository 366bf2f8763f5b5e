"""Looking into one table: passages that are near in meaning, passages that hold words, both with typed filters."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

import numpy as np

from transcription_assets.keys import decode
from transcription_assets.passages import Sentence
from transcription_assets.query import Filters, Sought, allowed_edits
from transcription_assets.ranking import Candidate, Vector

COLUMNS = (
    "id",
    "media_key",
    "title",
    "language",
    "recorded",
    "duration_s",
    "start_s",
    "end_s",
    "text",
    "sentences",
    "vector",
    "sentence_vectors",
)
NPROBES = 40
REFINE = 2
"""Cells of the vector index that are looked into, and how many times too many its rough distances keep: benchmarks."""
PATIENCE = timedelta(seconds=20)
FUZZY_EXPANSIONS = 50
LAST = "\U0010ffff"


def by_meaning(table: Any, vector: Vector, filters: Filters, most: int) -> Mapping[str, Candidate]:
    """The passages whose vectors are nearest, by row id."""
    search = (
        table.search(vector.astype(np.float32), query_type="vector", vector_column_name="vector")
        .distance_type("dot")
        .nprobes(NPROBES)
        .refine_factor(REFINE)
    )
    return _found(table, search, filters, most, "_distance")


def by_words(table: Any, wanted: Sought, filters: Filters, most: int) -> Mapping[str, Candidate]:
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
    return _found(table, table.search(query, query_type="fts"), filters, most, "_score")


def by_likeness(table: Any, words: Sequence[str], filters: Filters, most: int) -> Mapping[str, Candidate]:
    """The passages that hold something spelt like one of the words, by row id.

    Rows that the index does not hold yet are not found this way (LanceDB 0.40); they are once it is refreshed.
    """
    ask = _queries()
    found: dict[str, Candidate] = {}
    for word in words:
        if edits := allowed_edits(word):
            # Lower case: LanceDB does not analyse the words of a fuzzy query.
            query = ask.MatchQuery(word, "text", fuzziness=edits, prefix_length=1, max_expansions=FUZZY_EXPANSIONS)
            found = {**_found(table, table.search(query, query_type="fts"), filters, most, "_score"), **found}
    return found


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


def _found(table: Any, search: Any, filters: Filters, most: int, measure: str) -> dict[str, Candidate]:
    columns = table.schema.names
    where = expression(filters, columns)
    if where:
        search = search.where(where)
    # The measure is named: LanceDB warns at each search that adds it by itself.
    rows = (
        search.select([*(name for name in COLUMNS if name in columns), measure]).limit(most).to_arrow(timeout=PATIENCE)
    )
    vectors = _matrix(rows["vector"]) if rows.num_rows else {}
    plain = rows.drop_columns(["vector", "sentence_vectors"]).to_pylist()
    near = [_floats(item) for item in rows["sentence_vectors"]]
    return {
        row["id"]: _candidate(row, vectors.get(place), near[place], row["_score"] if measure == "_score" else 0.0)
        for place, row in enumerate(plain)
    }


def _matrix(column: Any) -> dict[int, Vector]:
    """Vectors by row; those that are null are left out."""
    found: dict[int, Vector] = {}
    for place, item in enumerate(column):
        if item.is_valid:
            found[place] = item.values.to_numpy(zero_copy_only=False)
    return found


def _floats(item: Any) -> Vector | None:
    """Sentence vectors of a row, shape (sentences, dimension)."""
    if not item.is_valid:
        return None
    flat = item.values.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(item.values), -1)


def _candidate(row: Mapping[str, Any], vector: Vector | None, near: Vector | None, bm25: float) -> Candidate:
    return Candidate(
        media_key=row["media_key"],
        title=row.get("title") or decode(row["media_key"]).rpartition("/")[2],
        language=row["language"] or "",
        recorded=row.get("recorded"),
        duration_s=row.get("duration_s"),
        start=row["start_s"],
        end=row["end_s"],
        text=row["text"],
        sentences=tuple(_sentence(item) for item in row["sentences"]),
        vector=vector,
        sentence_vectors=near,
        bm25=float(bm25),
    )


def _sentence(item: Mapping[str, Any]) -> Sentence:
    words = zip(item.get("word_at") or (), item.get("word_s") or (), strict=True)
    return Sentence(
        item["start_s"],
        item["end_s"],
        item["text"],
        item.get("speaker"),
        tuple((at, round(second, 3)) for at, second in words),
    )
