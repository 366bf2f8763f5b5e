"""The searchable sink: LanceDB table `passages`, one row a passage; everything in it can be rebuilt from Parquet.

Columns: id (`<media_key>#<index>`), media_key, start_s, end_s, text, language, speaker (or null), vector (float32, unit
length), embedding_model, media_etag, sentences (start_s, end_s, text), sentence_vectors (float16, one a sentence).
"""

import functools
import logging
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import obstore
import polars as pl
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from transcription_assets.failures import PermanentFailure, TransientFailure

if TYPE_CHECKING:
    import pyarrow as pa
    from obstore.store import ObjectStore

TABLE = "passages"
VECTOR_INDEX_ROWS = 20_000
"""Below this a scan of all vectors answers in milliseconds, and an index only costs."""
KEEP_VERSIONS = timedelta(hours=1)
"""A reader that opened an older version finishes in peace."""
ATTEMPTS = 8
"""At one write, each after LanceDB has lost ten races in a row itself; with growing pauses, about a minute in all."""
LONGEST_PAUSE_S = 16.0

_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}
_LOST_A_RACE = ("conflict", "contention", "incompatible transaction", "preempted")

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
        "speaker": pl.String(),
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
        except (OSError, RuntimeError, ValueError) as error:
            # Not chained, and without the store's own document: it can quote the token that it refused.
            told = re.split(r"<\?xml|<Error", str(error), maxsplit=1)[0]
            said = f"the search table at {index.uri} cannot be used: {told}"
            if _AWAY.search(str(error)):
                raise TransientFailure(said) from None
            raise PermanentFailure(
                f"{said}. If it is damaged, delete the folder lancedb/ of the store and materialise `embeddings` for "
                "all partitions, or run `transcription-assets process`: nothing is transcribed again."
            ) from None

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
        table = self._opened()
        self._require_dimension(self._created(rows) if table is None else table, rows)

        def merge(table: Any) -> int:
            merged = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            return int(merged.when_not_matched_by_source_delete(_of(media_keys)).execute(_keyed(rows)).version)

        return self._written(merge)

    @explained
    def remove(self, media_keys: Sequence[str]) -> None:
        """Take all rows of `media_keys` out."""
        if self._opened() is not None:
            self._written(lambda table: table.delete(_of(media_keys)))

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
    def held(self, media_keys: Sequence[str]) -> dict[tuple[str, str], int]:
        """How many passages of each (media key, etag) can be found; those without any are left out."""
        table = self._opened()
        if table is None or not media_keys:
            return {}
        found = table.search().where(_of(media_keys)).select(["media_key", "media_etag"]).limit(None).to_polars()
        return {(key, etag): count for key, etag, count in found.group_by("media_key", "media_etag").len().iter_rows()}

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

            self._written(lambda table: table.create_index("vector", config=HnswSq(distance_type="dot")))
            indexed = True
        self._written(lambda table: table.optimize(cleanup_older_than=KEEP_VERSIONS))
        table = self._opened()
        rows = int(table.count_rows())
        keys = table.search().select(["media_key"]).limit(rows).to_polars()["media_key"] if rows else []
        return IndexState(
            rows=rows,
            recordings=len(set(keys)),
            fragments=int(table.stats()["fragment_stats"]["num_fragments"]),
            version=int(table.version),
            vector_index=indexed,
        )

    def _opened(self) -> Any:
        """The newest version of the table, or None where there is none yet."""
        import lancedb

        connection = lancedb.connect(self.uri, storage_options=self._options or None)
        try:
            return connection.open_table(TABLE)
        except ValueError as error:
            if "not found" not in str(error):
                raise
        return None

    def _created(self, rows: pl.DataFrame) -> Any:
        """The table, made for rows like these, unless another process made it in this moment.

        LanceDB's own `create_table` writes an empty version over a table that appeared after it had looked (0.40), and
        the rows of others are gone. So an empty table is made aside, and its manifest put where none is yet.
        """
        import lancedb

        with TemporaryDirectory() as folder:
            lancedb.connect(folder).create_table(TABLE, schema=_keyed(rows.clear()).schema)
            (manifest,) = Path(folder).rglob("*.manifest")
            path = str(manifest.relative_to(folder))
            try:
                obstore.put(self._files(), path, manifest.read_bytes(), mode="create")
            except (AlreadyExistsError, PreconditionError):
                log.info("%s: another process made the search table", self.uri)
            except BaseError as error:
                raise TransientFailure(f"{self.uri}: the search table cannot be made ({error})") from error
        return self._opened()

    def _written(self, write: Callable[[Any], Result]) -> Result:
        """Write to the newest version; LanceDB tries again ten times itself where others are first, then we do."""
        for attempt in range(ATTEMPTS):
            try:
                # Opened anew: one that has lost a race stays at the version that it knows, and loses again.
                return write(self._opened())
            except (OSError, RuntimeError, ValueError) as error:
                if not any(words in str(error).lower() for words in _LOST_A_RACE):
                    raise
                lost = error
            log.info("others write to the search table, attempt %s of %s: %s", attempt + 1, ATTEMPTS, lost)
            time.sleep(random.uniform(0.0, min(LONGEST_PAUSE_S, 0.25 * 2**attempt)))  # noqa: S311 -- no secret
        raise TransientFailure(f"others keep writing to the search table: {lost}") from lost

    def _files(self) -> "ObjectStore":
        """The folder of the tables, without LanceDB."""
        from obstore.store import LocalStore, S3Store

        if "://" not in self.uri:
            return LocalStore(self.uri, mkdir=True)
        options = dict(self._options)
        allow_http = options.pop("allow_http", "false") == "true"
        # Not `from_url`: obstore 0.12 does not know `aws_endpoint_url_s3` there.
        bucket, _, prefix = self.uri.partition("://")[2].partition("/")
        return S3Store(bucket, prefix=prefix, config=options, client_options={"allow_http": allow_http})  # type: ignore[arg-type]

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


def _keyed(rows: pl.DataFrame) -> "pa.Table":
    """As Arrow, `id` declared as the key: else two who insert the same id at once both succeed, and it is doubled."""
    table = rows.to_arrow()
    position = table.schema.get_field_index("id")
    field = table.schema.field(position).with_nullable(False).with_metadata(_PRIMARY_KEY)  # noqa: FBT003
    return table.cast(table.schema.set(position, field))


def _of(media_keys: Sequence[str]) -> str:
    return f"media_key IN ({', '.join(map(_quoted, media_keys))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
