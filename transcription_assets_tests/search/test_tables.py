"""Search while tables change: new rows, another model, tables of earlier releases, encoded passages and indexes."""

import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.domain.passages import Sentence
from transcription_assets.embedding import Vectors
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.search import index, schema, tables
from transcription_assets.search.filters import Filters
from transcription_assets.search.index import Index
from transcription_assets.search.query import Answer, Mode, Query, parse_query
from transcription_assets.search.schema import table_name
from transcription_assets.search.searcher import Searcher
from transcription_assets.storage import temporary
from transcription_assets_tests.search.talks import BREAD, CHESS, SAID, SEA, ThemeEncoder, ask, fill, keys, rows, spoken


def test_new_rows_are_found_before_they_are_indexed(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert searcher.search(Query("anything")) == Answer((), more=False, passages=0, mode=Mode.HYBRID)
    fill(table, SEA)
    table.maintain()
    fill(table, BREAD, CHESS)
    for text, mode in (("draw", Mode.TEXT), ('"nine hours"', Mode.TEXT), ("chess", Mode.VECTOR)):
        assert ask(searcher, text, mode).hits[0].media_key == CHESS.media.key, text


LONG_WORDS = (
    "достопримечательности",
    "დამოუკიდებლობის",
    "ηλεκτροεγκεφαλογράφημα",
    "անհամատեղելիություններ",
    "Rindfleischetikettierungsüberwachungsaufgabenübertragung",
)


@pytest.mark.parametrize("is_old", [False, True])
def test_long_words_of_every_script_are_found(tmp_path: Path, *, is_old: bool) -> None:
    import lancedb
    from lancedb.index import FTS

    table = Index(str(tmp_path))
    fill(table, *(spoken(f"audio/{number}.mp3", f"{word} 17.") for number, word in enumerate(LONG_WORDS)))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    if is_old:
        name = table.maintain().table
        short = FTS(with_position=True, base_tokenizer="icu/split", stem=False, remove_stop_words=False)
        lancedb.connect(str(tmp_path)).open_table(name).create_index("text", config=short)
        assert not any(ask(searcher, word, Mode.TEXT).hits for word in LONG_WORDS)
        table.maintain()
    for number, word in enumerate(LONG_WORDS):
        for question in (word, f'"{word} 17"'):
            assert keys(ask(searcher, question, Mode.TEXT)) == {f"audio/{number}.mp3"}, question


def test_temporary_files_of_first_write_have_the_common_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    left, put = list[str](), tables.Tables.put_new

    def put_new(self: tables.Tables, path: str, content: bytes) -> bool:
        left.extend(item.name for item in (tmp_path / "tmp").iterdir())
        return put(self, path, content)

    monkeypatch.setattr(tables.Tables, "put_new", put_new)
    fill(Index(str(tmp_path / "tables")), SEA)
    assert left
    assert all(name.startswith(temporary.PREFIX) for name in left)


def test_hits_are_read_from_the_version_that_was_searched(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, BREAD, SEA)
    pinned = table.snapshot()
    assert pinned
    found = table.search_words(pinned, parse_query("mast"), Filters(), 10)
    # Rows move: the row ids found before would now point to another recording's words.
    table.remove([BREAD.media.key])
    fill(table, CHESS)
    table.maintain()
    assert {item.title for item in table.read(pinned, list(found)).values()} == {SEA.filename}
    assert ask(Searcher(table, lambda _model: ThemeEncoder()), "draw", Mode.TEXT).hits[0].recording == CHESS.filename


def test_search_works_after_tables_are_deleted_and_recreated(tmp_path: Path) -> None:
    table = Index(str(tmp_path / "tables"))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    fill(table, SEA)
    assert keys(ask(searcher, "mast", Mode.TEXT)) == {SEA.media.key}
    shutil.rmtree(tmp_path / "tables")
    fill(Index(str(tmp_path / "tables")), CHESS)
    assert keys(ask(searcher, "draw", Mode.TEXT)) == {CHESS.media.key}


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.VECTOR])
def test_failed_query_encoding_falls_back_to_text_search(tmp_path: Path, mode: Mode) -> None:
    class AwayEncoder(ThemeEncoder):
        def encode_query(self, text: str) -> Vectors:
            raise TransientFailure(f"no vector for {text}")

    table = Index(str(tmp_path))
    fill(table, *SAID)
    answer = ask(Searcher(table, lambda _model: AwayEncoder()), "mast", mode)
    assert answer.mode == Mode.TEXT
    assert "no vector for mast" in answer.note
    assert keys(answer) == {SEA.media.key}


