"""What is tried again, how often, and by whom."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from transcription_assets.defs import batch as batches
from transcription_assets.defs.batch import RETRIES
from transcription_assets.defs.executors.deadlines import WORK_LIMIT
from transcription_assets.defs.failed_runs import RETRY_RUN
from transcription_assets.defs.resources import DecoderResource, SpeechResource
from transcription_assets.defs.sensor.active_runs import keys_of
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import failure_notes
from transcription_assets.speech import AudioSource, SpeechResult
from transcription_assets_tests import recordings
from transcription_assets_tests.defs.breaking import BAD, break_at_video, decoder, reasons
from transcription_assets_tests.fakes import ScriptedEngine
from transcription_assets_tests.graph_runs import CHAIN, CHECKS, Graph, retries


def test_automation_tries_the_bad_one_once_more_but_not_for_ever(graph: Graph) -> None:
    definitions = graph.definitions()
    batch = graph.drop(1, 2, BAD, 4, 5)
    bad = f"audio/{BAD:02}.wav"
    good = [key for key in batch if key != bad]
    graph.engine.failures[BAD] = [PermanentFailure("no")] * 9
    tick = dg.evaluate_automation_conditions(definitions, graph.instance)
    assert tick.total_requested == 0, "a new recording is the sensor's to start"

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


def test_automation_starts_nothing_again_after_a_run_of_the_whole_chain_or_for_a_replaced_file(graph: Graph) -> None:
    definitions = graph.definitions()
    tick = dg.evaluate_automation_conditions(definitions, graph.instance)
    batch = graph.drop(1, 2)
    for changed in (batch, batch[1:]):
        recordings.tone(graph.root / batch[1], 3, rate=16_000)
        assert graph.run(changed).success
        tick = dg.evaluate_automation_conditions(definitions, graph.instance, cursor=tick.cursor)
        assert not any(tick.get_requested_partitions(dg.AssetKey(asset)) for asset in CHAIN)


def test_a_transient_failure_is_tried_again_and_then_nobody_is_recorded_twice(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    graph.engine.failures[2] = [TransientFailure("the store is away")]
    result = graph.run(batch)
    assert result.success
    assert retries(graph.instance, result) == 1
    assert graph.engine.heard == [1, 2, 3, 2], "what was done is not done again"
    for asset in CHAIN:
        assert graph.materialised(asset) == batch
        assert graph.evaluations(result, asset) == Counter((check, key) for check in CHECKS[asset] for key in batch)


def test_a_lasting_transient_failure_ends_after_its_retries(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    graph.engine.failures[2] = [TransientFailure("the store is away")] * 9
    result = graph.run(batch)
    assert retries(graph.instance, result) == RETRIES.max_retries
    assert graph.materialised("embeddings") == [batch[0], batch[2]]
    assert graph.statuses("transcript", batch)[batch[1]] == "FAILED"
    assert reasons(graph.failure(result, "transcript")) == {
        batch[1]: (f"{batch[1]}: the store is away", "transient: a retry may help")
    }
    (recorded,) = graph.failed_runs(result)
    assert RETRY_RUN not in recorded.tags, "automation carries on from `audio`: a second run would do the same"


@pytest.mark.parametrize("selected", [("transcript", "embeddings"), ("transcript",)])
def test_run_retries_take_a_first_step_that_fails_for_long(graph: Graph, selected: tuple[str, ...]) -> None:
    batch = graph.drop(1, 2, 3)
    assert graph.run(batch, "video", "audio").success
    graph.engine.failures = {2: [TransientFailure("the store is away")] * 9, 3: [PermanentFailure("no")] * 9}
    result = graph.run(batch, *selected)
    assert retries(graph.instance, result) == RETRIES.max_retries
    runs = graph.failed_runs(result) or [graph.instance.get_run_by_id(result.run_id)]
    retried = [run for run in runs if run and run.tags.get(RETRY_RUN) == "true"]
    assert [keys_of(run.tags, batch) for run in retried] == [batch[1:2] if len(selected) > 1 else batch]


def test_a_run_that_is_started_again_leaves_out_what_failed_before(graph: Graph, tmp_path: Path) -> None:
    batch = graph.drop(1, 2, BAD, 4)
    good = [batch[0], batch[1], batch[3]]
    break_at_video(graph, tmp_path)
    graph.speech = SpeechResource(name="base", models_dir=str(tmp_path / "nothing"))
    result = graph.run(batch)
    assert not result.success, "without weights the whole step fails"
    graph.speech = None
    again = graph.run_again(result)
    assert again.step_keys_to_execute == ["transcript", "embeddings"]
    assert again.status == dg.DagsterRunStatus.SUCCESS
    assert graph.engine.heard == [1, 2, 4]
    assert graph.passages()["media_key"].to_list() == good


class ToldToLeave(ScriptedEngine):
    """FAKE: its pod gets SIGTERM in the middle of each recording, as Dagster hands that on."""

    def transcribe(self, _sounds: Iterable[AudioSource]) -> Iterator[SpeechResult | Exception]:
        """Never says anything."""
        raise DagsterExecutionInterruptedError
        yield from ()


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one executor that can be tried in this process, taken for that of the cluster; nobody waits between tries."""
    monkeypatch.setattr(batches, "KUBERNETES", "execute_in_process_executor")
    monkeypatch.setattr(batches, "RETRIES", dg.RetryPolicy(max_retries=RETRIES.max_retries, delay=0))


