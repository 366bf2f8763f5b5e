"""Columns of the rows of passages and of the search tables, and the table of each recipe.

Columns of a row: id (`<media_key>#<index>`, `<media_key>#slide<number>`), kind (`speech` or `slide`), media_key, title,
start_s, end_s, text, language, speakers, recorded, duration_s, vector (float32, unit length), embedding_model, recipe,
media_etag, card (JSON: media_key, title, language, recorded, duration_s, the number of the slide or 0, and the
sentences, each [start, end, text, speaker, [[offset in the text, second] of each word if the sentence is long]]) and
near (the vector of each sentence, as 8-bit integers with a factor each). `recipe` names everything that vectors depend
on: all rows of a table have the same recipe.

The rows of the pipeline and of `embeddings/<key>.parquet` have these columns. A table has `packed` instead of `card`
and `near` (`packing`), and vectors of float16, for the index. Tables of earlier columns have `card` and `near`; up to
version 5 `near` begins with the vector of the passage, and up to version 3 it is of float16.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from transcription_assets.domain.passages import Sentence, join_sentences
from transcription_assets.search import packing
from transcription_assets.search.ranking import LONG_SENTENCE_S, Candidate, Vector

if TYPE_CHECKING:
    import pyarrow as pa


FIRST_TABLE = "passages"
"""Name of the only table of earlier versions, which is replaced by `index rebuild`; prefix of all others."""

STEPS = 127
"""Largest number of `near` in 8 bits."""
PACKED = "packed"
_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}

SCALAR_COLUMNS = (
    "id",
    "kind",
    "media_key",
    "title",
    "start_s",
    "end_s",
    "text",
    "language",
    "speakers",
    "recorded",
    "duration_s",
    "embedding_model",
    "recipe",
    "media_etag",
    "card",
)
"""All columns except the vectors, which follow from the recipe and the texts."""


def polars_schema(dimension: int) -> dict[str, pl.DataType]:
    """Return the Polars schema of the rows of passages."""
    return {
        "id": pl.String(),
        "kind": pl.String(),
        "media_key": pl.String(),
        "title": pl.String(),
        "start_s": pl.Float64(),
        "end_s": pl.Float64(),
        "text": pl.String(),
        "language": pl.String(),
        "speakers": pl.List(pl.String),
        "recorded": pl.Date(),
        "duration_s": pl.Float64(),
        "vector": pl.Array(pl.Float32, dimension),
        "embedding_model": pl.String(),
        "recipe": pl.String(),
        "media_etag": pl.String(),
        "card": pl.String(),
        "near": pl.Binary(),
    }


def table_name(recipe: str) -> str:
    """Return the table of a recipe: derived from its hash, so that concurrent writers use the same name."""
    return f"{FIRST_TABLE}_{hashlib.sha256(recipe.encode()).hexdigest()[:10]}"


def table_schema(rows: pl.DataFrame) -> "pa.Schema":
    """Return the Arrow schema of a new table for such rows."""
    return keyed(packed(rows.clear())).schema


def fitting(rows: pl.DataFrame, columns: "pa.Schema") -> "pa.Table":
    """Return rows as a table with these columns stores them."""
    if PACKED in columns.names:
        rows = packed(rows)
    elif not has_int8_near(columns):
        rows = with_halves(rows, columns.field("vector").type.list_size)
    return keyed(rows.select(columns.names)).cast(columns.remove_metadata())


def has_int8_near(columns: "pa.Schema") -> bool:
    """Return whether `near` is in 8 bits: it is float16 in the tables of earlier columns, whose vectors are float32."""
    import pyarrow as pa

    return bool(columns.field("vector").type.value_type == pa.float16())


def packed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the column `packed` instead of `card` and `near`."""
    dimension = rows.schema["vector"].size  # type: ignore[attr-defined]  # of an array
    values = [
        packing.pack(_stacked(vector, near, dimension), card)
        for vector, near, card in rows.select("vector", "near", "card").iter_rows()
    ]
    return rows.drop("card", "near").with_columns(pl.Series(PACKED, values, dtype=pl.Binary()))


def _stacked(vector: Sequence[float] | None, near: bytes | None, dimension: int) -> Vector | None:
    """Return the vectors of a passage, the first, and of its sentences; None if it has none, or one that is not finite.

    LanceDB stores a vector that is not finite as null, too.
    """
    if vector is None or near is None or not np.isfinite(vector).all():
        return None
    return np.vstack([np.asarray(vector, np.float32), decode_vectors(near, dimension)])


def stored_as(names: Sequence[str], columns: "pa.Schema") -> list[str]:
    """Return the columns of a table that hold these columns of the rows; `with_cards` restores `card`."""
    return [PACKED if name == "card" and PACKED in columns.names else name for name in names]