def test_table_of_new_model_is_served_once_complete(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new", width=300)
    encoders = {str(item.model): item for item in (old, new)}
    searcher = Searcher(table, encoders.__getitem__)
    fill(table, SEA, BREAD, encoder=old)
    table.maintain()

    fill(table, CHESS, encoder=new)
    # New recordings are found by words at once, existing ones by words and by meaning.
    assert ask(searcher, "draw").hits[0].media_key == CHESS.media.key
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].media_key == SEA.media.key
    state = table.maintain()
    assert (state.recordings, state.building) == (3, table_name(rows(SEA, new)["recipe"][0]))
    with pytest.raises(PermanentFailure, match=r"\b2 recordings"):
        table.switch(state.building)

    fill(table, SEA, encoder=new)
    # The new table is incomplete: the served one is still searched by meaning, also after switching back below.
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].media_key == SEA.media.key
    fill(table, BREAD, encoder=new)
    after = table.maintain()
    assert (after.table, after.building, after.recordings) == (state.building, "", 3)
    assert ask(searcher, "chess", Mode.VECTOR).hits[0].media_key == CHESS.media.key
    roles = {item.role: item.table for item in table.status()}
    assert roles == {"served": state.building, "before": state.table}
    table.switch(state.table)
    assert Index(str(tmp_path)).maintain().table == state.table
    hit = ask(searcher, "sea", Mode.VECTOR).hits[0]
    assert (hit.media_key, hit.weak) == (SEA.media.key, False)


