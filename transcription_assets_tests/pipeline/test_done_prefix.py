"""TRANSCRIPTION_DONE_PREFIX: the source leaves the inbox after its last step, and nothing loses sight of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from transcription_assets.defs.sensor import inbox
from transcription_assets.domain import inbox_diff, media_keys
from transcription_assets.errors import TransientFailure
from transcription_assets.storage import Store
from transcription_assets_tests.chain import Chain, recording, sentences
from transcription_assets_tests.graph_runs import Graph
from transcription_assets_tests.stores import Case, listed

KEY = "audio/talks/2024/a.wav"


def done(store: Store) -> list[str]:
    return [str(key) for key in store.list_done()["key"]]


def test_a_recording_leaves_the_inbox_with_its_nested_path_and_is_still_found(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 30))
    case.put("video/b.wav", recording(tmp_path, 20))
    chain.run(KEY, "video/b.wav")
    assert listed(case.store) == []
    assert done(case.store) == [KEY, "video/b.wav"]
    assert case.store.public_url(KEY).endswith("/DONE_audio/talks/2024/a.wav")
    assert chain.ids(KEY) == sorted(f"{KEY}#{number}" for number in range(len(sentences(30))))


def test_without_the_option_the_recording_stays(case: Case, tmp_path: Path) -> None:
    case.put(KEY, recording(tmp_path, 5))
    Chain(case.store).run(KEY)
    assert listed(case.store) == [KEY]
    assert done(case.store) == []


def test_what_is_done_can_be_done_again_and_costs_nothing(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    again = chain.run(KEY)
    assert again.reused == [KEY]
    assert chain.engine.heard == [30]


def test_texts_that_somebody_deleted_are_written_again_without_a_transcription(case: Case, tmp_path: Path) -> None:
    """Else nothing but deleting the JSON as well, and transcribing it all again, would bring them back."""
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    texts = {suffix: case.store.read(media_keys.transcript(KEY, suffix)) for suffix in (".txt", ".srt", ".vtt")}
    case.store.delete(*(media_keys.transcript(KEY, suffix) for suffix in texts))
    assert chain.run(KEY).reused == [KEY]
    assert {suffix: case.store.read(media_keys.transcript(KEY, suffix)) for suffix in texts} == texts
    assert chain.engine.heard == [30]


def test_a_run_in_which_nothing_is_new_leaves_the_search_table_as_it_is(case: Case, tmp_path: Path) -> None:
    """A version each night for nothing would grow the table, and every reader would read it anew."""
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 30))
    case.put("video/b.wav", recording(tmp_path, 20))
    chain.run(KEY, "video/b.wav")
    rows, version = chain.ids(KEY), chain.table().version
    chain.run(KEY, "video/b.wav")
    assert chain.table().version == version
    chain.tools.table.remove([KEY])
    chain.run(KEY, "video/b.wav")
    assert chain.ids(KEY) == rows


def test_a_new_extraction_of_what_is_done_reads_it_where_it_is_now(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    flac = case.store.read(media_keys.flac(KEY))
    case.store.delete(media_keys.video_record(KEY), media_keys.audio_record(KEY), media_keys.flac(KEY))
    chain.run(KEY)
    assert case.store.read(media_keys.flac(KEY)) == flac
    assert chain.engine.heard == [30]


def test_a_new_recording_of_the_same_name_is_a_new_version(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    for seconds in (30, 20):
        case.put(KEY, recording(tmp_path, seconds))
        chain.run(KEY)
        assert listed(case.store) == []
        assert len(chain.ids(KEY)) == len(sentences(seconds))
    assert chain.engine.heard == [30, 20]


@pytest.mark.parametrize("artefact", [".json", ".srt", ".parquet"])
def test_a_transcript_that_does_not_exist_never_counts_as_done(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artefact: str
) -> None:
    """It vanishes in the last moment: after the rows are published, before the recording is moved."""
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 5))
    path = media_keys.passages(KEY) if artefact == ".parquet" else media_keys.transcript(KEY, artefact)
    held = type(chain.tools.table).held
    monkeypatch.setattr(type(chain.tools.table), "held", lambda *given: (case.store.delete(path), held(*given))[1])
    report = chain.attempt(KEY)
    assert path in report.failed[KEY]
    assert "stays in the inbox" in report.failed[KEY]
    assert report.done == []
    assert listed(case.store) == [KEY]
    assert done(case.store) == []


def test_a_recording_whose_rows_are_not_in_the_table_stays(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 10))
    table = chain.tools.table
    with monkeypatch.context() as lost:
        lost.setattr(type(table), "replace", lambda *_given: 1)
        report = chain.attempt(KEY)
    assert "holds 0 of its 2 passages" in report.failed[KEY]
    assert listed(case.store) == [KEY]
    chain.run(KEY)
    assert done(case.store) == [KEY]


def test_silence_has_no_rows_and_is_done_all_the_same(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    chain.engine.script = {5: []}
    case.put(KEY, recording(tmp_path, 5))
    chain.run(KEY)
    assert done(case.store) == [KEY]


def test_a_version_that_was_dropped_during_the_last_step_stays_as_new_work(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 30))
    encode = chain.encoder.encode
    monkeypatch.setattr(
        type(chain.encoder), "encode", lambda _self, texts: (case.put(KEY, recording(tmp_path, 20)), encode(texts))[1]
    )
    chain.run(KEY)
    assert listed(case.store) == [KEY]
    assert len(chain.ids(KEY)) == len(sentences(30))


def test_a_move_that_fails_is_said_and_made_up_for_by_the_next_run(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 10))
    case.put("audio/b.wav", recording(tmp_path, 5))
    move = Store.move_when_done

    def busy(self: Store, key: str, etag: str) -> bool:
        if key == KEY:
            raise TransientFailure(f"{key}: the store is busy")
        return move(self, key, etag)

    with monkeypatch.context() as now:
        now.setattr(Store, "move_when_done", busy)
        report = chain.attempt(KEY, "audio/b.wav")
    assert report.failed == {KEY: f"{KEY}: the store is busy"}
    assert report.done == ["audio/b.wav"]
    assert done(case.store) == ["audio/b.wav"]
    chain.run(KEY)
    assert done(case.store) == ["audio/b.wav", KEY]


def test_what_was_moved_is_not_gone_and_dropped_again_it_is_new(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 5))
    seen = case.store.list_media().frame
    # As if it had been known for a while: times of objects are in whole seconds.
    known = seen.with_columns(
        last_modified=pl.lit(datetime.now(UTC) - timedelta(minutes=1), seen["last_modified"].dtype)
    )
    chain.run(KEY)
    look = inbox.list_inbox(case.store, known)
    moved = inbox_diff.compare(look.frame, look.known)
    assert [part.height for part in (moved.new, moved.changed, moved.gone)] == [0, 0, 0]
    case.put(KEY, recording(tmp_path, 5))
    look = inbox.list_inbox(case.store, known)
    again = inbox_diff.compare(look.frame, look.known)
    assert again.new["key"].to_list() + again.changed["key"].to_list() == [KEY]
    case.remove(KEY)
    case.remove(f"DONE_{KEY}")
    look = inbox.list_inbox(case.store, known)
    assert inbox_diff.compare(look.frame, look.known).gone["key"].to_list() == [KEY]


# By the door of Dagster


class Moving(Graph):
    """A graph with the option on."""

    def definitions(self) -> dg.Definitions:
        found = super().definitions()
        resources = dict(found.resources or {})
        store = resources["store"]
        resources["store"] = type(store)(url=store.url, done_prefix=True)
        return dg.Definitions(
            assets=list(found.assets or ()), jobs=list(found.jobs or ()), resources=resources, executor=found.executor
        )


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Moving]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield Moving(tmp_path / "store", instance)


def test_the_last_asset_moves_the_recording_and_all_can_be_materialised_again(graph: Moving) -> None:
    found = graph.drop(2, 3)
    assert graph.run(found).success
    assert listed(graph.store) == []
    assert done(graph.store) == found
    assert graph.run(found).success
    assert graph.engine.heard == [2, 3]
    assert graph.metadata("video", found[0])["recording"].endswith("/DONE_audio/02.wav")
    assert graph.metadata("transcript", found[0])["reused"] is True


def test_one_that_cannot_be_moved_fails_alone_and_the_others_are_recorded(graph: Moving, tmp_path: Path) -> None:
    found = graph.drop(2, 3)
    (tmp_path / "store" / "DONE_audio" / "02.wav").mkdir(parents=True)
    result = graph.run(found)
    assert not result.success
    assert graph.statuses("embeddings", found) == {found[0]: "FAILED", found[1]: "MATERIALIZED"}
    assert listed(graph.store) == [found[0]]
    assert done(graph.store) == [found[1]]
