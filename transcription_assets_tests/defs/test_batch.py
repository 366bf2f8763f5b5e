"""Batches: a bad recording does not stop the good ones of its run."""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from transcription_assets.defs.runs import keys_of
from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import from_json
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import embeddings
from transcription_assets.pipeline.usage_journal import UsageReader
from transcription_assets_tests import recordings
from transcription_assets_tests.defs.breaking import BAD, break_at_audio, break_at_transcript, break_at_video, reasons
from transcription_assets_tests.graph_runs import CHAIN, CHECKS, Graph, retries
from transcription_assets_tests.strategies import segment


def test_batch_records_each_recording_once_with_its_metadata(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    result = graph.run(batch)
    assert result.success
    for asset in CHAIN:
        assert graph.materialised(asset) == batch
        assert graph.statuses(asset, batch) == dict.fromkeys(batch, "MATERIALIZED")
        assert graph.evaluations(result, asset) == Counter((check, key) for check in CHECKS[asset] for key in batch)
    for asset in ("video", "audio"):
        durations = [graph.metadata(asset, key)["duration_s"] for key in batch]
        assert durations == pytest.approx([1, 2, 3], abs=0.1)
    assert [graph.metadata("transcript", key)["excerpt"] for key in batch] == [
        f"`0:00` These are {seconds} seconds." for seconds in range(1, 4)
    ]
    assert graph.passages()["media_key"].to_list() == batch


def test_steps_write_what_they_used_and_what_failed(graph: Graph, tmp_path: Path) -> None:
    batch = graph.drop(1, BAD)
    break_at_audio(graph, tmp_path)
    graph.run(batch)
    used = UsageReader(lambda: graph.store).read()
    assert used is not None
    assert {step: (one.recordings, round(one.audio_s)) for step, one in used.items()} == {
        "video": (2, 1 + BAD),
        "audio": (1, 1),
        "transcript": (1, 1),
        "embeddings": (1, 0),
    }
    assert used["audio"].failures == {"PermanentFailure": 1}
    assert used["audio"].compute_s > 0
    graph.run(batch[:1])
    again = UsageReader(lambda: graph.store).read()
    assert again is not None
    assert again["audio"].recordings == 1, "a result that existed is not new"


def test_workers_extract_the_audio_of_a_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes with the real command; the log of the run tells what they do."""
    monkeypatch.setenv("TRANSCRIPTION_AUDIO_LAUNCHER", "subprocess")
    batch = graph.drop(1, 2)
    result = graph.run(batch)
    assert result.success
    assert graph.materialised("audio") == batch
    logged = [entry.user_message for entry in graph.instance.all_logs(result.run_id) if entry.step_key == "audio"]
    assert any(line.startswith("audio: shard 1 of 1") for line in logged)
    assert graph.passages()["media_key"].to_list() == batch


@pytest.mark.parametrize(
    ("asset", "break_it", "said"),
    [
        ("video", break_at_video, "Invalid data"),
        ("audio", break_at_audio, "the decoder is on fire"),
        ("transcript", break_at_transcript, "nobody understands this"),
    ],
)
def test_one_bad_recording_does_not_stop_the_others(
    graph: Graph, tmp_path: Path, asset: str, break_it: Callable[[Graph, Path], None], said: str
) -> None:
    batch = graph.drop(1, BAD, 4)
    break_it(graph, tmp_path)
    bad = f"audio/{BAD:02}.wav"
    good = [key for key in batch if key != bad]

    result = graph.run(batch)

    assert result.success, "a failed run would mark all later steps of the bad recording as failed"
    for upstream in CHAIN[: CHAIN.index(asset)]:
        assert graph.statuses(upstream, batch) == dict.fromkeys(batch, "MATERIALIZED")
    assert graph.statuses(asset, batch) == dict.fromkeys(good, "MATERIALIZED") | {bad: "FAILED"}
    for downstream in CHAIN[CHAIN.index(asset) + 1 :]:
        assert graph.statuses(downstream, batch) == dict.fromkeys(good, "MATERIALIZED"), "no failure recorded"
        assert graph.evaluations(result, downstream) == Counter(
            (check, key) for check in CHECKS[downstream] for key in good
        )
    assert graph.materialised(asset) == good
    assert graph.passages()["media_key"].to_list() == good
    assert graph.evaluations(result, asset) == Counter((check, key) for check in CHECKS[asset] for key in good)
    assert all(graph.metadata(asset, key)["reused"] is False for key in good)
    assert all(graph.tags(asset, key)["dagster/code_version"] == "7" for key in good), "without it the UI shows stale"

    failure = graph.failure(result, asset)
    assert failure.description
    assert "1 of 3 recordings failed; the others are materialised" in failure.description
    assert bad in failure.description
    assert said in failure.description
    reason, kind = reasons(failure)[bad]
    assert said in reason
    assert kind.startswith("permanent")
    assert retries(graph.instance, result) == 0, "permanent failures are not retried"

    (recorded,) = graph.failed_runs(result)
    assert recorded.status == dg.DagsterRunStatus.FAILURE
    assert recorded.asset_selection == {dg.AssetKey(asset)}
    assert keys_of(recorded.tags, batch) == [bad]
    run = graph.instance.get_run_by_id(result.run_id)
    assert run
    assert run.tags[f"failed/{asset}"] == "1 of 3"


def test_unexpected_error_is_reported_with_its_recording(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [ZeroDivisionError("division by zero")]
    result = graph.run(batch)
    assert graph.materialised("transcript") == [batch[0]]
    description = graph.failure(result, "transcript").description
    assert description
    assert f"{batch[1]}: ZeroDivisionError: division by zero" in description


def test_single_recording_run_has_its_own_data_version(graph: Graph) -> None:
    (key,) = graph.drop(1)
    assert graph.run([key]).success
    assert all(graph.materialised(asset) == [key] for asset in CHAIN)
    etag = graph.store.stat(key).etag
    assert graph.data_version("audio", key).startswith(etag)
    assert etag in graph.data_version("transcript", key)


def test_single_bad_recording_fails_with_only_its_reason(graph: Graph) -> None:
    (key,) = graph.drop(BAD)
    break_at_video(graph, graph.root)
    description = graph.failure(graph.run([key]), "video").description
    assert description
    assert description.startswith(key)
    assert "recordings failed" not in description


def test_later_steps_are_skipped_if_every_recording_failed(graph: Graph) -> None:
    batch = graph.drop(BAD, 4)
    graph.engine.failures = {seconds: [PermanentFailure("no")] for seconds in (BAD, 4)}
    result = graph.run(batch)
    assert graph.statuses("transcript", batch) == dict.fromkeys(batch, "FAILED")
    assert graph.statuses("embeddings", batch) == {}
    assert not result.events_for_node("embeddings")[-1].is_step_success
    (recorded,) = graph.failed_runs(result)
    assert keys_of(recorded.tags, batch) == batch


def test_failures_are_recorded_at_the_step_that_failed(graph: Graph, tmp_path: Path) -> None:
    batch = graph.drop(1, 2, BAD, 4)
    break_at_video(graph, tmp_path)
    graph.engine.failures = {1: [PermanentFailure("no")], 4: [PermanentFailure("no")]}
    result = graph.run(batch)
    first, second, bad, last = batch
    assert graph.statuses("video", batch) == dict.fromkeys((first, second, last), "MATERIALIZED") | {bad: "FAILED"}
    assert set(graph.statuses("audio", batch)) == {first, second, last}
    assert graph.statuses("transcript", batch) == {first: "FAILED", second: "MATERIALIZED", last: "FAILED"}
    assert graph.statuses("embeddings", batch) == {second: "MATERIALIZED"}
    assert len(graph.failed_runs(result)) == 3, "one for each range of adjacent keys: 1 and 4 are not adjacent"


def test_failure_of_the_last_step_fails_the_run(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch, "video", "audio").success
    graph.engine.failures[2] = [PermanentFailure("no")]
    result = graph.run(batch, "transcript")
    assert not result.success
    assert not graph.failed_runs(result)
    assert graph.statuses("transcript", batch) == {batch[0]: "MATERIALIZED", batch[1]: "FAILED"}


def test_repaired_recording_is_materialised(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [PermanentFailure("no")]
    assert graph.run(batch).success
    assert graph.run(batch[1:], "transcript", "embeddings").success
    for asset in CHAIN:
        assert graph.statuses(asset, batch) == dict.fromkeys(batch, "MATERIALIZED")


def test_deleted_recording_fails_as_not_found(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    (graph.root / batch[0]).unlink()
    result = graph.run(batch)
    reason, kind = reasons(graph.failure(result, "video"))[batch[0]]
    assert batch[0] in reason
    assert "not found" in reason
    assert kind.startswith("permanent")
    assert graph.materialised("video") == [batch[1]]


def test_silent_recordings_succeed_without_passages(graph: Graph) -> None:
    graph.engine.script = {1: [], 2: []}
    batch = graph.drop(1, 2)
    result = graph.run(batch)
    assert result.success
    assert graph.metadata("transcript", batch[0])["no_speech"] is True
    assert graph.metadata("embeddings", batch[0])["dagster/row_count"] == 0
    assert graph.passages().is_empty()


def test_sentences_with_equal_times_all_count_as_embedded(graph: Graph) -> None:
    (key,) = graph.drop(2)
    assert graph.run([key]).success
    spoken = from_json(graph.store.read(media_keys.transcript(key)))
    twins = (segment("Yes indeed.", 1.0, 1.0), segment("Certainly not.", 1.0, 1.0))
    graph.store.write(media_keys.transcript(key), dataclasses.replace(spoken, segments=twins).to_json())
    made = embeddings.materialise(graph.store, key, graph.encoder, embeddings.PassageOptions(30.0))
    assert made.sentences == 2
    assert made.is_complete


def test_unusual_names_run_as_a_range_and_are_indexed(graph: Graph, tmp_path: Path) -> None:
    names = [
        "audio/a, b.wav",
        "audio/it's [1].wav",
        "audio/wait...what.wav",
        "audio/100%.WAV",
        "audio/Größe/ep.wav",
        "audio/Größe/ep.mka",
        "audio/👩‍👩‍👧.wav",
        "video/-i.wav",
        "video/a: b?c=d&e#f.wav",
        "video/\udcff\n.wav",
    ]
    source = recordings.tone(tmp_path / "a.wav", 1, rate=16_000)
    for name in names:
        target = Path(os.fsdecode(os.fsencode(graph.root / name)))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    batch = sorted(map(media_keys.encode, names))
    graph.instance.add_dynamic_partitions("recordings", batch)
    assert graph.run(batch).success
    assert graph.materialised("embeddings") == batch
    assert sorted(graph.passages()["media_key"]) == batch


def test_search_index_refreshes_empty_and_filled_stores(graph: Graph) -> None:
    assert graph.refresh()["dagster/row_count"] == 0
    batch = graph.drop(1, 2)
    assert graph.run(batch).success
    state = graph.refresh()
    assert str(state["table"]).startswith("passages_")
    assert state | {"version": 0, "table": ""} == {
        "dagster/row_count": 2,
        "recordings": 2,
        "fragments": 1,
        "version": 0,
        "vector_index": False,
        "table": "",
        "building": "none",
    }
