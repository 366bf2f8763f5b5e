"""Rebuild of the search table for another encoder: from transcripts alone, resumable, and reversible."""

import io
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from transcription_assets.cli.main import main
from transcription_assets.domain import media_keys
from transcription_assets.embedding import EmbeddingModel
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline.embeddings import FINGERPRINT, SAME_VECTORS, PassageOptions, recipe_of
from transcription_assets.pipeline.search_index import rebuild
from transcription_assets.search.query import Mode, Query
from transcription_assets.search.searcher import Searcher
from transcription_assets.storage import Store
from transcription_assets_tests.chain import PASSAGE_S, Chain, recording
from transcription_assets_tests.fakes import HashEncoder

KEYS = ("audio/a.wav", "audio/b.wav")


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(Store.open(str(tmp_path / "store")))
    for key, seconds in zip(KEYS, (10, 20), strict=True):
        (tmp_path / "store" / key).write_bytes(recording(tmp_path, seconds))
    made.run(*KEYS)
    return made


def test_rebuild_serves_new_model_without_transcription(chain: Chain) -> None:
    other = HashEncoder(model=EmbeddingModel("other", "2"), dimension=12)
    table, heard = chain.tools.table, list(chain.engine.decoded)
    before = table.maintain()
    *_, report = rebuild(chain.store, table, other, PassageOptions(PASSAGE_S))
    assert (sorted(report.done), report.failed) == (sorted(KEYS), {})
    assert table.maintain().table != before.table
    pinned = table.snapshot()
    assert pinned
    assert pinned.embedding_model == str(other.model)
    assert chain.engine.decoded == heard
    hits = Searcher(table, lambda _model: other).search(Query("sentence of 20 seconds", mode=Mode.TEXT)).hits
    assert hits[0].media_key == "audio/b.wav"
    assert {state.role: state.recordings for state in table.status()} == {"served": 2, "before": 2}


def test_rebuild_for_other_columns_encodes_nothing_again(chain: Chain) -> None:
    earlier = recipe_of(str(chain.encoder.model), PASSAGE_S, SAME_VECTORS[0])
    for key in KEYS:
        rows = pl.read_parquet(io.BytesIO(chain.store.read(media_keys.passages(key))))
        target = io.BytesIO()
        rows.with_columns(recipe=pl.lit(earlier)).write_parquet(target, metadata={FINGERPRINT: "of earlier columns"})
        chain.store.write(media_keys.passages(key), target.getvalue())
    chain.encoder.encoded.clear()
    *_, report = rebuild(chain.store, chain.tools.table, chain.encoder, PassageOptions(PASSAGE_S))
    assert sorted(report.done) == sorted(KEYS)
    assert chain.encoder.encoded == []


def test_stopped_rebuild_resumes_where_it_stopped(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transcription_assets.pipeline.search_index.PUBLISH_EVERY", 1)
    other = HashEncoder(model=EmbeddingModel("other", "2"))
    table = chain.tools.table
    served = table.maintain().table
    next(iter(rebuild(chain.store, table, other, PassageOptions(PASSAGE_S))))
    assert (table.maintain().table, len(other.encoded) > 0) == (served, True)
    first = len(other.encoded)
    *_, report = rebuild(chain.store, table, other, PassageOptions(PASSAGE_S))
    assert len(report.done) == 2
    assert table.maintain().table != served
    assert not set(other.encoded[:first]) & set(other.encoded[first:]), "finished recordings were encoded again"


def test_rebuild_includes_recordings_removed_from_the_inbox(chain: Chain) -> None:
    table = chain.tools.table
    before = table.maintain().table
    (Path(chain.store.url) / KEYS[0]).unlink()
    other = HashEncoder(model=EmbeddingModel("other", "2"))
    *_, report = rebuild(chain.store, table, other, PassageOptions(PASSAGE_S))
    assert sorted(report.done) == sorted(KEYS)
    after = table.maintain()
    assert (after.table != before, after.recordings) == (True, 2)


def test_rebuild_serves_a_table_again_after_a_switch_back(chain: Chain) -> None:
    table, other = chain.tools.table, HashEncoder(EmbeddingModel("other", "2"))
    before = table.maintain().table
    for _ in range(2):
        list(rebuild(chain.store, table, other, PassageOptions(PASSAGE_S)))
        assert table.maintain().table != before
        table.switch(before)
        assert table.maintain().table == before


def test_incomplete_table_is_served_only_when_forced(chain: Chain) -> None:
    chain.store.delete(f"transcripts/{KEYS[0]}.json")
    table = chain.tools.table
    list(rebuild(chain.store, table, HashEncoder(EmbeddingModel("other", "2")), PassageOptions(PASSAGE_S)))
    building = table.maintain().building
    with pytest.raises(PermanentFailure, match=KEYS[0]) as caught:
        table.switch(building)
    assert "--incomplete" in caught.value.hint
    table.switch(building, even_incomplete=True)
    assert table.maintain().table == building


def test_damaged_transcript_does_not_stop_the_rebuild(chain: Chain) -> None:
    chain.store.write("transcripts/audio/a.wav.json", b"{")
    *_, report = rebuild(
        chain.store, chain.tools.table, HashEncoder(EmbeddingModel("other", "2")), PassageOptions(PASSAGE_S)
    )
    assert report.done == ["audio/b.wav"]
    assert list(report.failed) == ["audio/a.wav"]


def test_index_commands_show_and_switch_tables(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_STORE", chain.store.url)
    table = chain.tools.table
    old = table.maintain().table
    list(rebuild(chain.store, table, HashEncoder(EmbeddingModel("other", "2")), PassageOptions(PASSAGE_S)))
    new = table.maintain().table
    run = CliRunner().invoke
    shown = run(main, ["index", "status"])
    assert shown.exit_code == 0
    assert old in shown.output
    assert new in shown.output
    assert run(main, ["index", "switch", old]).exit_code == 0
    assert chain.tools.table.maintain().table == old
    wrong = run(main, ["index", "switch", "nothing"])
    assert (wrong.exit_code, "no table nothing" in wrong.output) == (1, True)
    nothing = run(main, ["search", " "])
    assert (nothing.exit_code, "no words" in nothing.output) == (0, True)