def test_manual_switch_is_kept_until_the_refused_table_is_rebuilt(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    fill(table, SEA, encoder=old)
    fill(table, SEA, encoder=new)
    before, after = (table_name(rows(SEA, encoder)["recipe"][0]) for encoder in (old, new))
    assert table.maintain().table == after
    table.switch(before)
    fill(table, BREAD, encoder=new)  # a writer with the settings of the new table
    state = table.maintain()
    assert (state.table, state.building) == (before, "")
    assert {item.table: item.refused for item in table.status()} == {before: False, after: True}
    assert keys(ask(Searcher(table, lambda _model: old), "Brot", Mode.TEXT)) == {BREAD.media.key}
    table.accept(before)
    assert table.maintain().table == before
    table.accept(after)
    assert table.maintain().table == after


def test_manual_switch_does_not_keep_a_later_table_from_being_served(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    encoders = [ThemeEncoder(name) for name in ("first", "second", "third")]
    first, second, third = (table_name(rows(SEA, encoder)["recipe"][0]) for encoder in encoders)
    for encoder in encoders[:2]:
        fill(table, SEA, encoder=encoder)
    assert table.maintain().table == second
    table.switch(first)
    fill(table, SEA, encoder=encoders[2])
    assert table.maintain().table == third
    table.switch(first)
    table.switch(third)
    assert [item.table for item in table.status() if item.refused] == [first]


def test_changed_recording_is_found_while_a_new_table_is_built(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    fill(table, SEA, BREAD, encoder=old)
    again = replace(SEA, segments=CHESS.segments)
    fill(table, again, encoder=new)
    searcher = Searcher(table, {str(item.model): item for item in (old, new)}.__getitem__)
    assert keys(ask(searcher, "draw", Mode.TEXT)) == {SEA.media.key}
    assert keys(ask(searcher, "mast", Mode.TEXT)) == set()


def test_recording_without_words_is_removed_from_the_table(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, SEA, BREAD)
    table.replace(rows(SEA).clear(), [SEA.media.key])
    assert table.row_counts([SEA.media.key, BREAD.media.key]) == {(BREAD.media.key, "1"): table.count()}


@pytest.mark.parametrize("name", ["passages", table_name("columns 2")])
def test_outdated_table_asks_for_rebuild_and_is_then_replaced(tmp_path: Path, name: str) -> None:
    import lancedb

    old = rows(SEA).drop("card", "near", "title", "speakers", "recorded", "duration_s", "recipe").to_arrow()
    lancedb.connect(str(tmp_path)).create_table(name, old)
    table = Index(str(tmp_path))
    if name != "passages":
        table.switch(name)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    with pytest.raises(PermanentFailure) as caught:
        ask(searcher, "mast")
    assert "index rebuild" in caught.value.hint
    # The new table holds one of several recordings: it is not served, or the others could not be found.
    fill(table, CHESS)
    assert table.maintain().table == name
    with pytest.raises(PermanentFailure) as caught:
        ask(searcher, "draw")
    assert "index rebuild" in caught.value.hint
    assert {state.table: state.role for state in table.status()}[name] == "served"
    fill(table, SEA)
    assert table.maintain().table == table_name(rows(SEA)["recipe"][0])
    assert keys(ask(searcher, "Bergen")) == {SEA.media.key, CHESS.media.key}


def test_existing_writer_does_not_undo_a_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "POINTER_S", 60.0)
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    writer = Index(str(tmp_path))
    fill(writer, SEA, encoder=old)
    fill(writer, SEA, encoder=new)
    served = Index(str(tmp_path)).maintain().table
    fill(writer, CHESS, encoder=new)
    state = Index(str(tmp_path)).maintain()
    assert (state.table, state.building, state.recordings) == (served, "", 2)
    assert served == table_name(rows(SEA, new)["recipe"][0])


def test_maintenance_keeps_a_table_that_is_being_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    table = Index(str(tmp_path))
    fill(table, SEA, BREAD, encoder=old)
    create = tables.Tables.create

    def create_then_maintain(self: tables.Tables, name: str, schema: pa.Schema) -> None:
        create(self, name, schema)
        Index(str(tmp_path)).maintain()

    monkeypatch.setattr(tables.Tables, "create", create_then_maintain)
    fill(table, CHESS, encoder=new)
    roles = {state.role: state.recordings for state in Index(str(tmp_path)).status()}
    assert roles == {"served": 3, "building": 1}


def test_table_dropped_during_maintenance_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, third = ThemeEncoder("old"), ThemeEncoder("new"), ThemeEncoder("third")
    for encoder in (old, new):
        fill(Index(str(tmp_path)), SEA, BREAD, encoder=encoder)
    missing = Index._missing  # noqa: SLF001 -- the slow part, during which others go on

    def interrupted(self: Index, table: str, served: str) -> set[tuple[str, str]]:
        monkeypatch.setattr(Index, "_missing", missing)
        found = missing(self, table, served)
        fill(Index(str(tmp_path)), CHESS, encoder=third)
        Index(str(tmp_path)).maintain()
        return found

    monkeypatch.setattr(Index, "_missing", interrupted)
    Index(str(tmp_path)).maintain()
    assert Index(str(tmp_path)).recordings() == {SEA.media.key, BREAD.media.key, CHESS.media.key}
    assert {state.role for state in Index(str(tmp_path)).status()} == {"served", "building"}


def test_rows_for_a_table_that_was_dropped_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(str(tmp_path))
    monkeypatch.setattr(tables.Tables, "create", lambda *_: None)  # others dropped the table once it was created
    with pytest.raises(TransientFailure):
        fill(index, SEA)


def test_table_that_others_drop_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(str(tmp_path))
    fill(index, SEA)
    found = tables.Tables(str(tmp_path), {})
    (name,) = found.names(schema.FIRST_TABLE)
    opened = iter([found.newest(name)])  # dropped once it was opened
    monkeypatch.setattr(tables.Tables, "newest", lambda *_: next(opened, None))
    found.maintain(name)
    index.remove([SEA.media.key])
    monkeypatch.undo()
    assert index.recordings() == {SEA.media.key}


def test_search_falls_back_to_text_until_vectors_exist(tmp_path: Path) -> None:
    old, new = ThemeEncoder("old"), ThemeEncoder("new", width=300)
    fill(Index(str(tmp_path)), SEA, encoder=old)
    fill(Index(str(tmp_path)), replace(SEA, segments=CHESS.segments), encoder=new)
    answer = ask(Searcher(Index(str(tmp_path)), lambda _model: new), "draw")
    assert keys(answer) == {SEA.media.key}
    assert answer.note


def test_recording_that_lost_its_words_leaves_others_unchanged(tmp_path: Path) -> None:
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    table = Index(str(tmp_path))
    fill(table, SEA, BREAD, encoder=old)
    table.replace(rows(SEA, new), [SEA.media.key, BREAD.media.key])
    assert set(table.row_counts([SEA.media.key, BREAD.media.key])) == {(SEA.media.key, "1")}
    searcher = Searcher(table, lambda _model: old)
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].media_key == SEA.media.key


def test_deleted_served_table_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, SEA, encoder=ThemeEncoder("old"))
    shutil.rmtree(tmp_path / f"{table.maintain().table}.lance")
    again = Index(str(tmp_path))
    fill(again, CHESS, encoder=ThemeEncoder("new"))
    assert again.maintain().recordings == 1
    assert keys(ask(Searcher(again, lambda _model: ThemeEncoder("new")), "draw")) == {CHESS.media.key}


