"""What is found while tables change: new rows, another model, releases of before, cards and indexes."""

import shutil
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

from transcription_assets.failures import PermanentFailure
from transcription_assets.index import Index, cards, table_name, tables
from transcription_assets.passages import Sentence
from transcription_assets.query import Answer, Filters, Mode, Query, sought
from transcription_assets.steps.search import Searcher
from transcription_assets.transcript import Transcript
from transcription_assets_tests.search.talks import BREAD, CHESS, SAID, SEA, ThemeEncoder, ask, fill, keys, rows


def test_new_rows_are_found_at_once_by_word_phrase_and_meaning_before_any_index_has_them(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert searcher.search(Query("anything")) == Answer((), more=False, passages=0, mode=Mode.HYBRID)
    fill(table, SEA)
    table.maintain()
    fill(table, BREAD, CHESS)
    for text, mode in (("draw", Mode.TEXT), ('"nine hours"', Mode.TEXT), ("chess", Mode.VECTOR)):
        assert ask(searcher, text, mode).hits[0].media_key == CHESS.media.key, text


def test_what_was_found_is_shown_as_it_was_though_the_table_is_rewritten_meanwhile(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, BREAD, SEA)
    looked = table.look()
    assert looked
    found = table.holding(looked, sought("mast"), Filters(), 10)
    # Rows move to other places: row ids of before would now show somebody else's words.
    table.remove([BREAD.media.key])
    fill(table, CHESS)
    table.maintain()
    assert {item.title for item in table.read(looked, list(found)).values()} == {SEA.filename}
    assert ask(Searcher(table, lambda _model: ThemeEncoder()), "draw", Mode.TEXT).hits[0].recording == CHESS.filename


def test_a_search_goes_on_after_the_tables_were_deleted_and_made_anew(tmp_path: Path) -> None:
    table = Index(str(tmp_path / "tables"))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    fill(table, SEA)
    assert keys(ask(searcher, "mast", Mode.TEXT)) == {SEA.media.key}
    shutil.rmtree(tmp_path / "tables")
    fill(Index(str(tmp_path / "tables")), CHESS)
    assert keys(ask(searcher, "draw", Mode.TEXT)) == {CHESS.media.key}


def test_another_model_fills_a_table_beside_and_is_served_once_it_is_complete(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new", width=300)
    encoders = {str(item.model): item for item in (old, new)}
    searcher = Searcher(table, encoders.__getitem__)
    fill(table, SEA, BREAD, encoder=old)
    table.maintain()

    fill(table, CHESS, encoder=new)
    # New work is found by its words at once, and what was there by words and meaning.
    assert ask(searcher, "draw").hits[0].media_key == CHESS.media.key
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].media_key == SEA.media.key
    state = table.maintain()
    assert (state.recordings, state.building) == (3, table_name(rows(SEA, new)["recipe"][0]))
    with pytest.raises(PermanentFailure, match="lacks 2 recordings"):
        table.switch(state.building)

    fill(table, SEA, encoder=new)
    # Half of it is rebuilt: the served table is searched by meaning as before, and so it is after the way back.
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


def test_a_recording_that_changed_while_another_table_is_built_is_found_as_it_is_now(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    fill(table, SEA, BREAD, encoder=old)
    again = replace(SEA, segments=CHESS.segments)
    fill(table, again, encoder=new)
    searcher = Searcher(table, {str(item.model): item for item in (old, new)}.__getitem__)
    assert keys(ask(searcher, "draw", Mode.TEXT)) == {SEA.media.key}
    assert keys(ask(searcher, "mast", Mode.TEXT)) == set()


def test_a_recording_without_words_leaves_every_table(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, SEA, BREAD)
    table.replace(rows(SEA).clear(), [SEA.media.key])
    assert table.held([SEA.media.key, BREAD.media.key]) == {(BREAD.media.key, "1"): table.count()}


def before_cards(transcript: Transcript, lacking: Sequence[str], fields: Sequence[str]) -> pa.Table:
    """The rows as an earlier state of the project wrote them: sentences and their vectors as lists in lists."""
    made = rows(transcript)
    said = [[{name: one[name] for name in fields} for one in cards.sentences_before(card)] for card in made["card"]]
    near = [cards.vectors_of(pressed, 256)[1:].tolist() for pressed in made["near"]]
    kind = pl.List(pl.Array(pl.Float16, 256))
    columns = [pl.Series("sentences", said), pl.Series("sentence_vectors", near, dtype=kind)]
    return made.drop("card", "near", *lacking).with_columns(columns).to_arrow()


def test_a_table_of_the_first_release_is_searched_until_the_new_one_is_complete(tmp_path: Path) -> None:
    import lancedb

    first = before_cards(SEA, ("title", "speakers", "recorded", "duration_s", "recipe"), ("start_s", "end_s", "text"))
    lancedb.connect(str(tmp_path)).create_table("passages", first)
    table = Index(str(tmp_path))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "mast").hits[0].recording == "2024-05-17 sea.mp4"
    with pytest.raises(PermanentFailure, match="index rebuild"):
        ask(searcher, "mast", since=date(2024, 1, 1))

    fill(table, CHESS)
    assert keys(ask(searcher, "Bergen")) == {SEA.media.key, CHESS.media.key}
    assert ask(searcher, "chess", Mode.VECTOR).hits[0].media_key == CHESS.media.key
    assert table.maintain().table == "passages"
    fill(table, SEA)
    assert table.maintain().table == table_name(rows(SEA)["recipe"][0])
    assert keys(ask(searcher, "mast", since=date(2024, 1, 1))) == {SEA.media.key}


def test_a_table_with_lists_of_sentences_gives_the_same_answers_as_one_with_cards(tmp_path: Path) -> None:
    import lancedb

    fields = ("start_s", "end_s", "text", "speaker", "word_at", "word_s")
    name = table_name("columns 2")
    old = Index(str(tmp_path / "old"))
    lancedb.connect(str(tmp_path / "old")).create_table(name, before_cards(SEA, (), fields))
    old.switch(name)
    new = Index(str(tmp_path / "new"))
    fill(old, CHESS)
    fill(new, SEA, CHESS)
    for text, mode in (("mast", Mode.HYBRID), ('"not to be"', Mode.TEXT), ("chess", Mode.VECTOR)):
        before, now = (ask(Searcher(table, lambda _model: ThemeEncoder()), text, mode).hits for table in (old, new))
        assert [replace(hit, score=0.0) for hit in before] == [replace(hit, score=0.0) for hit in now], text
        assert [hit.score for hit in before] == pytest.approx([hit.score for hit in now], abs=0.002)


@given(
    said=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4),
    recorded=st.none() | st.dates(),
    seconds=st.floats(0, 40),
)
def test_a_card_gives_back_what_was_written_on_it(said: list[str], recorded: date | None, seconds: float) -> None:
    spoken_ = [
        Sentence(number * seconds, (number + 1) * seconds, text, text[:1], ((0, 1.25),))
        for number, text in enumerate(said)
    ]
    written = cards.card(
        "video/ä.mp4", title="Ä\n", language="de", recorded=recorded, duration_s=12.5, sentences=spoken_
    )
    found = cards.candidate(7, written, cards.near(np.ones(4), np.ones((len(said), 4))), 4)
    assert (found.media_key, found.title, found.recorded, found.duration_s) == ("video/ä.mp4", "Ä\n", recorded, 12.5)
    assert [(one.start, one.end, one.text, one.speaker) for one in found.sentences] == [
        (one.start, one.end, one.text, one.speaker) for one in spoken_
    ]
    assert [bool(one.words) for one in found.sentences] == [cards.is_long(one) for one in spoken_]
    assert found.vector is not None
    assert found.sentence_vectors is not None
    assert (found.vector.shape, found.sentence_vectors.shape) == ((4,), (len(said), 4))
    assert cards.candidate(7, written, None, 4).vector is None


def test_searches_go_on_while_a_table_is_written_and_cared_for(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, *SAID)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    stop, wrong = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if keys(ask(searcher, "mast", Mode.TEXT)) != {SEA.media.key}:
                wrong.append("a moment was gone")

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


def test_a_large_table_gets_its_indexes_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert {"text", "vector", "media_key", "language", "recorded", "duration_s", "speakers"} <= set(state.indexes)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "nine hours").hits[0].media_key == CHESS.media.key
    assert keys(ask(searcher, "sea", prefix="video/talks/it")) == {CHESS.media.key}