@pytest.mark.usefixtures("in_a_pod")
@pytest.mark.parametrize(("selected", "again"), [(("transcript", "embeddings"), True), (CHAIN, False)])
def test_a_pod_whose_node_is_taken_away_again_and_again_is_not_the_end_of_its_recordings(
    graph: Graph, selected: tuple[str, ...], *, again: bool
) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch, "video", "audio").success
    graph.engine = ToldToLeave()
    result = graph.run(batch, *selected)
    assert retries(graph.instance, result) == RETRIES.max_retries
    assert (RETRY_RUN in tags_of(graph, result)) is again, "where automation does not carry on, a later run does"


@pytest.mark.usefixtures("in_a_pod")
def test_a_pod_that_is_told_to_leave_past_its_time_limit_gets_no_second_limit(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet ends a pod at its deadline with the same signal as at an eviction."""
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


def test_a_broken_recording_is_no_reason_to_run_the_batch_again(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [PermanentFailure("no")]
    result = graph.run(batch)
    (recorded,) = graph.failed_runs(result)
    assert RETRY_RUN not in {**recorded.tags, **tags_of(graph, result)}


def tags_of(graph: Graph, result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    run = graph.instance.get_run_by_id(result.run_id)
    assert run
    return run.tags


def test_a_permanent_failure_beside_a_transient_one_is_told_too_when_the_retry_has_helped(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    graph.engine.failures = {1: [TransientFailure("away")], 2: [PermanentFailure("broken")] * 9}
    result = graph.run(batch)
    assert retries(graph.instance, result) == 1
    assert graph.materialised("transcript") == [batch[0], batch[2]]
    assert list(reasons(graph.failure(result, "transcript"))) == [batch[1]]


def test_a_recording_that_is_replaced_while_it_is_read_never_mixes_two_versions(graph: Graph, tmp_path: Path) -> None:
    batch = graph.drop(1, 2)
    new, marker = recordings.tone(tmp_path / "new.wav", 5, rate=16_000), tmp_path / "once"
    marker.touch()
    replace = f'cp "{new}" "{graph.root / batch[1]}"'
    graph.decoder = decoder(tmp_path, f'case "$*" in *02.wav*framecrc*) rm "{marker}" 2>/dev/null && {replace};; esac')

    result = graph.run(batch)

    assert retries(graph.instance, result) == 1, "it may well succeed another time"
    assert graph.materialised("audio") == [batch[0]]
    reason, _ = reasons(graph.failure(result, "audio"))[batch[1]]
    assert "was replaced" in reason
    assert graph.run(batch).success, "the run that the sensor asks for because the ETag is another"
    assert graph.passages().filter(media_key=batch[1])["text"].to_list() == ["These are 5 seconds."]


def test_a_damaged_search_table_is_named_and_can_be_made_again(graph: Graph) -> None:
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
    assert [note and note.step for note in noted] == ["embeddings", "embeddings"], "the library says it too"
    shutil.rmtree(graph.root / "lancedb")
    assert graph.run(batch).success
    assert [failure_notes.load(graph.store, key) for key in batch] == [None, None]
    assert graph.passages()["media_key"].to_list() == batch
    assert graph.engine.heard == [1, 2]


def test_a_model_that_is_not_there_fails_at_once_and_says_how_to_get_it(graph: Graph, tmp_path: Path) -> None:
    (key,) = graph.drop(1)
    graph.speech = SpeechResource(name="base", models_dir=str(tmp_path / "nothing"))
    result = graph.run([key])
    assert retries(graph.instance, result) == 0, "weights do not appear by themselves"
    description = graph.failure(result, "transcript").description
    assert description
    assert "models pull" in description
    noted = failure_notes.load(graph.store, key)
    assert noted, "the library says it too"
    assert "models pull" in noted.reason


def test_an_ffmpeg_that_is_not_there_fails_at_once_and_names_the_setting(graph: Graph) -> None:
    (key,) = graph.drop(1)
    graph.decoder = DecoderResource(ffmpeg="/nowhere/ffmpeg")
    result = graph.run([key])
    assert retries(graph.instance, result) == 0
    description = graph.failure(result, "video").description
    assert description
    assert "/nowhere/ffmpeg" in description