def with_cards(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows of a table with the column `card`."""
    if PACKED not in rows.columns:
        return rows
    cards = pl.Series("card", [packing.card_of(value) for value in rows[PACKED]], dtype=pl.String())
    return rows.drop(PACKED).with_columns(cards)


def keyed(rows: pl.DataFrame) -> "pa.Table":
    """Convert to Arrow with `id` as the primary key: otherwise concurrent inserts of the same id would both be kept."""
    import pyarrow as pa

    table = rows.to_arrow()
    plain = pa.schema([field.with_type(_plain(field.type)) for field in table.schema])
    position = plain.get_field_index("id")
    field = plain.field(position).with_nullable(False).with_metadata(_PRIMARY_KEY)  # noqa: FBT003
    return table.cast(plain.set(position, field))


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """Replace Polars' large strings and lists by plain ones, as LanceDB indexes no others (0.40), and halve vectors."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.float16(), kind.list_size)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def foreign(rows: pl.DataFrame, dimension: int, model: str) -> pl.DataFrame:
    """Prepare rows for a table of another recipe: vectors of another model become null, the words stay searchable."""
    none: dict[str, pl.DataType] = {"recipe": pl.String()}
    if rows["embedding_model"][0] != model or rows.schema["vector"] != pl.Array(pl.Float32, dimension):
        none |= {"vector": pl.Array(pl.Float32, dimension), "near": pl.Binary(), "embedding_model": pl.String()}
    return rows.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in none.items())


def encode_card(
    media_key: str,
    *,
    title: str,
    language: str,
    recorded: date | None,
    duration_s: float | None,
    sentences: Sequence[Sentence],
    slide: int = 0,
) -> str:
    """Return the JSON for display of a passage; only long sentences include the times of their words.

    `slide` is the number of the slide, 0 for speech.
    """
    rows = [
        [one.start, one.end, one.text, one.speaker, [[at, round(when, 2)] for at, when in one.words if is_long(one)]]
        for one in sentences
    ]
    day = recorded.isoformat() if recorded else None
    fields = [media_key, title, language, day, duration_s, slide, rows]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def is_long(sentence: Sentence) -> bool:
    """Return whether playback starts inside the sentence instead of at its start."""
    return sentence.end - sentence.start > LONG_SENTENCE_S


def encode_vectors(sentence_vectors: Vector) -> bytes:
    """Return the vectors of the sentences, shape (sentences, dimension), as bytes.

    The bytes are a factor (float32) for each vector, then its numbers as multiples of the factor in 8 bits. A cosine
    changes by less than 0.002, which changes no figure of the evaluation; with 4 bits the MRR falls by 0.02.
    """
    vectors = np.asarray(sentence_vectors, np.float32)
    factors = np.abs(vectors).max(axis=1, keepdims=True) / STEPS
    factors[factors == 0] = 1.0
    steps = np.rint(vectors / factors).astype(np.int8)
    return bytes(factors.tobytes() + steps.tobytes())


def decode_sentences(written: str) -> tuple[Sentence, ...]:
    """Return the sentences in a `card` value."""
    return _sentences(json.loads(written)[-1])


def decode_vectors(pressed: bytes, dimension: int) -> Vector:
    """Return the vectors in a `near` value, shape (sentences, dimension), float32.

    In rows of earlier columns the first vector, before those of the sentences, is that of the passage.
    """
    count = len(pressed) // (dimension + np.dtype(np.float32).itemsize)
    factors = np.frombuffer(pressed, np.float32, count)
    steps = np.frombuffer(pressed, np.int8, offset=factors.nbytes).reshape(count, dimension)
    return steps * factors[:, None]


def decode_halves(pressed: bytes, dimension: int) -> Vector:
    """Return the vectors in a `near` value of earlier columns, as `decode_vectors`."""
    return np.frombuffer(pressed, np.float16).reshape(-1, dimension).astype(np.float32)


def with_halves(rows: pl.DataFrame, dimension: int) -> pl.DataFrame:
    """Return rows with `near` as in a table of earlier columns."""
    values = rows["near"].to_list()
    halves = [None if it is None else decode_vectors(it, dimension).astype(np.float16).tobytes() for it in values]
    return rows.with_columns(pl.Series("near", halves, dtype=pl.Binary()))


Content = tuple[str, frozenset[tuple[float, str]]]
"""ETag of a recording, and its sentences as (start, text)."""
CONTENT = ("media_key", "media_etag", "card")


def contents(rows: pl.DataFrame) -> dict[str, Content]:
    """Return the content of each recording in `rows` by media key, however it is cut into passages."""
    found: dict[str, tuple[str, set[tuple[float, str]]]] = {}
    for row in rows.iter_rows(named=True):
        _, sentences = found.setdefault(row["media_key"], (row["media_etag"], set()))
        sentences |= {(one.start, one.text) for one in decode_sentences(row["card"])}
    return {key: (etag, frozenset(sentences)) for key, (etag, sentences) in found.items()}


def candidate(row: int, written: str, vector: Vector | None, near: Vector | None) -> Candidate:
    """Build a candidate for ranking from its `card`, its vector and its decoded `near` (None if it has none)."""
    media_key, title, language, day, duration_s, *slide, stored = json.loads(written)  # earlier rows have no slide
    sentences = _sentences(stored)
    return Candidate(
        row=row,
        media_key=media_key,
        title=title,
        language=language or "",
        recorded=date.fromisoformat(day) if day else None,
        duration_s=duration_s,
        start=sentences[0].start,
        end=sentences[-1].end,
        text=join_sentences(sentences)[0],
        sentences=sentences,
        vector=vector,
        sentence_vectors=None if near is None else near[-len(sentences) :],
        slide=slide[0] if slide else 0,
    )


def _sentences(rows: Sequence[Any]) -> tuple[Sentence, ...]:
    return tuple(
        Sentence(start, end, text, speaker, tuple(map(tuple, words))) for start, end, text, speaker, words in rows
    )
