"""The search index: LanceDB tables of passages, all of which can be rebuilt from the transcripts.

All rows with the same recipe (model, passage length, columns) are in one table, so vectors of two models are never
compared. One table is served. Rows with a new recipe fill another table beside it, and `maintain` switches to that
table once it holds every recording. Until then new and replaced recordings are written to the served table as well:
their words can be searched at once, their vectors only if the model is the same. The table served before is kept so
that a switch can be undone; older ones are dropped. A table that a user has switched away from is `refused`:
`maintain` does not switch back to it, whatever is written to it, until the user rebuilds it or switches again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import polars as pl

from transcription_assets.embedding import Weights
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.search import retrieval, schema
from transcription_assets.search import vocabulary as vocabularies
from transcription_assets.search.filters import Facets, Filters, expression, facets, quoted
from transcription_assets.search.index_errors import translate_lancedb_errors, translate_method_errors
from transcription_assets.search.index_files import IndexFiles
from transcription_assets.search.query import ParsedQuery
from transcription_assets.search.ranking import Candidate, Vector
from transcription_assets.search.retrieval import Snapshot
from transcription_assets.search.selection import Selection, may_be_read
from transcription_assets.search.table_roles import KEYS, TableRoles
from transcription_assets.search.tables import IndexState, Tables, VersionState, is_searchable, run_coroutine
from transcription_assets.search.vocabulary import Forms, Vocabulary

BATCH_ROWS = 4096
NAMED = 3
"""Maximum number of recordings that a message names."""
POINTER_S = 1.0
"""Seconds for which readers cache the name of the served table."""
MOST_SELECTIONS = 4
"""Filters whose rows are kept for a snapshot: at most 2 MB each."""
NO_FORMS = Forms()


class Index:
    """The tables at a LanceDB URI (a folder or `s3://…`); every method reads the newest version."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self._tables = Tables(uri, dict(storage_options or {}))
        self._served: tuple[float, str] = (float("-inf"), "")
        self._models: dict[str, str] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._files = IndexFiles(self._tables)
        self._selecting = Lock()

    @translate_method_errors
    def replace(self, rows: pl.DataFrame, media_keys: Sequence[str]) -> int:
        """Make `rows` the only rows of `media_keys`, and return the version of the table that holds them.

        All rows change in one version, so readers never see a part of them. The version is 0 if `rows` is empty.

        Raises:
            PermanentFailure: the rows have several recipes, or the tables cannot be used.
            TransientFailure: others kept writing at the same time, or the store does not answer.

        """
        recipes = rows["recipe"].unique().to_list()
        if len(recipes) > 1:
            raise PermanentFailure(f"rows of {len(recipes)} recipes in one call; all must have the same")
        if not recipes:
            self._remove(media_keys)
            return 0
        own_table = schema.table_name(recipes[0])
        self._take_role(own_table)
        if self._tables.newest(own_table) is None:
            self._tables.create(own_table, schema.table_schema(rows))
        version = self._merge(own_table, rows, media_keys)
        # Read again: a process that has switched since the first call did not see these rows.
        served = self._take_role(own_table)
        if served != own_table:
            self._write_to_served(served, rows, media_keys)
        return version

    @translate_method_errors
    def holds(self, rows: pl.DataFrame, media_key: str) -> bool:
        """Return whether the served table holds exactly these rows of the recording, and is the table of their recipe.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        served = self._served_now()
        table = self._tables.newest(served) if served else None
        if table is None or {schema.table_name(recipe) for recipe in rows["recipe"].unique()} - {served}:
            return False
        if not rows.height:
            return not table.count_rows(_of_recordings([media_key]))
        found = (
            table.search()
            .where(_of_recordings([media_key]))
            .select(schema.stored_as(schema.SCALAR_COLUMNS, table.schema))
            .limit(None)
            .to_polars()
        )
        found = schema.with_cards(found).select(schema.SCALAR_COLUMNS)
        return bool(found.sort("id").equals(rows.select(schema.SCALAR_COLUMNS).sort("id")))

    @translate_method_errors
    def remove(self, media_keys: Sequence[str]) -> None:
        """Delete all rows of `media_keys` from every table.

        Raises:
            TranscriptionError: the tables cannot be written, or others kept writing at the same time.

        """
        self._remove(media_keys)

    @translate_method_errors
    def snapshot(self) -> Snapshot | None:
        """Return a snapshot of the served table, or None if nothing has been indexed.

        The snapshot does not change, so that several queries for one answer agree whatever is written meanwhile.

        Raises:
            PermanentFailure: the table has the columns of an earlier version and has to be rebuilt.
            TranscriptionError: the tables cannot be read.

        """
        served = self._served_name()
        table = self._tables.open_cached(served) if served else None
        if table is None:
            return None
        snapshot, version = self._snapshots.get(served), int(table.version)
        if snapshot is None or snapshot.version != version:
            snapshot = self._snapshots[served] = self._snapshot_of(served, version)
        return snapshot

    def forget(self) -> None:
        """Discard all open tables and snapshots: the tables may have been deleted and created again."""
        self._snapshots.clear()
        self._files.forget()
        self._tables.forget()

    @translate_method_errors
    def vocabulary(self, snapshot: Snapshot) -> Vocabulary:
        """Return the vocabulary of the table as of its last maintenance, empty before the first.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        return self._files.vocabulary(str(snapshot.table.name))

    @translate_method_errors
    def calibrated(self, model: str) -> Weights | None:
        """Return the weights that were measured for this model and stored beside the tables, None if there are none.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        return self._files.calibrated(model)

    @translate_method_errors
    def calibrate(self, model: str, weights: Weights) -> None:
        """Store the weights of a model beside the tables, for all who search.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        self._files.calibrate(model, weights)

    @translate_method_errors
    def search_vectors(self, snapshot: Snapshot, vector: Vector, filters: Filters, most: int) -> Sequence[int]:
        """Return row ids among which are the nearest to `vector` (unit length, of the table's model).

        Raises:
            PermanentFailure: `vector` has another dimension, or the table cannot be used.
            TransientFailure: the store does not answer.

        """
        if len(vector) != snapshot.dimension:
            raise ValueError(f"the table has vectors of dimension {snapshot.dimension}, the query has {len(vector)}")
        return run_coroutine(retrieval.search_vectors(snapshot, vector, self._select(snapshot, filters), most))

    @translate_method_errors
    def search_words(
        self,
        snapshot: Snapshot,
        parsed: ParsedQuery,
        filters: Filters,
        most: int,
        forms: Forms = NO_FORMS,
    ) -> Mapping[int, float]:
        """Return the BM25 score of each row that holds the words, or the other `forms` of a term.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        return run_coroutine(retrieval.search_words(snapshot, parsed, self._select(snapshot, filters), most, forms))

    @translate_method_errors
    def search_typed(
        self, snapshot: Snapshot, parsed: ParsedQuery, filters: Filters, most: int, forms: Forms = NO_FORMS
    ) -> Mapping[int, float]:
        """Return the BM25 score of each row that holds the words of the question as they were typed.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        return run_coroutine(retrieval.search_typed(snapshot, parsed, self._select(snapshot, filters), most, forms))

    @translate_method_errors
    def search_similar_words(
        self, snapshot: Snapshot, words: Sequence[str], filters: Filters, most: int
    ) -> Mapping[int, float]:
        """Return the BM25 score of each row that holds a word spelt like one of `words`.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        return run_coroutine(retrieval.search_similar_words(snapshot, words, self._select(snapshot, filters), most))

    @translate_method_errors
    def has_word(self, snapshot: Snapshot, word: str, filters: Filters) -> bool:
        """Return whether any passage that passes the filters holds the word.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        return run_coroutine(retrieval.has_word(snapshot, word, self._select(snapshot, filters)))

    @translate_method_errors
    def passages_at(self, snapshot: Snapshot, media_key: str, second: float, kind: str = "speech") -> Sequence[int]:
        """Return the row ids of what is said in a recording at this second, the most central passage first.

        With the kind `slide` they are those of its slides, the one that appeared last first.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        return run_coroutine(retrieval.passages_at(snapshot, media_key, second, kind))

    @translate_method_errors
    def read(self, snapshot: Snapshot, rows: Sequence[int]) -> Mapping[int, Candidate]:
        """Return the passages with these row ids.

        Raises:
            TranscriptionError: the table cannot be read.

        """
        return run_coroutine(retrieval.read(snapshot, rows))

    @translate_method_errors
    def facets(self) -> Facets:
        """Return the values that the served table can be filtered by.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        snapshot = self.snapshot()
        if snapshot is None:
            return Facets(0, {}, {}, {}, None, None)
        kind = ["kind"] if snapshot.has_kinds else []
        search = snapshot.table.search().select(["media_key", "language", "speakers", "recorded", *kind])
        rows = pl.from_arrow(search.limit(snapshot.passages or 1).to_arrow())
        assert isinstance(rows, pl.DataFrame)  # noqa: S101 -- for the type checker: a table gives a frame
        return facets(rows if kind else rows.with_columns(kind=pl.lit("speech")))

    @translate_method_errors
    def recordings(self) -> set[str]:
        """Return the media keys of the recordings in the served table.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        return {key for key, _ in self._recordings(self._served_now())}

    @translate_method_errors
    def rows(self, media_key: str) -> int:
        """Return the number of passages of a recording in the served table.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        return sum(count for (key, _), count in self._row_counts([media_key]).items() if key == media_key)

    @translate_method_errors
    def row_counts(self, media_keys: Sequence[str]) -> dict[tuple[str, str], int]:
        """Return the number of served passages by (media key, ETag); recordings without passages are left out.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        return self._row_counts(media_keys)

    @translate_method_errors
    def count(self) -> int:
        """Return the number of passages in the served table.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        snapshot = self.snapshot()
        return 0 if snapshot is None else snapshot.passages

    @translate_method_errors
    def dimension(self) -> int:
        """Return the dimension of the vectors in the served table, 0 if nothing has been indexed.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        snapshot = self.snapshot()
        return snapshot.dimension if snapshot else 0

    def passage_schema(self, columns: Sequence[str]) -> dict[str, pl.DataType]:
        """Return the Polars types of these columns.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        types = schema.polars_schema(self.dimension() or 1)
        return {name: types[name] for name in columns}

    def passages(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all rows of the served table with these columns, in batches of about BATCH_ROWS.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        snapshot = self.snapshot()
        if snapshot is None:
            return
        types = self.passage_schema(columns)
        stored = [name for name in columns if name != "kind" or snapshot.has_kinds]
        for batch in self._batches(snapshot, stored):
            yield _frame(batch, types)

    @translate_method_errors
    def maintain(self) -> IndexState:
        """Build indexes and compact every table, and switch to the table under construction if it is complete.

        Raises:
            TranscriptionError: the tables cannot be written, or others kept writing at the same time.

        """
        names = self._tables.names(schema.FIRST_TABLE)
        for name in names:
            self._tables.maintain(name)
        roles = self._roles()
        building, served = roles.next_served, roles.served
        if building in names and not self._missing(building, served):
            # Others may have switched, or filled another table, since the roles were read.
            building = self._change_roles(lambda roles: roles.completed(building, served)).next_served
        self._drop_old(names)
        for name in self._tables.names(schema.FIRST_TABLE):
            self._maintain_vocabulary(name)
        return self._state(building if building in names else "")

    @translate_method_errors
    def status(self) -> list[VersionState]:
        """Return the state of every table, the served one first.

        Raises:
            TranscriptionError: the tables cannot be read.

        """
        roles = self._roles()
        states = [
            replace(self._version(name, roles.role_of(name), roles.served), refused=name == roles.refused)
            for name in self._tables.names(schema.FIRST_TABLE)
        ]
        return sorted(states, key=lambda state: (state.role != "served", state.table))

    @translate_method_errors
    def switch(self, table: str, *, even_incomplete: bool = False) -> None:
        """Serve another table from now on; `maintain` does not switch back to the one that was served.

        Raises:
            PermanentFailure: there is no such table, or it lacks recordings and `even_incomplete` is False.
            TransientFailure: others kept changing the served table, or the store does not answer.

        """
        if table not in self._tables.names(schema.FIRST_TABLE):
            names = ", ".join(self._tables.names(schema.FIRST_TABLE))
            hint = f"use one of {names}" if names else "run `transcription-assets process` first"
            raise PermanentFailure(f"no table {table}: {hint}", hint=hint)
        missing = sorted(key for key, _ in self._missing(table, self._served_now()))
        if missing and not even_incomplete:
            some = ", ".join(missing[:NAMED]) + (" …" if missing[NAMED:] else "")
            hint = "run `transcription-assets index rebuild`, or use --incomplete to serve the table without them"
            raise PermanentFailure(
                f"{table} lacks {len(missing)} recordings of the served table ({some}): {hint}", hint=hint
            )
        self._change_roles(lambda roles: roles.switched(table, is_refusal=True))

    @translate_method_errors
    def accept(self, table: str) -> None:
        """Let `maintain` switch to this table once it is complete, although a user has switched away from it.

        Raises:
            TranscriptionError: others kept changing the served table, or the store does not answer.

        """
        self._change_roles(lambda roles: roles.accepting(table))

    def _select(self, snapshot: Snapshot, filters: Filters) -> Selection:
        """Return the rows that pass the filters; they are read once for a snapshot, whichever query is first."""
        if not may_be_read(filters, snapshot.passages):
            return Selection(expression(filters))
        if found := snapshot.selections.get(filters):
            return found
        with self._selecting:
            if filters not in snapshot.selections:
                found = run_coroutine(retrieval.select(snapshot, filters))
                while len(snapshot.selections) >= MOST_SELECTIONS:
                    snapshot.selections.pop(next(iter(snapshot.selections)))
                snapshot.selections[filters] = found
            return snapshot.selections[filters]

    def _maintain_vocabulary(self, name: str) -> None:
        """Write the vocabulary of a table of which a good part has changed since it was written."""
        table = self._tables.newest(name)
        if table is None or not is_searchable(table):
            return
        written = self._files.stored_vocabulary(name)
        now_s = time.time()
        if written.is_current(int(table.version), int(table.count_rows()), now_s):
            return
        columns = {"text": pl.String(), "language": pl.String()}
        with translate_lancedb_errors(self.uri):
            batches = table.search().select(list(columns)).limit(int(table.count_rows()) or 1).to_batches(BATCH_ROWS)
            passages = (_frame(batch, columns) for batch in batches)
            made = vocabularies.build(passages, int(table.version), written, now_s)
        self._files.put_vocabulary(name, made)

    def _batches(self, snapshot: Snapshot, columns: Sequence[str]) -> Iterator[Any]:
        with translate_lancedb_errors(self.uri):
            search = snapshot.table.search().select(list(columns)).limit(snapshot.passages or 1)
            yield from search.to_batches(BATCH_ROWS)

    def _merge(self, name: str, rows: pl.DataFrame, media_keys: Sequence[str]) -> int:
        fitting: dict[tuple[str, ...], Any] = {}

        def merge(table: Any) -> int:
            if table is None:  # two recipes in an empty store: `maintain` of another process dropped one of the tables
                raise TransientFailure(f"{self.uri}: another process dropped {name}; try again", hint="try again")
            merged = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merged = merged.when_not_matched_by_source_delete(_of_recordings(media_keys))
            columns = tuple(table.schema.names)
            if columns not in fitting:  # made once, however often the write is repeated
                fitting[columns] = schema.fitting(rows, table.schema)
            # A row of another model has no vector here; by default LanceDB rejects missing vectors.
            return int(merged.execute(fitting[columns], on_bad_vectors="null").version)

        return self._tables.retry_write(name, merge)

    def _first(self) -> str:
        """Return the table that is served if the pointer file names none, "" if it does not exist."""
        return schema.FIRST_TABLE if self._tables.newest(schema.FIRST_TABLE) is not None else ""

    def _roles(self) -> TableRoles:
        """Return the roles of the tables as stored now."""
        return self._roles_in(self._tables.pointer())

    def _roles_in(self, pointer: Mapping[str, str]) -> TableRoles:
        """Return the roles in the content of the pointer file."""
        return TableRoles.from_pointer(pointer, "" if pointer.get("table") else self._first())

    def _change_roles(self, change: Callable[[TableRoles], TableRoles]) -> TableRoles:
        """Store the roles changed by `change`, which may be called several times, and return the new ones."""

        def changed(pointer: dict[str, str]) -> dict[str, str]:
            roles = self._roles_in(pointer)
            new = change(roles)
            # Keys of a later version are kept: both may run during an upgrade.
            others = {name: value for name, value in pointer.items() if name not in KEYS}
            return pointer if new == roles else others | new.to_pointer()

        roles = self._roles_in(self._tables.change_pointer(changed))
        if roles.served != self._served[1]:
            self._served = (float("-inf"), "")
        return roles

    def _take_role(self, own_table: str) -> str:
        """Record `own_table` as served if no table is, else as under construction; return the served table.

        Called before the table is created and again afterwards: `maintain` drops tables without a role.
        """
        exists = self._tables.newest(own_table) is not None
        return self._change_roles(lambda roles: roles.with_own(own_table, exists=exists)).served

    def _write_to_served(self, served: str, rows: pl.DataFrame, media_keys: Sequence[str]) -> None:
        """Write new and changed recordings to the served table as well.

        Recordings that it holds unchanged are skipped: rows of another model would overwrite the vectors in use.
        """
        table = self._tables.newest(served)
        if table is None or not is_searchable(table):
            return
        columns = schema.stored_as(schema.CONTENT, table.schema)
        found = table.search().where(_of_recordings(media_keys)).select(columns).limit(None).to_polars()
        stored, new = schema.contents(schema.with_cards(found)), schema.contents(rows)
        changed = [key for key in media_keys if stored.get(key) != new.get(key)]
        if changed:
            foreign_rows = schema.foreign(rows, _dimension(table), self._model_of(served, table))
            self._merge(served, foreign_rows.filter(pl.col("media_key").is_in(changed)), changed)

    def _remove(self, media_keys: Sequence[str]) -> None:
        for name in self._tables.names(schema.FIRST_TABLE):
            self._tables.retry_write(name, lambda table: table is None or table.delete(_of_recordings(media_keys)))

    def _row_counts(self, media_keys: Sequence[str]) -> dict[tuple[str, str], int]:
        snapshot = self.snapshot()
        if snapshot is None or not media_keys:
            return {}
        found = (
            snapshot.table.search()
            .where(_of_recordings(media_keys))
            .select(["media_key", "media_etag"])
            .limit(None)
            .to_polars()
        )
        return {(key, etag): count for key, etag, count in found.group_by("media_key", "media_etag").len().iter_rows()}

    def _snapshot_of(self, name: str, version: int) -> Snapshot:
        """Return a snapshot of the table at this version."""
        table = self._tables.newest(name)
        table.checkout(version)
        if not is_searchable(table):
            hint = "run `transcription-assets index rebuild` (nothing is transcribed again)"
            raise PermanentFailure(f"search table {name} has the columns of an earlier version; {hint}", hint=hint)
        return Snapshot(
            table=table,
            async_table=self._tables.open_async(name, version),
            version=version,
            passages=int(table.count_rows()),
            embedding_model=self._model_of(name, table),
            dimension=_dimension(table),
            has_kinds="kind" in table.schema.names,
            has_int8_near=schema.has_int8_near(table.schema),
            is_packed=schema.PACKED in table.schema.names,
        )

    def _served_name(self) -> str:
        """Return the served table, "" if there is none, cached for POINTER_S seconds: recent enough for readers."""
        read_at, name = self._served
        if name and time.monotonic() - read_at < POINTER_S:
            return name
        return self._served_now()

    def _served_now(self) -> str:
        """Return the served table as stored now, "" if there is none."""
        name = self._roles().served
        self._served = (time.monotonic(), name)
        return name

    def _drop_old(self, names: Sequence[str]) -> None:
        """Drop the tables that are not served, under construction, or the one served before."""
        roles = TableRoles.from_pointer(self._tables.pointer(), "")
        if roles.served not in names:
            return  # the pointer file or the table was lost: nothing is known of the others, and all are kept
        for name in names:
            if name.startswith(schema.FIRST_TABLE) and name not in roles.in_use:
                self._tables.drop(name)
                self._files.delete_vocabulary(name)

    def _missing(self, table: str, served: str) -> set[tuple[str, str]]:
        """Return the (media key, ETag) pairs that the served table has and this one lacks."""
        if not served or served == table:
            return set()
        return self._recordings(served) - self._recordings(table)

    def _recordings(self, name: str) -> set[tuple[str, str]]:
        table = self._tables.newest(name) if name else None
        if table is None:
            return set()
        found = table.search().select(["media_key", "media_etag"]).limit(None).to_polars()
        return set(found.unique().iter_rows())

    def _model_of(self, name: str, table: Any) -> str:
        """Return the model of the table's vectors (cached: it never changes), "" if no row has one."""
        if not self._models.get(name):
            first = table.search().where("embedding_model IS NOT NULL").select(["embedding_model"]).limit(1).to_list()
            self._models[name] = first[0]["embedding_model"] if first else ""
        return self._models[name]

    def _state(self, building: str) -> IndexState:
        served = self._served_now()
        table = self._tables.newest(served) if served else None
        if table is None:
            return IndexState(rows=0, recordings=0, fragments=0, version=0, vector_index=False)
        return IndexState(
            rows=int(table.count_rows()),
            recordings=len(self._recordings(served)),
            fragments=int(table.stats()["fragment_stats"]["num_fragments"]),
            version=int(table.version),
            vector_index=any("vector" in item.columns for item in table.list_indices()),
            table=served,
            building=building,
        )

    def _version(self, name: str, role: str, served: str) -> VersionState:
        table = self._tables.newest(name)
        recipes = []
        if is_searchable(table):
            recipes = table.search().where("recipe IS NOT NULL").select(["recipe"]).limit(1).to_list()
        return VersionState(
            table=name,
            role=role,
            embedding_model=self._model_of(name, table),
            recipe=recipes[0]["recipe"] if recipes else "",
            rows=int(table.count_rows()),
            recordings=len(self._recordings(name)),
            missing=len(self._missing(name, served)),
            indexes=tuple(sorted(column for item in table.list_indices() for column in item.columns)),
        )


def _frame(batch: Any, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return a batch of rows as a frame with these columns and types."""
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 -- for the type checker: a batch gives a frame
    if "kind" in types and "kind" not in frame.columns:
        frame = frame.with_columns(kind=pl.lit("speech"))  # a table of an earlier version
    return frame.select(pl.col(name).cast(kind) for name, kind in types.items())


def _dimension(table: Any) -> int:
    """Return the dimension of the table's vectors."""
    return int(table.schema.field("vector").type.list_size)


def _of_recordings(media_keys: Sequence[str]) -> str:
    return f"media_key IN ({', '.join(map(quoted, media_keys))})"