def test_status_shows_the_own_recipe_of_each_table(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    fill(table, SEA, encoder=old)
    fill(table, replace(SEA, segments=CHESS.segments), encoder=new)
    fill(table, BREAD, encoder=old)
    assert all(table_name(state.recipe) == state.table for state in table.status())


@given(
    said=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4),
    recorded=st.none() | st.dates(),
    seconds=st.floats(0, 40),
)
def test_encoded_card_round_trips(said: list[str], recorded: date | None, seconds: float) -> None:
    spoken_ = [
        Sentence(number * seconds, (number + 1) * seconds, text, text[:1], ((0, 1.25),))
        for number, text in enumerate(said)
    ]
    written = schema.encode_card(
        "video/ä.mp4", title="Ä\n", language="de", recorded=recorded, duration_s=12.5, sentences=spoken_
    )
    near = schema.decode_vectors(schema.encode_vectors(np.ones((len(said), 4), np.float32)), 4)
    found = schema.candidate(7, written, np.ones(4, np.float32), near)
    assert (found.media_key, found.title, found.recorded, found.duration_s) == ("video/ä.mp4", "Ä\n", recorded, 12.5)
    assert [(one.start, one.end, one.text, one.speaker) for one in found.sentences] == [
        (one.start, one.end, one.text, one.speaker) for one in spoken_
    ]
    assert [bool(one.words) for one in found.sentences] == [schema.is_long(one) for one in spoken_]
    assert found.vector is not None
    assert found.sentence_vectors is not None
    assert (found.vector.shape, found.sentence_vectors.shape) == ((4,), (len(said), 4))
    assert schema.candidate(7, written, None, None).vector is None


def test_search_continues_during_writes_and_maintenance(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, *SAID)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    stop, wrong = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if keys(ask(searcher, "mast", Mode.TEXT)) != {SEA.media.key}:
                wrong.append("a search missed the hit")

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(5):
            fill(table, SEA, BREAD)
            table.maintain()
    finally:
        stop.set()
        for thread in looking:
            thread.join()
    assert wrong == []


