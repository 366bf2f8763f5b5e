"""The columns of the search tables, and which table rows belong to.

id (`<media_key>#<index>`), media_key, title, start_s, end_s, text, language, speakers, recorded, duration_s, vector
(float32, unit length), embedding_model, recipe, media_etag, sentences (start_s, end_s, text, speaker, word_at,
word_s), sentence_vectors (float16, one for each sentence). `word_at` is where in the sentence each word begins,
`word_s` the second at which it is said. `recipe` names all that vectors depend on: a table holds rows of one recipe.
"""

import hashlib
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_TABLE = "passages"
"""What the only table was called before there were versions; it is served until a new one is complete."""

_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}
_MODEL_COLUMNS = ("vector", "sentence_vectors", "embedding_model")

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
    "sentences",
)
"""All columns but the vectors, which follow from the recipe and the texts."""

SENTENCE = {
    "start_s": pl.Float64(),
    "end_s": pl.Float64(),
    "text": pl.String(),
    "speaker": pl.String(),
    "word_at": pl.List(pl.UInt16),
    "word_s": pl.List(pl.Float32),
}


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
        "sentences": pl.List(pl.Struct(SENTENCE)),
        "sentence_vectors": pl.List(pl.Array(pl.Float16, dimension)),
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
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def fitted(rows: pl.DataFrame, target: "pa.Schema", *, same_model: bool) -> pl.DataFrame:
    """Rows as a table of another recipe takes them; vectors of another model are left out, the words are found."""
    width = target.field("vector").type.list_size
    columns = []
    for name in target.names:
        if name in _MODEL_COLUMNS and not same_model:
            columns.append(pl.lit(None, dtype=schema(width)[name]).alias(name))
        elif name == "sentences":
            kept = [item.name for item in target.field(name).type.value_type if item.name in SENTENCE]
            columns.append(
                pl.col(name).list.eval(pl.struct([pl.element().struct.field(field).alias(field) for field in kept]))
            )
        else:
            columns.append(pl.col(name))
    return rows.select(columns)
