"""The LanceDB tables of voiceprints: a row for each speaker of each recording, by which people are found again.

Each diarisation model has a table of its own, as voiceprints of two models cannot be compared. All rows follow from the
records in the store, and the step `embeddings` writes them. `person` is the ID of the person whom users have
confirmed, "" if nobody has.
"""

import functools
import hashlib
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from transcription_assets.search.filters import quoted
from transcription_assets.search.index_errors import FilesGone, translate_method_errors
from transcription_assets.search.tables import Tables

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "voiceprints"
BATCH_ROWS = 10_000
COMPACT_EVERY = 50
"""Versions after which the table is compacted."""

_ERASING = threading.Lock()
"""Held while rows are erased: what one erasure rewrites may hold rows that another one has just erased."""

Vector = Sequence[float]
Matrix = NDArray[np.float32]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Voiceprint:
    """The voiceprint (unit vector) of a speaker of a recording, made by `model`; an empty one is similar to none."""

    media_key: str
    label: str
    model: str
    vector: Vector
    person: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A speaker whose voice is similar; `similarity` is the cosine."""

    media_key: str
    label: str
    person: str
    similarity: float


def _read_twice(
    method: Callable[Concatenate["Voiceprints", Arguments], Result],
) -> Callable[Concatenate["Voiceprints", Arguments], Result]:
    """Call the method again if files were removed while it read them, as `Voiceprints.erase` does."""

    @functools.wraps(method)
    def read(self: "Voiceprints", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return method(self, *args, **kwargs)
        except FilesGone:
            self.forget()
            return method(self, *args, **kwargs)

    return read


class Voiceprints:
    """The tables of voiceprints at a LanceDB URI (a folder or `s3://…`), beside those of passages."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self._tables = Tables(uri, dict(storage_options or {}))
        self._people: dict[str, tuple[int, list[tuple[str, str, str]], Matrix]] = {}

    def forget(self) -> None:
        """Discard all open tables: their files may have been replaced."""
        self._people.clear()
        self._tables.forget()

    @translate_method_errors
    def replace(self, rows: Sequence[Voiceprint], media_keys: Collection[str]) -> bool:
        """Make `rows` the only voiceprints of these recordings; unchanged rows are not written again.

        Returns whether anything was written. `erase` removes versions of the table at once, and LanceDB then gives
        their numbers again and cannot check a commit against them: a write during an erasure can have no effect. So
        callers repeat the call, with rows that they have read again, until nothing is written.

        Raises:
            TranscriptionError: the tables cannot be written, or others kept writing at the same time.

        """
        by_model: dict[str, list[Voiceprint]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        names = {table_name(model): own for model, own in by_model.items()}
        has_written = False
        for name in {*names, *self._tables.names(PREFIX)}:
            own = names.get(name, [])
            dimension = max((len(row.vector) for row in own), default=0)
            if dimension and self._tables.retry_write(name, lambda table: table is None):
                self._tables.create(name, _schema(dimension))
            has_written |= self._replace(name, own, media_keys)
        return has_written

    @_read_twice
    @translate_method_errors
    def people_near(self, model: str, vectors: Sequence[Vector], least: float) -> list[list[Neighbour]]:
        """Return for each vector the confirmed speakers whose voiceprint has at least this cosine with it.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        rows, matrix = self._confirmed(table_name(model))
        if not rows:
            return [[] for _ in vectors]
        cosines = np.asarray(vectors, np.float32) @ matrix.T
        return [
            [
                Neighbour(*rows[index], similarity=float(cosines[number, index]))
                for index in np.flatnonzero(cosines[number] >= least)
            ]
            for number in range(len(vectors))
        ]

    @_read_twice
    @translate_method_errors
    def recordings_near(self, model: str, vectors: Sequence[Vector], least: float) -> set[str]:
        """Return the recordings in which a speaker has a voiceprint with at least this cosine with one of `vectors`.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        table = self._tables.newest(table_name(model))
        if table is None or not vectors:
            return set()
        wanted = np.asarray(vectors, np.float32)
        found: set[str] = set()
        for batch in table.search().select(["media_key", "vector"]).limit(None).to_batches(BATCH_ROWS):
            near = (_matrix(batch, wanted.shape[1]) @ wanted.T >= least).any(axis=1)
            found |= set(batch.column("media_key").filter(near).to_pylist())
        return found

    @_read_twice
    @translate_method_errors
    def of_people(self, people: Collection[str]) -> list[Voiceprint]:
        """Return the confirmed voiceprints of these people (IDs).

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        if not people:
            return []
        return self._rows(f"person IN ({', '.join(map(quoted, sorted(people)))})")

    @_read_twice
    @translate_method_errors
    def of_recordings(self, media_keys: Collection[str]) -> list[Voiceprint]:
        """Return the voiceprints of these recordings.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        return self._rows(_of(media_keys)) if media_keys else []

    @translate_method_errors
    def erase(self, people: Collection[str]) -> None:
        """Remove the rows of these people (IDs), and everything that was removed before, from all files of the tables.

        Raises:
            TranscriptionError: the tables cannot be written, or others kept writing at the same time.

        """
        gone = f"person IN ({', '.join(map(quoted, sorted(people)))})"
        with _ERASING:
            for name in self._tables.names(PREFIX):
                self._tables.retry_write(name, lambda table: table.delete(gone))
                self._tables.retry_write(name, _rewrite)

    def _confirmed(self, name: str) -> tuple[list[tuple[str, str, str]], Matrix]:
        """Return (media key, label, person) and the voiceprint of each confirmed speaker, cached by table version."""
        table = self._tables.newest(name)
        if table is None:
            return [], np.empty((0, 0), np.float32)
        if name not in self._people or self._people[name][0] != table.version:
            found = table.search().where("person != ''").limit(None).to_arrow()
            rows = list(
                zip(*(found.column(field).to_pylist() for field in ("media_key", "label", "person")), strict=True)
            )
            dimension = table.schema.field("vector").type.list_size
            self._people[name] = (table.version, rows, _matrix(found.combine_chunks(), dimension))
        return self._people[name][1:]

    def _rows(self, condition: str) -> list[Voiceprint]:
        found: list[Voiceprint] = []
        for name in self._tables.names(PREFIX):
            table = self._tables.newest(name)
            rows = table.search().where(condition).limit(None).to_list() if table else []
            found += [
                Voiceprint(row["media_key"], row["label"], row["model"], tuple(row["vector"]), row["person"])
                for row in rows
            ]
        return found

    def _replace(self, name: str, rows: Sequence[Voiceprint], media_keys: Collection[str]) -> bool:
        """Write the rows of these recordings to a table; return False if it has them already."""

        def write(table: Any) -> int:
            return _write(table, rows, media_keys) if table is not None and media_keys else 0

        version = self._tables.retry_write(name, write)
        if version and version % COMPACT_EVERY == 0:
            self._tables.retry_write(name, lambda table: table.optimize(cleanup_older_than=timedelta(hours=1)))
        return version > 0


def table_name(model: str) -> str:
    """Return the table of a diarisation model."""
    return f"{PREFIX}_{hashlib.sha256(model.encode()).hexdigest()[:10]}"


def _write(table: Any, rows: Sequence[Voiceprint], media_keys: Collection[str]) -> int:
    """Make `rows` the only ones of these recordings; return the new version of the table, 0 if nothing was written."""
    stored = table.search().where(_of(media_keys)).limit(None).to_arrow()
    made = _to_arrow(rows, table.schema)
    if sorted(map(_comparable, stored.to_pylist())) == sorted(map(_comparable, made.to_pylist())):
        return 0
    if len(set(stored.column("id").to_pylist())) < stored.num_rows:
        # Two rows of one ID, left by a commit that LanceDB could not check (see `replace`), would both be updated.
        table.delete(_of(media_keys))
    merged = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    return int(merged.when_not_matched_by_source_delete(_of(media_keys)).execute(made).version)


def _rewrite(table: Any) -> None:
    """Write all rows anew, and remove the files with the old ones, among which are deleted rows.

    A row that another process writes meanwhile is a conflict, and the caller tries again. Files that another process
    has begun to write are kept.
    """
    if table.count_rows():
        table.merge_insert("id").when_matched_update_all().execute(table.to_arrow().replace_schema_metadata(None))
    with warnings.catch_warnings():
        # LanceDB warns that readers of older versions fail. They read again, see `_read_twice`.
        warnings.simplefilter("ignore", UserWarning)
        table.optimize(cleanup_older_than=timedelta(0))


def _matrix(rows: Any, dimension: int) -> Matrix:
    """Return the vectors of a record batch or a table of one chunk, shape (rows, dimension)."""
    column = rows.column("vector")
    flat = (column.combine_chunks() if hasattr(column, "combine_chunks") else column).flatten()
    return np.asarray(flat, np.float32).reshape(-1, dimension)


def _identifier(media_key: str, label: str) -> str:
    return f"{media_key}#{label}"


def _of(media_keys: Iterable[str]) -> str:
    return f"media_key IN ({', '.join(map(quoted, sorted(media_keys)))})"


def _schema(dimension: int) -> "pa.Schema":
    import pyarrow as pa

    # Without a primary key concurrent inserts of the same ID would both be kept.
    key = pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})
    texts = [pa.field(name, pa.string()) for name in ("media_key", "label", "person", "model")]
    return pa.schema([key, *texts, pa.field("vector", pa.list_(pa.float32(), dimension))])


def _to_arrow(rows: Sequence[Voiceprint], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    values = [
        {
            "id": _identifier(row.media_key, row.label),
            "media_key": row.media_key,
            "label": row.label,
            "person": row.person,
            "model": row.model,
            "vector": list(row.vector) or [0.0] * schema.field("vector").type.list_size,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(values, schema.remove_metadata())


def _comparable(row: Mapping[str, Any]) -> tuple[str, str, tuple[float, ...]]:
    return row["id"], row["person"], tuple(row["vector"])
