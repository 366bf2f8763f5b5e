"""The searchable sink: LanceDB table `passages`, one row a passage; everything in it can be rebuilt from Parquet.

Columns: id (`<media_key>#<index>`), media_key, start_s, end_s, text, language, vector (float32, unit length),
embedding_model, media_etag, sentences (start_s, end_s, text), sentence_vectors (float16, one for each sentence).
"""

import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import polars as pl

from transcription_assets.failures import PermanentFailure, TransientFailure

TABLE = "passages"
VECTOR_INDEX_ROWS = 20_000
"""Below this a scan of all vectors answers in milliseconds, and an index only costs."""
KEEP_VERSIONS = timedelta(hours=1)
"""A reader that opened an older version finishes in peace."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
log = logging.getLogger(__name__)

_AWAY = re.compile(
    r"conflict|time[d ]*out|connect|reset|throttl|slow ?down|dispatch|\b(?:429|50[0234])\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A moment: the sentence that fits the query best in a passage that fits; seconds, score = cosine in [-1, 1]."""

    media_key: str
    start: float
    end: float
    text: str
    context: str
    score: float


@dataclass(frozen=True, slots=True)
class IndexState:
    """What the table holds after maintenance."""

    rows: int
    recordings: int
    fragments: int
    version: int
    vector_index: bool


def schema(dimension: int) -> dict[str, pl.DataType]:
    """Polars schema of the table and of `embeddings/<key>.parquet`."""
    return {
        "id": pl.String(),
        "media_key": pl.String(),
        "start_s": pl.Float64(),
        "end_s": pl.Float64(),
        "text": pl.String(),
        "language": pl.String(),
        "vector": pl.Array(pl.Float32, dimension),
        "embedding_model": pl.String(),
        "media_etag": pl.String(),
        "sentences": pl.List(pl.Struct({"start_s": pl.Float64, "end_s": pl.Float64, "text": pl.String})),
        "sentence_vectors": pl.List(pl.Array(pl.Float16, dimension)),
    }


def explained(
    method: Callable[Concatenate["Index", Arguments], Result],
) -> Callable[Concatenate["Index", Arguments], Result]:
    """Turn what LanceDB raises into the failures of this library; it has retried what it can by itself by then."""

    @functools.wraps(method)
    def wrapped(index: "Index", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return method(index, *args, **kwargs)
        except (OSError, RuntimeError) as error:
            said = f"the search table at {index.uri} cannot be used: {error}"
            if _AWAY.search(str(error)):
                raise TransientFailure(said) from error
            raise PermanentFailure(
                f"{said}. If it is damaged, delete the folder lancedb/ of the store and materialise `embeddings` for "
                "all partitions, or run `transcription-assets process`: nothing is transcribed again."
            ) from error

    return wrapped


class Index:
    """The table at a LanceDB URI (a folder or `s3://…`); every method opens the newest version."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self._options = dict(storage_options or {})

    @explained
    def replace(self, rows: pl.DataFrame, media_keys: Sequence[str]) -> int:
        """Make `rows` the only rows of `media_keys`, in one version: nobody reads a half; returns that version.

        Raises PermanentFailure where the table holds vectors of another length, TransientFailure where others kept
        writing at the same time.
        """
        table = self._opened(create_as=rows)
        self._require_dimension(table, rows)
        gone = f"media_key IN ({', '.join(map(_quoted, media_keys))})"
        merge = (
            table.merge_insert("id")
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .when_not_matched_by_source_delete(gone)
        )
        return int(merge.execute(rows.to_arrow()).version)

    @explained
    def remove(self, media_keys: Sequence[str]) -> None:
        """Take all rows of `media_keys` out."""
        if (table := self._opened()) is not None:
            table.delete(f"media_key IN ({', '.join(map(_quoted, media_keys))})")

    @explained
    def search(self, vector: np.ndarray, *, embedding_model: str, limit: int = 10) -> list[Hit]:
        """The best moments for a query vector (unit length), best first; no two from the same sentence."""
        table = self._opened()
        if table is None:
            return []
        found = (
            table.search(vector.astype(np.float32))
            .distance_type("dot")
            .where(f"embedding_model = {_quoted(embedding_model)}")
            .limit(3 * limit)
            .to_polars()
        )
        hits: dict[tuple[str, float], Hit] = {}
        for row in found.iter_rows(named=True):
            hit = _moment(row, vector)
            hits.setdefault((hit.media_key, hit.start), hit)
        return sorted(hits.values(), key=lambda hit: -hit.score)[:limit]

    @explained
    def rows(self, media_key: str) -> int:
        """How many passages of a recording can be found."""
        table = self._opened()
        return 0 if table is None else int(table.count_rows(f"media_key = {_quoted(media_key)}"))

    @explained
    def count(self) -> int:
        """How many passages can be found in all."""
        table = self._opened()
        return 0 if table is None else int(table.count_rows())

    @explained
    def maintain(self) -> IndexState:
        """Compact small fragments, drop versions that nobody reads, build or refresh the vector index."""
        table = self._opened()
        if table is None:
            return IndexState(rows=0, recordings=0, fragments=0, version=0, vector_index=False)
        rows = int(table.count_rows())
        indexed = any("vector" in item.columns for item in table.list_indices())
        if rows >= VECTOR_INDEX_ROWS and not indexed:
            from lancedb.index import HnswSq

            table.create_index("vector", config=HnswSq(distance_type="dot"))
            indexed = True
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
        keys = table.search().select(["media_key"]).limit(rows).to_polars()["media_key"] if rows else []
        return IndexState(
            rows=rows,
            recordings=len(set(keys)),
            fragments=int(table.stats()["fragment_stats"]["num_fragments"]),
            version=int(table.version),
            vector_index=indexed,
        )

    def _opened(self, create_as: pl.DataFrame | None = None) -> Any:
        import lancedb

        connection = lancedb.connect(self.uri, storage_options=self._options or None)
        try:
            return connection.open_table(TABLE)
        except ValueError as error:
            if "not found" not in str(error):
                raise
        if create_as is None:
            return None
        return connection.create_table(TABLE, schema=create_as.clear().to_arrow().schema, exist_ok=True)

    def _require_dimension(self, table: Any, rows: pl.DataFrame) -> None:
        held = table.schema.field("vector").type.list_size
        given = rows.schema["vector"].shape[0]  # type: ignore[attr-defined]
        if held != given:
            raise PermanentFailure(
                f"the table at {self.uri} holds vectors of {held} numbers, the encoder gives {given}: vectors of two "
                "models do not mix. Set TRANSCRIPTION_ENCODER_MODEL back, or delete the folder lancedb/ of the store "
                "and materialise `embeddings` for all partitions (no new transcription is needed)."
            )


def _moment(row: Mapping[str, Any], vector: np.ndarray) -> Hit:
    sentences = np.asarray(row["sentence_vectors"], np.float32)
    closeness = sentences @ vector
    best = int(closeness.argmax())
    sentence = row["sentences"][best]
    passage_score = 1.0 - float(row["_distance"])
    return Hit(
        media_key=row["media_key"],
        start=sentence["start_s"],
        end=sentence["end_s"],
        text=sentence["text"],
        context=row["text"],
        score=round(max(passage_score, float(closeness[best])), 4),
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
