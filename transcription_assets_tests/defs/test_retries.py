"""Retries of steps and runs: which failures, how often, and started by what."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from transcription_assets.defs import batch as batches
from transcription_assets.defs.batch import RETRIES
from transcription_assets.defs.executors.kubernetes import WORK_LIMIT
from transcription_assets.defs.resources import DecoderResource, SpeechResource
from transcription_assets.defs.runs import RETRY_RUN, keys_of
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import failure_notes
from transcription_assets.speech import DecodedWindow, WindowTask
from transcription_assets.speech.engine import silent
from transcription_assets_tests import recordings
from transcription_assets_tests.defs.breaking import BAD, break_at_video, decoder, reasons
from transcription_assets_tests.fakes import ScriptedEngine
from transcription_assets_tests.graph_runs import CHAIN, CHECKS, Graph, retries


def test_automation_retries_a_failed_recording_only_once(graph: Graph) -> None:
    definitions = graph.definitions()
    batch = graph.drop(1, BAD, 4)
    bad = f"audio/{BAD:02}.wav"
    good = [key for key in batch if key != bad]
    graph.engine.failures[BAD] = [PermanentFailure("no")] * 9
    tick = dg.evaluate_automation_conditions(definitions, graph.instance)
    assert tick.total_requested == 0, "the sensor starts new recordings"

    assert graph.run(batch).success
    assert graph.materialised("embeddings") == good
    tick = dg.evaluate_automation_conditions(definitions, graph.instance, cursor=tick.cursor)
    assert tick.get_requested_partitions(dg.AssetKey("transcript")) == {bad}
    assert tick.get_requested_partitions(dg.AssetKey("embeddings")) == {bad}
    assert not tick.get_requested_partitions(dg.AssetKey("audio"))

    assert graph.run([bad], "transcript", "embeddings").success
    assert graph.statuses("transcript", batch)[bad] == "FAILED"
    assert bad not in graph.statuses("embeddings", batch)
    tick = dg.evaluate_automation_conditions(definitions, graph.instance, cursor=tick.cursor)
    assert {key for key in CHAIN if tick.get_requested_partitions(dg.AssetKey(key))} == set()


def test_automation_requests_nothing_after_a_run_of_all_steps(graph: Graph) -> None:
    definitions = graph.definitions()
    tick = dg.evaluate_automation_conditions(definitions, graph.instance)
    batch = graph.drop(1, 2)
    for changed in (batch, batch[1:]):
        recordings.tone(graph.root / batch[1], 3, rate=16_000)
        assert graph.run(changed).success
        tick = dg.evaluate_automation_conditions(definitions, graph.instance, cursor=tick.cursor)
        assert not any(tick.get_requested_partitions(dg.AssetKey(asset)) for asset in CHAIN)


def test_retry_of_a_transient_failure_records_each_recording_once(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [TransientFailure("the store is away")]
    result = graph.run(batch)
    assert result.success
    assert retries(graph.instance, result) == 1
    assert graph.engine.decoded == [1, 2, 2], "only the failed one is repeated"
    for asset in CHAIN:
        assert graph.materialised(asset) == batch
        assert graph.evaluations(result, asset) == Counter((check, key) for check in CHECKS[asset] for key in batch)


def test_transient_failure_is_final_after_max_retries(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [TransientFailure("the store is away")] * 9
    result = graph.run(batch)
    assert retries(graph.instance, result) == RETRIES.max_retries
    assert graph.materialised("embeddings") == [batch[0]]
    assert graph.statuses("transcript", batch)[batch[1]] == "FAILED"
    assert reasons(graph.failure(result, "transcript")) == {
        batch[1]: (f"{batch[1]}: the store is away", "transient: a retry may help")
    }
    (recorded,) = graph.failed_runs(result)
    assert RETRY_RUN not in recorded.tags, "automation continues after `audio`, a run retry would repeat it"


@pytest.mark.parametrize("selected", [("transcript", "embeddings"), ("transcript",)])
def test_run_is_retried_if_its_first_step_keeps_failing(graph: Graph, selected: tuple[str, ...]) -> None:
    batch = graph.drop(1, 2, 3)
    assert graph.run(batch, "video", "audio").success
    graph.engine.failures = {2: [TransientFailure("the store is away")] * 9, 3: [PermanentFailure("no")] * 9}
    result = graph.run(batch, *selected)
    assert retries(graph.instance, result) == RETRIES.max_retries
    runs = graph.failed_runs(result) or [graph.instance.get_run_by_id(result.run_id)]
    retried = [run for run in runs if run and run.tags.get(RETRY_RUN) == "true"]
    assert [keys_of(run.tags, batch) for run in retried] == [batch[1:2] if len(selected) > 1 else batch]


def test_reexecuted_run_skips_recordings_that_failed_before(graph: Graph, tmp_path: Path) -> None:
    batch = graph.drop(1, BAD, 4)
    good = [batch[0], batch[2]]
    break_at_video(graph, tmp_path)
    graph.speech = SpeechResource(whisper_model="base", models_dir=str(tmp_path / "nothing"))
    result = graph.run(batch)
    assert not result.success, "without weights the whole step fails"
    graph.speech = None
    again = graph.run_again(result)
    assert again.step_keys_to_execute == ["transcript", "embeddings"]
    assert again.status == dg.DagsterRunStatus.SUCCESS
    assert graph.engine.decoded == [1, 4]
    assert graph.passages()["media_key"].to_list() == good


class ToldToLeave(ScriptedEngine):
    """FAKE: interrupted in the middle of each recording, as by Dagster when its pod gets SIGTERM."""

    def decode(
        self, _windows: Sequence[WindowTask], _progress: Callable[[float], None] = silent, _parallel: int = 0
    ) -> list[DecodedWindow | Exception]:
        """Raise the exception of an interrupted step."""
        raise DagsterExecutionInterruptedError


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the in-process executor as the Kubernetes executor, with retry delays of zero."""
    monkeypatch.setattr(batches, "KUBERNETES", "execute_in_process_executor")
    monkeypatch.setattr(batches, "RETRIES", dg.RetryPolicy(max_retries=RETRIES.max_retries, delay=0))


