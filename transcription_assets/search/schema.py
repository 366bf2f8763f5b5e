"""Columns of the search tables, and the table of each recipe.

Columns: id (`<media_key>#<index>`), media_key, title, start_s, end_s, text, language, speakers, recorded, duration_s,
vector (float32, unit length), embedding_model, recipe, media_etag, and two that are read for candidates: card (JSON:
media_key, title, language, recorded, duration_s and the sentences, each [start, end, text, speaker, [[offset in the
text, second] of each word if the sentence is long]]) and near (float16: the vector of the passage, then one for each
sentence). `recipe` names everything that vectors depend on: all rows of a table have the same recipe.
"""

import hashlib
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_TABLE = "passages"
"""Name of the only table of earlier versions, which is replaced by `index rebuild`; prefix of all others."""

_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}

SCALAR_COLUMNS = (
    "id",
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


def schema(dimension: int) -> dict[str, pl.DataType]:
    """Return the Polars schema of a table and of `embeddings/<key>.parquet`."""
    return {
        "id": pl.String(),
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


def keyed(rows: pl.DataFrame) -> "pa.Table":
    """Convert to Arrow with `id` as the primary key: otherwise concurrent inserts of the same id would both be kept."""
    import pyarrow as pa

    table = rows.to_arrow()
    plain = pa.schema([field.with_type(_plain(field.type)) for field in table.schema])
    position = plain.get_field_index("id")
    field = plain.field(position).with_nullable(False).with_metadata(_PRIMARY_KEY)  # noqa: FBT003
    return table.cast(plain.set(position, field))


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """Replace Polars' large strings and lists by plain ones: LanceDB indexes no others (0.40)."""
    import pyarrow as pa

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
