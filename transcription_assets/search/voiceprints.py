"""The LanceDB tables of voiceprints: a row for each speaker of each recording, by which people are found again.

Each diarisation model has a table of its own, as voiceprints of two models cannot be compared. All rows follow from the
records in the store, and the step `embeddings` writes them. `person` is the ID of the person whom users have
confirmed, "" if nobody has.
"""

import hashlib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from transcription_assets.search.filters import quoted
from transcription_assets.search.index_errors import explained
from transcription_assets.search.tables import Tables

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "voiceprints"
MOST_NEIGHBOURS = 10_000
"""Most voices that are returned for one; a person who speaks in more recordings than this is not updated in all."""
COMPACT_EVERY = 50
"""Versions after which the table is compacted."""

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class Voiceprint:
    """The voiceprint (unit vector) of a speaker of a recording, made by `model`."""

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


class Voiceprints:
    """The tables of voiceprints at a LanceDB URI (a folder or `s3://…`), beside those of passages."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self._tables = Tables(uri, dict(storage_options or {}))

    @explained
    def replace(self, rows: Sequence[Voiceprint], media_keys: Collection[str]) -> None:
        """Make `rows` the only voiceprints of these recordings; unchanged rows are not written again.

        Raises:
            TranscriptionError: the tables cannot be written, or others kept writing at the same time.

        """
        by_model: dict[str, list[Voiceprint]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        names = {table_name(model): own for model, own in by_model.items()}
        for name in {*names, *self._tables.names(PREFIX)}:
            own = names.get(name, [])
            if own and self._tables.newest(name) is None:
                self._tables.make(name, _schema(len(own[0].vector)))
            self._replace(name, own, media_keys)

    @explained
    def nearest(self, model: str, vector: Vector, *, least: float, named: bool) -> list[Neighbour]:
        """Return the speakers whose voiceprint has at least this cosine with `vector`, the most similar first.

        With `named`, only those of people.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        table = self._tables.newest(table_name(model))
        if table is None:
            return []
        search = table.search(list(vector), vector_column_name="vector").distance_type("dot")
        if named:
            search = search.where("person != ''")
        # Distances are 1 - cosine, and the upper bound is exclusive.
        found = search.distance_range(upper_bound=1.0 - least + 1e-6).limit(MOST_NEIGHBOURS)
        columns = ["media_key", "label", "person", "_distance"]
        rows = found.select(columns).to_list()
        return [Neighbour(row["media_key"], row["label"], row["person"], 1.0 - row["_distance"]) for row in rows]

    @explained
    def of_people(self, people: Collection[str]) -> list[Voiceprint]:
        """Return the confirmed voiceprints of these people (IDs).

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        if not people:
            return []
        return self._rows(f"person IN ({', '.join(map(quoted, sorted(people)))})")

    @explained
    def of_recordings(self, media_keys: Collection[str]) -> list[Voiceprint]:
        """Return the voiceprints of these recordings.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        return self._rows(_of(media_keys)) if media_keys else []

    @explained
    def erase(self, speakers: Collection[tuple[str, str]]) -> None:
        """Remove the voiceprints of these speakers (media key and label) from all files of the tables.

        Raises:
            TranscriptionError: the tables cannot be written, or others kept writing at the same time.

        """
        if not speakers:
            return
        gone = f"id IN ({', '.join(quoted(_identifier(key, label)) for key, label in sorted(speakers))})"
        for name in self._tables.names(PREFIX):
            self._tables.written(name, lambda table: table.delete(gone))
            self._tables.written(name, _rewrite)

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

    def _replace(self, name: str, rows: Sequence[Voiceprint], media_keys: Collection[str]) -> None:
        table = self._tables.newest(name)
        if table is None or not media_keys:
            return
        stored = table.search().where(_of(media_keys)).limit(None).to_arrow()
        made = _to_arrow(rows, table.schema)
        if sorted(map(_comparable, stored.to_pylist())) == sorted(map(_comparable, made.to_pylist())):
            return

        def merge(table: Any) -> int:
            merged = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            return int(merged.when_not_matched_by_source_delete(_of(media_keys)).execute(made).version)

        if self._tables.written(name, merge) % COMPACT_EVERY == 0:
            self._tables.written(name, lambda table: table.optimize(cleanup_older_than=timedelta(hours=1)))


def table_name(model: str) -> str:
    """Return the table of a diarisation model."""
    return f"{PREFIX}_{hashlib.sha256(model.encode()).hexdigest()[:10]}"


def _rewrite(table: Any) -> None:
    """Replace all files of the table by new ones, without the deleted rows that the old ones still hold."""
    table.add(table.to_arrow(), mode="overwrite")
    with warnings.catch_warnings():
        # LanceDB warns that readers of older versions fail. They are meant to, and the next read finds the new one.
        warnings.simplefilter("ignore", UserWarning)
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


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
            "vector": list(row.vector),
        }
        for row in rows
    ]
    return pa.Table.from_pylist(values, schema.remove_metadata())


def _comparable(row: Mapping[str, Any]) -> tuple[str, str, tuple[float, ...]]:
    return row["id"], row["person"], tuple(row["vector"])