@pytest.mark.usefixtures("in_a_pod")
@pytest.mark.parametrize(("selected", "again"), [(("transcript", "embeddings"), True), (CHAIN, False)])
def test_repeatedly_evicted_pod_is_retried_and_then_run_again(
    graph: Graph, selected: tuple[str, ...], *, again: bool
) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch, "video", "audio").success
    graph.engine = ToldToLeave()
    result = graph.run(batch, *selected)
    assert retries(graph.instance, result) == RETRIES.max_retries
    assert (RETRY_RUN in tags_of(graph, result)) is again, "a run retry only where automation does not continue"


@pytest.mark.usefixtures("in_a_pod")
def test_pod_terminated_past_its_deadline_is_not_retried(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet sends the same signal at a deadline as at an eviction."""
    batch = graph.drop(1)
    monkeypatch.setenv(WORK_LIMIT, "0")
    graph.engine = ToldToLeave()
    result = graph.run(batch)
    assert retries(graph.instance, result) == 0
    description = graph.failure(result, "transcript").description
    assert description
    assert "DeadlineExceeded" in description
    assert "TRANSCRIPTION_STEP_PER_SECOND" in description
    assert RETRY_RUN not in tags_of(graph, result)


def test_permanent_failure_does_not_request_a_run_retry(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [PermanentFailure("no")]
    result = graph.run(batch)
    (recorded,) = graph.failed_runs(result)
    assert RETRY_RUN not in {**recorded.tags, **tags_of(graph, result)}


def tags_of(graph: Graph, result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    run = graph.instance.get_run_by_id(result.run_id)
    assert run
    return run.tags


def test_permanent_failure_is_reported_after_a_successful_retry(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    graph.engine.failures = {1: [TransientFailure("away")], 2: [PermanentFailure("broken")] * 9}
    result = graph.run(batch)
    assert retries(graph.instance, result) == 1
    assert graph.materialised("transcript") == [batch[0], batch[2]]
    assert list(reasons(graph.failure(result, "transcript"))) == [batch[1]]


def test_replacement_during_decoding_never_mixes_two_versions(graph: Graph, tmp_path: Path) -> None:
    batch = graph.drop(1, 2)
    new, marker = recordings.tone(tmp_path / "new.wav", 5, rate=16_000), tmp_path / "once"
    marker.touch()
    replace = f'cp "{new}" "{graph.root / batch[1]}"'
    graph.decoder = decoder(tmp_path, f'case "$*" in *02.wav*framecrc*) rm "{marker}" 2>/dev/null && {replace};; esac')

    result = graph.run(batch)

    assert retries(graph.instance, result) == 1, "another attempt may succeed"
    assert graph.materialised("audio") == [batch[0]]
    reason, _ = reasons(graph.failure(result, "audio"))[batch[1]]
    assert "was replaced" in reason
    assert graph.run(batch).success, "the run that the sensor requests for the new ETag"
    assert graph.passages().filter(media_key=batch[1])["text"].to_list() == ["These are 5 seconds."]


def test_damaged_search_table_fails_the_step_and_can_be_rebuilt(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch).success
    for manifest in (graph.root / "lancedb").rglob("*.manifest"):
        manifest.write_bytes(b"garbage")
    result = graph.run(batch)
    assert retries(graph.instance, result) == 0
    description = graph.failure(result, "embeddings").description
    assert description
    assert "index rebuild" in description
    noted = [failure_notes.load(graph.store, key) for key in batch]
    assert [note and note.step for note in noted] == ["embeddings", "embeddings"], "shown in the library"
    shutil.rmtree(graph.root / "lancedb")
    assert graph.run(batch).success
    assert [failure_notes.load(graph.store, key) for key in batch] == [None, None]
    assert graph.passages()["media_key"].to_list() == batch
    assert graph.engine.decoded == [1, 2]


def test_missing_model_is_not_retried_and_has_a_hint(graph: Graph, tmp_path: Path) -> None:
    (key,) = graph.drop(1)
    graph.speech = SpeechResource(whisper_model="base", models_dir=str(tmp_path / "nothing"))
    result = graph.run([key])
    assert retries(graph.instance, result) == 0, "a retry cannot find the weights either"
    description = graph.failure(result, "transcript").description
    assert description
    assert "models pull" in description
    noted = failure_notes.load(graph.store, key)
    assert noted, "shown in the library"
    assert "models pull" in noted.reason


def test_missing_ffmpeg_is_not_retried_and_its_path_is_named(graph: Graph) -> None:
    (key,) = graph.drop(1)
    graph.decoder = DecoderResource(ffmpeg="/nowhere/ffmpeg")
    result = graph.run([key])
    assert retries(graph.instance, result) == 0
    description = graph.failure(result, "video").description
    assert description
    assert "/nowhere/ffmpeg" in description
