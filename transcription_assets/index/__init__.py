"""The searchable sink: LanceDB tables of passages, all of which can be rebuilt from the transcripts.

Rows of one recipe (model, passages, columns) are in one table, so vectors of two models never meet. One table is
served; a new recipe fills another beside it, and `maintain` switches once that one holds every recording. Until then
what is new or replaced is put into the served table, too: by its words it is found at once, by its meaning if the model
is the same. The table before is kept for a way back, older ones are dropped.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from transcription_assets.failures import PermanentFailure
from transcription_assets.index import cards, finding
from transcription_assets.index.errors import FilesGone, explained, translated
from transcription_assets.index.facets import Facets, facets
from transcription_assets.index.finding import Looked
from transcription_assets.index.schema import FIRST_TABLE, TOLD, foreign, keyed, schema, table_name
from transcription_assets.index.states import IndexState, VersionState
from transcription_assets.index.tables import Tables, awaited, has_cards
from transcription_assets.query import Filters, Sought
from transcription_assets.ranking import Candidate, Vector

__all__ = ["Facets", "FilesGone", "Index", "IndexState", "Looked", "VersionState", "schema", "table_name"]

BATCH_ROWS = 4096
NAMED = 3
"""Recordings that a message names."""
POINTER_S = 1.0
"""A reader looks so many seconds after the last time which table is served."""


class Index:
    """The tables at a LanceDB URI (a folder or `s3://…`); every method sees the newest version."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self._tables = Tables(uri, dict(storage_options or {}))
        self._served: tuple[float, str] = (float("-inf"), "")
        self._models: dict[str, str] = {}
        self._looked: dict[str, Looked] = {}

    @explained
    def replace(self, rows: pl.DataFrame, media_keys: Sequence[str]) -> int:
        """Make `rows` the only rows of `media_keys`, in one version of a table, which is returned: nobody reads a half.

        Raises PermanentFailure where rows of several recipes are given, TransientFailure where others kept writing at
        the same time.
        """
        recipes = rows["recipe"].unique().to_list()
        if len(recipes) > 1:
            raise PermanentFailure(f"rows of {len(recipes)} recipes at once: vectors of two models do not mix")
        if not recipes:
            self._remove(media_keys)
            return 0
        own = table_name(recipes[0])
        self._named(own)
        if self._tables.newest(own) is None:
            self._tables.make(own, keyed(rows.clear()).schema)
        version = self._merged(own, rows, media_keys)
        # Asked again: whoever switched meanwhile did not see these rows.
        served = self._named(own)
        if served != own:
            self._beside(served, rows, media_keys)
        return version

    @explained
    def holds(self, rows: pl.DataFrame, media_key: str) -> bool:
        """Whether exactly these rows of the recording can be found; while another table is built beside, never."""
        served = self._served_now()
        table = self._tables.newest(served) if served else None
        if table is None or {table_name(recipe) for recipe in rows["recipe"].unique()} - {served}:
            return False
        if not rows.height:
            return not table.count_rows(_of([media_key]))
        found = table.search().where(_of([media_key])).select(list(TOLD)).limit(None).to_polars()
        return bool(found.sort("id").equals(rows.select(TOLD).sort("id")))

    @explained
    def remove(self, media_keys: Sequence[str]) -> None:
        """Take all rows of `media_keys` out."""
        self._remove(media_keys)

    @explained
    def look(self) -> Looked | None:
        """The served table as it is now, or None where nothing was ever indexed.

        It stays as it is, so that several looks for one answer agree, whatever is written meanwhile.
        """
        served = self._served_name()
        table = self._tables.held(served) if served else None
        if table is None:
            return None
        looked, version = self._looked.get(served), int(table.version)
        if looked is None or looked.version != version:
            looked = self._looked[served] = self._pinned(served, version)
        return looked

    def forget(self) -> None:
        """Open everything anew at the next look: the tables may have been deleted and made again."""
        self._looked.clear()
        self._tables.forget()

    @explained
    def near(self, looked: Looked, vector: Vector, filters: Filters, most: int) -> Sequence[int]:
        """Rows among which are those nearest by meaning; `vector` is of the table's model, unit length."""
        if len(vector) != looked.dimension:
            raise ValueError(f"it holds vectors of {looked.dimension} numbers, the question's has {len(vector)}")
        return awaited(finding.by_meaning(looked, vector, filters, most))

    @explained
    def holding(self, looked: Looked, wanted: Sought, filters: Filters, most: int) -> Mapping[int, float]:
        """BM25 of the rows with the words."""
        return awaited(finding.by_words(looked, wanted, filters, most))

    @explained
    def like(self, looked: Looked, words: Sequence[str], filters: Filters, most: int) -> Mapping[int, float]:
        """BM25 of the rows with something that is spelt like one of the words."""
        return awaited(finding.by_likeness(looked, words, filters, most))

    @explained
    def is_said(self, looked: Looked, word: str, filters: Filters) -> bool:
        """Whether the word stands in any passage."""
        return awaited(finding.is_said(looked, word, filters))

    @explained
    def read(self, looked: Looked, rows: Sequence[int]) -> Mapping[int, Candidate]:
        """What these rows hold."""
        return awaited(finding.read(looked, rows))

    @explained
    def facets(self) -> Facets:
        """What the served table can be filtered by."""
        looked = self.look()
        if looked is None:
            return Facets(0, {}, {}, {}, None, None)
        search = looked.table.search().select(["media_key", "language", "speakers", "recorded"])
        rows = pl.from_arrow(search.limit(looked.passages or 1).to_arrow())
        assert isinstance(rows, pl.DataFrame)  # noqa: S101 -- for the type checker: a table gives a frame
        return facets(rows)

    @explained
    def recordings(self) -> set[str]:
        """The keys of the recordings that are in the served table."""
        return {key for key, _ in self._recordings(self._served_now())}

    @explained
    def rows(self, media_key: str) -> int:
        """How many passages of a recording can be found."""
        return sum(count for (key, _), count in self._held([media_key]).items() if key == media_key)

    @explained
    def held(self, media_keys: Sequence[str]) -> dict[tuple[str, str], int]:
        """How many passages of each (media key, etag) can be found; those without any are left out."""
        return self._held(media_keys)

    @explained
    def count(self) -> int:
        """How many passages can be found in all."""
        looked = self.look()
        return 0 if looked is None else looked.passages

    @explained
    def dimension(self) -> int:
        """Numbers in a vector of the served table; 0 where nothing was ever indexed."""
        looked = self.look()
        return looked.dimension if looked else 0

    def passage_schema(self, columns: Sequence[str]) -> dict[str, pl.DataType]:
        """The types of these columns."""
        types = schema(self.dimension() or 1)
        return {name: types[name] for name in columns}

    def passages(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """All served rows with these columns, some thousand at a time."""
        looked = self.look()
        if looked is None:
            return
        types = self.passage_schema(columns)
        for batch in self._batches(looked, columns):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)  # noqa: S101 -- for the type checker: a batch gives a frame
            yield frame.select(pl.col(name).cast(types[name]) for name in columns)

    @explained
    def maintain(self) -> IndexState:
        """Keep every table in good order, and switch to the one that is built beside once it is complete."""
        names = self._tables.names()
        for name in names:
            self._tables.cared_for(name)
        pointer = self._tables.pointer()
        building, served = pointer.get("building", ""), self._served_now()
        if building in names and not self._missing(building, served):
            self._switched(building, instead_of=served)
            building = ""
        self._dropped_old(names)
        return self._state(building if building in names else "")

    @explained
    def status(self) -> list[VersionState]:
        """Every table, the served one first."""
        pointer, served = self._tables.pointer(), self._served_now()
        roles = {pointer.get("building", ""): "building", pointer.get("before", ""): "before", served: "served"}
        states = [self._version(name, roles.get(name, "unused"), served) for name in self._tables.names()]
        return sorted(states, key=lambda state: (state.role != "served", state.table))

    @explained
    def switch(self, table: str, *, even_incomplete: bool = False) -> None:
        """Serve another table from now on; PermanentFailure where it is not there or lacks recordings."""
        if table not in self._tables.names():
            there = ", ".join(self._tables.names())
            raise PermanentFailure(
                f"there is no table {table}: " + (f"take one of {there}" if there else "nothing is indexed yet")
            )
        missing = sorted(key for key, _ in self._missing(table, self._served_now()))
        if missing and not even_incomplete:
            some = ", ".join(missing[:NAMED]) + (" …" if missing[NAMED:] else "")
            raise PermanentFailure(
                f"{table} lacks {len(missing)} recordings of the served table ({some}): run "
                "`transcription-assets index rebuild`, or switch with --incomplete, and they are not found any more"
            )
        self._switched(table)

    def _batches(self, looked: Looked, columns: Sequence[str]) -> Iterator[Any]:
        with translated(self.uri):
            search = looked.table.search().select(list(columns)).limit(looked.passages or 1)
            yield from search.to_batches(BATCH_ROWS)

    def _merged(self, name: str, rows: pl.DataFrame, media_keys: Sequence[str]) -> int:
        def merge(table: Any) -> int:
            merged = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merged = merged.when_not_matched_by_source_delete(_of(media_keys))
            fitting = keyed(rows.select(table.schema.names)).cast(table.schema.remove_metadata())
            # A row of another model has no vector here; LanceDB takes that for a bad one unless it is told.
            return int(merged.execute(fitting, on_bad_vectors="null").version)

        return self._tables.written(name, merge)

    def _named(self, own: str) -> str:
        """The served table, which is `own` where there was none; else `own` is the one that is being built.

        Before it is made and after: what nobody names is dropped.
        """
        first = FIRST_TABLE if self._tables.newest(FIRST_TABLE) is not None else ""
        is_there = self._tables.newest(own) is not None

        def named(said: dict[str, str]) -> dict[str, str]:
            served = said.get("table") or first
            if not served:
                return {"table": own} if is_there else said
            return said if own in {served, said.get("building")} else {**said, "table": served, "building": own}

        return self._tables.point(named).get("table", "") or first

    def _beside(self, served: str, rows: pl.DataFrame, media_keys: Sequence[str]) -> None:
        """Put what is new or changed into the served table, too.

        What it holds already stays: rows of another model would take the vectors out that it is searched by.
        """
        table = self._tables.newest(served)
        if table is None or not has_cards(table):
            return
        found = table.search().where(_of(media_keys)).select(list(cards.CONTENT)).limit(None).to_polars()
        held, made = cards.contents(found), cards.contents(rows)
        changed = [key for key in media_keys if held.get(key) != made.get(key)]
        if changed:
            guests = foreign(rows, _dimension(table), self._model_of(served, table))
            self._merged(served, guests.filter(pl.col("media_key").is_in(changed)), changed)

    def _remove(self, media_keys: Sequence[str]) -> None:
        for name in self._tables.names():
            self._tables.written(name, lambda table: table.delete(_of(media_keys)))

    def _held(self, media_keys: Sequence[str]) -> dict[tuple[str, str], int]:
        looked = self.look()
        if looked is None or not media_keys:
            return {}
        found = looked.table.search().where(_of(media_keys)).select(["media_key", "media_etag"]).limit(None).to_polars()
        return {(key, etag): count for key, etag, count in found.group_by("media_key", "media_etag").len().iter_rows()}

    def _pinned(self, name: str, version: int) -> Looked:
        """A table of its own that stays at this version."""
        table = self._tables.newest(name)
        table.checkout(version)
        if not has_cards(table):
            raise PermanentFailure(
                f"the search table {name} was made by an earlier version of this program and cannot be searched: "
                "run `transcription-assets index rebuild`; nothing is transcribed again"
            )
        return Looked(
            table=table,
            reading=self._tables.reading(name, version),
            version=version,
            passages=int(table.count_rows()),
            embedding_model=self._model_of(name, table),
            dimension=_dimension(table),
        )

    def _served_name(self) -> str:
        """The served table, "" where there is none; asked again after POINTER_S, which is enough for readers."""
        asked, name = self._served
        if name and time.monotonic() - asked < POINTER_S:
            return name
        return self._served_now()

    def _served_now(self) -> str:
        """The served table, "" where there is none."""
        name = self._tables.pointer().get("table", "")
        if not name and self._tables.newest(FIRST_TABLE) is not None:
            name = FIRST_TABLE
        self._served = (time.monotonic(), name)
        return name

    def _switched(self, table: str, *, instead_of: str | None = None) -> None:
        """Serve this table; where `instead_of` is given, only if that one is still served."""

        def switched(said: dict[str, str]) -> dict[str, str]:
            served = said.get("table") or first
            if served == table or instead_of not in {None, served}:
                return said
            others = {"building": building} if (building := said.get("building", table)) != table else {}
            return {"table": table, "before": served, **others}

        first = FIRST_TABLE if self._tables.newest(FIRST_TABLE) is not None else ""
        self._tables.point(switched)
        self._served = (float("-inf"), "")

    def _dropped_old(self, names: Sequence[str]) -> None:
        """Drop what is neither served, nor built, nor the way back."""
        pointer = self._tables.pointer()
        kept = {pointer.get(role, "") for role in ("table", "building", "before")}
        for name in names:
            if name.startswith(FIRST_TABLE) and name not in kept and pointer:
                self._tables.drop(name)

    def _missing(self, table: str, served: str) -> set[tuple[str, str]]:
        """The (media key, etag) that the served table has and this one lacks."""
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
        """The model of the vectors; a table never changes it."""
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
        own = []
        if has_cards(table):
            own = table.search().where("recipe IS NOT NULL").select(["recipe"]).limit(1).to_list()
        return VersionState(
            table=name,
            role=role,
            embedding_model=self._model_of(name, table),
            recipe=own[0]["recipe"] if own else "",
            rows=int(table.count_rows()),
            recordings=len(self._recordings(name)),
            missing=len(self._missing(name, served)),
            indexes=tuple(sorted(column for item in table.list_indices() for column in item.columns)),
        )


def _dimension(table: Any) -> int:
    """Numbers in a vector."""
    return int(table.schema.field("vector").type.list_size)


def _of(media_keys: Sequence[str]) -> str:
    return f"media_key IN ({', '.join(map(finding.quoted, media_keys))})"