def test_large_table_gets_indexes_and_finds_the_same_hits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "VECTOR_INDEX_ROWS", 300)
    generator = np.random.default_rng(0)
    many = pl.concat([rows(SEA)] * 100)
    vectors = generator.normal(size=(many.height, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    many = many.with_columns(
        pl.Series("id", [f"n{number}" for number in range(many.height)]),
        pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, 256)),
    )
    table = Index(str(tmp_path))
    table.replace(pl.concat([many, rows(CHESS)]), [SEA.media.key, CHESS.media.key])
    assert table.maintain().vector_index
    (state,) = table.status()
    assert {"text", "vector", "media_key", "language", "recorded", "duration_s", "speakers", "kind"} <= set(
        state.indexes
    )
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "nine hours").hits[0].media_key == CHESS.media.key
    assert keys(ask(searcher, "sea", prefix="video/talks/it")) == {CHESS.media.key}


def test_recording_can_be_filtered_by_each_of_its_languages(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    said = [replace(item, language="en" if item.id < 3 else "no") for item in SEA.segments]
    fill(table, replace(SEA, segments=tuple(said)))
    assert table.facets().languages == {"en": 1, "no": 1}
    assert keys(ask(Searcher(table, lambda _model: ThemeEncoder()), "Bergen", languages=("no",))) == {SEA.media.key}


@given(
    vectors=st.integers(1, 6).flatmap(
        lambda count: st.lists(
            st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8), min_size=count + 1, max_size=count + 1
        )
    )
)
def test_encoded_vectors_keep_their_cosines(vectors: list[list[float]]) -> None:
    exact = np.array(vectors, np.float32)
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-6)
    read = schema.decode_vectors(schema.encode_vectors(exact), 8)
    assert read.dtype == np.float32
    assert read.shape == exact.shape
    assert np.abs(read - exact).max() <= 0.5 / 127 + 1e-6
    assert np.abs(read @ read.T - exact @ exact.T).max() < 0.03


@pytest.mark.parametrize("columns", ["columns 3", "columns 5", "columns 6"])
def test_table_of_earlier_vectors_is_searched_until_rebuilt(tmp_path: Path, columns: str) -> None:
    import lancedb

    name, old = table_name(columns), rows(SEA)
    if columns != "columns 6":
        both = old.select("vector", "near").iter_rows()
        near = [_earlier_near(*each, halves=columns == "columns 3") for each in both]
        old = old.with_columns(pl.Series("near", near))
    arrow = old.with_columns(recipe=pl.lit(columns)).to_arrow()
    if columns != "columns 3":
        arrow = schema.keyed(pl.DataFrame(arrow))
    else:
        arrow = arrow.cast(pa.schema([field.with_type(_plain(field.type)) for field in arrow.schema]))
    lancedb.connect(str(tmp_path)).create_table(name, arrow)
    table = Index(str(tmp_path))
    table.switch(name)
    table.maintain()
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].start == 0.0
    # A recording that is indexed meanwhile is found there too, by words and by meaning.
    fill(table, CHESS)
    assert table.maintain().table == name
    assert ask(searcher, "draw", Mode.TEXT).hits[0].media_key == CHESS.media.key
    assert ask(searcher, "chess", Mode.VECTOR).hits[0].media_key == CHESS.media.key
    fill(table, SEA)
    assert table.maintain().table == table_name(rows(SEA)["recipe"][0])
    assert ask(searcher, "chess", Mode.VECTOR).hits[0].media_key == CHESS.media.key


def _earlier_near(vector: Sequence[float], near: bytes, *, halves: bool) -> bytes:
    """Return `near` of earlier columns, which begins with the vector of the passage: float16, later in 8 bits."""
    both = np.vstack([vector, schema.decode_vectors(near, len(vector))])
    return both.astype(np.float16).tobytes() if halves else schema.encode_vectors(both)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type in the tables of the release before, for the types that Polars makes."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.float32(), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.list_(pa.string())
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)
