"""TRANSCRIPTION_DONE_PREFIX: a finished recording leaves the inbox and stays readable and searchable."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from transcription_assets.defs.inbox import listing
from transcription_assets.domain import inbox_diff, media_keys
from transcription_assets.errors import TransientFailure
from transcription_assets.storage import Store
from transcription_assets_tests.chain import Chain, recording, sentences
from transcription_assets_tests.graph_runs import Graph
from transcription_assets_tests.stores import Case, listed

KEY = "audio/talks/2024/a.wav"


def done(store: Store) -> list[str]:
    return [str(key) for key in store.list_done()["key"]]


def test_finished_recording_leaves_inbox_and_stays_searchable(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 30))
    case.put("video/b.wav", recording(tmp_path, 20))
    chain.run(KEY, "video/b.wav")
    assert listed(case.store) == []
    assert done(case.store) == [KEY, "video/b.wav"]
    assert case.store.public_url(KEY).endswith("/DONE_audio/talks/2024/a.wav")
    assert chain.ids(KEY) == sorted(f"{KEY}#{number}" for number in range(len(sentences(30))))


def test_recording_stays_in_inbox_without_done_prefix(case: Case, tmp_path: Path) -> None:
    case.put(KEY, recording(tmp_path, 5))
    Chain(case.store).run(KEY)
    assert listed(case.store) == [KEY]
    assert done(case.store) == []


def test_rerun_of_moved_recording_reuses_its_transcript(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    again = chain.run(KEY)
    assert again.reused == [KEY]
    assert chain.engine.decoded == [30]


def test_deleted_text_files_are_restored_without_transcription(case: Case, tmp_path: Path) -> None:
    """Otherwise the only way to restore them would be to delete the JSON too and transcribe again."""
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    texts = {suffix: case.store.read(media_keys.transcript(KEY, suffix)) for suffix in (".txt", ".srt", ".vtt")}
    case.store.delete(*(media_keys.transcript(KEY, suffix) for suffix in texts))
    assert chain.run(KEY).reused == [KEY]
    assert {suffix: case.store.read(media_keys.transcript(KEY, suffix)) for suffix in texts} == texts
    assert chain.engine.decoded == [30]


def test_run_without_new_work_adds_no_table_version(case: Case, tmp_path: Path) -> None:
    """A new version every night without changes would grow the table and make every reader reload it."""
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


def test_audio_of_moved_recording_can_be_extracted_again(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    flac = case.store.read(media_keys.flac(KEY))
    case.store.delete(media_keys.video_record(KEY), media_keys.audio_record(KEY), media_keys.flac(KEY))
    chain.run(KEY)
    assert case.store.read(media_keys.flac(KEY)) == flac
    assert chain.engine.decoded == [30]


def test_new_recording_with_same_name_is_processed_as_new_version(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    for seconds in (30, 20):
        case.put(KEY, recording(tmp_path, seconds))
        chain.run(KEY)
        assert listed(case.store) == []
        assert len(chain.ids(KEY)) == len(sentences(seconds))
    assert chain.engine.decoded == [30, 20]


@pytest.mark.parametrize("artefact", [".json", ".srt", ".parquet"])
def test_recording_with_missing_artefact_stays_in_inbox(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artefact: str
) -> None:
    """The file disappears after the rows are published and before the recording is moved."""
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 5))
    path = media_keys.passages(KEY) if artefact == ".parquet" else media_keys.transcript(KEY, artefact)
    counts = type(chain.tools.table).row_counts
    monkeypatch.setattr(
        type(chain.tools.table), "row_counts", lambda *given: (case.store.delete(path), counts(*given))[1]
    )
    report = chain.attempt(KEY)
    assert path in report.failed[KEY]
    assert report.done == []
    assert listed(case.store) == [KEY]
    assert done(case.store) == []


def test_recording_without_rows_in_table_stays_in_inbox(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 10))
    table = chain.tools.table
    with monkeypatch.context() as lost:
        lost.setattr(type(table), "replace", lambda *_given: 1)
        report = chain.attempt(KEY)
    assert "0 of 2 passages" in report.failed[KEY]
    assert listed(case.store) == [KEY]
    chain.run(KEY)
    assert done(case.store) == [KEY]


def test_silent_recording_without_rows_is_moved(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    chain.engine.script = {5: []}
    case.put(KEY, recording(tmp_path, 5))
    chain.run(KEY)
    assert done(case.store) == [KEY]


def test_version_added_during_last_step_stays_in_inbox(
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


def test_failed_move_is_reported_and_repeated_by_next_run(
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


def test_moved_recording_is_not_gone_and_is_new_if_added_again(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store, done_prefix=True)
    case.put(KEY, recording(tmp_path, 5))
    seen = case.store.list_media().frame
    # Backdate the known listing: modification times of objects are in whole seconds.
    known = seen.with_columns(
        last_modified=pl.lit(datetime.now(UTC) - timedelta(minutes=1), seen["last_modified"].dtype)
    )
    chain.run(KEY)
    look = listing.list_inbox(case.store, known)
    moved = inbox_diff.compare(look.frame, look.known)
    assert [part.height for part in (moved.new, moved.changed, moved.gone)] == [0, 0, 0]
    case.put(KEY, recording(tmp_path, 5))
    look = listing.list_inbox(case.store, known)
    again = inbox_diff.compare(look.frame, look.known)
    assert again.new["key"].to_list() + again.changed["key"].to_list() == [KEY]
    case.remove(KEY)
    case.remove(f"DONE_{KEY}")
    look = listing.list_inbox(case.store, known)
    assert inbox_diff.compare(look.frame, look.known).gone["key"].to_list() == [KEY]


# Through the Dagster graph


class Moving(Graph):
    """A graph with `done_prefix` enabled."""

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


def test_last_asset_moves_recording_and_rerun_succeeds(graph: Moving) -> None:
    found = graph.drop(2, 3)
    assert graph.run(found).success
    assert listed(graph.store) == []
    assert done(graph.store) == found
    assert graph.run(found).success
    assert graph.engine.decoded == [2, 3]
    assert graph.metadata("video", found[0])["recording"].endswith("/DONE_audio/02.wav")
    assert graph.metadata("transcript", found[0])["reused"] is True


def test_recording_that_cannot_be_moved_fails_alone(graph: Moving, tmp_path: Path) -> None:
    found = graph.drop(2, 3)
    (tmp_path / "store" / "DONE_audio" / "02.wav").mkdir(parents=True)
    result = graph.run(found)
    assert not result.success
    assert graph.statuses("embeddings", found) == {found[0]: "FAILED", found[1]: "MATERIALIZED"}
    assert listed(graph.store) == [found[0]]
    assert done(graph.store) == [found[1]]
