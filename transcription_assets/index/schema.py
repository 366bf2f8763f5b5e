"""The columns of the search tables, and which table rows belong to.

id (`<media_key>#<index>`), media_key, title, start_s, end_s, text, language, speakers, recorded, duration_s, vector
(float32, unit length), embedding_model, recipe, media_etag, and two that are read together when a passage may be
shown: card (JSON: media_key, title, language, recorded, duration_s and the sentences, each [start, end, text, speaker,
[[place in the text, second] of each word, where the sentence is long]]) and near (float16: the vector of the passage,
then one of each sentence). `recipe` names all that vectors depend on: a table holds rows of one recipe.
"""

import hashlib
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_TABLE = "passages"
"""What the only table was called before there were several; it waits for `index rebuild`."""

_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}

TOLD = (
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
"""All columns but the vectors, which follow from the recipe and the texts."""


def schema(dimension: int) -> dict[str, pl.DataType]:
    """Polars schema of a table and of `embeddings/<key>.parquet`."""
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
    """The table of a recipe: whoever writes knows it without asking, so nobody has to agree on it."""
    return f"{FIRST_TABLE}_{hashlib.sha256(recipe.encode()).hexdigest()[:10]}"


def keyed(rows: pl.DataFrame) -> "pa.Table":
    """As Arrow, `id` declared as the key: else two who insert the same id at once both succeed, and it is doubled."""
    import pyarrow as pa

    table = rows.to_arrow()
    plain = pa.schema([field.with_type(_plain(field.type)) for field in table.schema])
    position = plain.get_field_index("id")
    field = plain.field(position).with_nullable(False).with_metadata(_PRIMARY_KEY)  # noqa: FBT003
    return table.cast(plain.set(position, field))


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """Polars' large strings and lists as plain ones: LanceDB indexes no others (0.40)."""
    import pyarrow as pa

    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def foreign(rows: pl.DataFrame, dimension: int, model: str) -> pl.DataFrame:
    """Rows as a table of another recipe takes them; vectors of another model are left out, the words are found."""
    none: dict[str, pl.DataType] = {"recipe": pl.String()}
    if rows["embedding_model"][0] != model or rows.schema["vector"] != pl.Array(pl.Float32, dimension):
        none |= {"vector": pl.Array(pl.Float32, dimension), "near": pl.Binary(), "embedding_model": pl.String()}
    return rows.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in none.items())
