"""Many recordings in one run, through the real assets and a real Dagster instance; only the models are fakes."""

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from transcription_assets import keys
from transcription_assets.defs import batch as batches
from transcription_assets.defs.batch import RETRIES, RETRY_RUN
from transcription_assets.defs.patience import WORK_LIMIT
from transcription_assets.defs.resources import DecoderResource, SpeechResource
from transcription_assets.embedding import EmbeddingModel
from transcription_assets.failures import PermanentFailure, TransientFailure
from transcription_assets.media import find_ffmpeg
from transcription_assets.speech import Heard, Sound, SpeechOptions
from transcription_assets.steps import embeddings, failure
from transcription_assets.transcript import from_json
from transcription_assets_tests import recordings
from transcription_assets_tests.fakes import DIMENSION, HashEncoder, ScriptedEngine
from transcription_assets_tests.graph_runs import CHAIN, Graph, retries
from transcription_assets_tests.strategies import segment

CHECKS = {
    "video": ["playable"],
    "audio": ["whole"],
    "transcript": ["confidence", "no_inventions", "speech_coverage"],
    "embeddings": ["complete"],
}
BAD = 3


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """The policy decides on retries; its pauses are not waited for."""
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0.0)
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield Graph(tmp_path / "store", instance)


def decoder(tmp_path: Path, script: str) -> DecoderResource:
    """ffmpeg behind a shell script that may do something else first; `$*` is the command line."""
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\n{script}\nexec {find_ffmpeg()} "$@"\n')
    program.chmod(0o755)
    return DecoderResource(ffmpeg=str(program))


def reasons(failure: dg.Failure) -> dict[str, tuple[str, str]]:
    """Recording -> (reason, kind) from the table that the UI shows."""
    table = failure.metadata["failed recordings"]
    assert isinstance(table, dg.TableMetadataValue)
    rows = [record.data for record in table.records]
    return {str(row["recording"]): (str(row["reason"]), str(row["kind"])) for row in rows}


def test_a_good_batch_records_each_recording_once_with_its_own_metadata_and_checks(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3, 4, 5)
    result = graph.run(batch)
    assert result.success
    for asset in CHAIN:
        assert graph.materialised(asset) == batch
        assert graph.statuses(asset, batch) == dict.fromkeys(batch, "MATERIALIZED")
        assert graph.evaluations(result, asset) == Counter((check, key) for check in CHECKS[asset] for key in batch)
    for asset in ("video", "audio"):
        durations = [graph.metadata(asset, key)["duration_s"] for key in batch]
        assert durations == pytest.approx([1, 2, 3, 4, 5], abs=0.1)
    assert [graph.metadata("transcript", key)["excerpt"] for key in batch] == [
        f"`0:00` These are {seconds} seconds." for seconds in range(1, 6)
    ]
    assert graph.passages()["media_key"].to_list() == batch


def break_at_video(graph: Graph, _tmp_path: Path) -> None:
    (graph.root / f"audio/{BAD:02}.wav").write_bytes(b"this is no sound" * 1000)


def break_at_audio(graph: Graph, tmp_path: Path) -> None:
    graph.decoder = decoder(
        tmp_path,
        f'case "$*" in *{BAD:02}.wav*speech.flac*) echo "[fatal] the decoder is on fire" >&2; exit 1;; esac',
    )


def break_at_transcript(graph: Graph, _tmp_path: Path) -> None:
    graph.engine.failures[BAD] = [PermanentFailure("nobody understands this")]


@pytest.mark.parametrize(
    ("asset", "break_it", "said"),
    [
        ("video", break_at_video, "Invalid data"),
        ("audio", break_at_audio, "the decoder is on fire"),
        ("transcript", break_at_transcript, "nobody understands this"),
    ],
)
def test_one_bad_file_of_five_neither_stops_nor_hides_the_other_four(
    graph: Graph, tmp_path: Path, asset: str, break_it: Callable[[Graph, Path], None], said: str
) -> None:
    batch = graph.drop(1, 2, BAD, 4, 5)
    break_it(graph, tmp_path)
    bad = f"audio/{BAD:02}.wav"
    good = [key for key in batch if key != bad]

    result = graph.run(batch)

    assert not result.success
    for upstream in CHAIN[: CHAIN.index(asset)]:
        assert graph.statuses(upstream, batch) == dict.fromkeys(batch, "MATERIALIZED")
    assert graph.materialised(asset) == good
    assert graph.statuses(asset, batch) == dict.fromkeys(good, "MATERIALIZED") | {bad: "FAILED"}
    assert graph.evaluations(result, asset) == Counter((check, key) for check in CHECKS[asset] for key in good)
    assert all(graph.metadata(asset, key)["reused"] is False for key in good)
    assert all(graph.tags(asset, key)["dagster/code_version"] == "7" for key in good), "else stale for ever in the UI"

    failure = graph.failure(result, asset)
    assert failure.description
    assert "1 of 5 recordings failed, the others are materialised" in failure.description
    assert bad in failure.description
    assert said in failure.description
    reason, kind = reasons(failure)[bad]
    assert said in reason
    assert kind.startswith("permanent")
    assert retries(graph.instance, result) == 0, "a second try of a broken recording is wasted"

    downstream = CHAIN[CHAIN.index(asset) + 1 :]
    assert not any(graph.materialised(below) for below in downstream)
    for piece in (good[:2], good[2:]):
        assert graph.run(piece, *downstream).success
    assert graph.passages()["media_key"].to_list() == good


def test_automation_carries_on_the_good_ones_and_tries_the_bad_one_once_more_but_not_for_ever(graph: Graph) -> None:
    definitions = graph.definitions()
    batch = graph.drop(1, 2, BAD, 4, 5)
    bad = f"audio/{BAD:02}.wav"
    good = [key for key in batch if key != bad]
    graph.engine.failures[BAD] = [PermanentFailure("no")] * 9
    tick = dg.evaluate_automation_conditions(definitions, graph.instance)
    assert tick.total_requested == 0, "a new recording is the sensor's to start"

    assert not graph.run(batch).success
    tick = dg.evaluate_automation_conditions(definitions, graph.instance, cursor=tick.cursor)
    assert tick.get_requested_partitions(dg.AssetKey("embeddings")) == set(batch)
    assert tick.get_requested_partitions(dg.AssetKey("transcript")) == {bad}
    assert not tick.get_requested_partitions(dg.AssetKey("audio"))

    assert graph.run(good[:2], "embeddings").success
    assert graph.run(good[2:], "embeddings").success
    assert not graph.run([bad], "transcript", "embeddings").success
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


def test_a_lasting_transient_failure_ends_after_the_retries_and_leaves_the_rest_to_a_new_run(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    graph.engine.failures[2] = [TransientFailure("the store is away")] * 9
    result = graph.run(batch)
    assert not result.success
    assert retries(graph.instance, result) == RETRIES.max_retries
    assert graph.materialised("transcript") == [batch[0], batch[2]]
    assert graph.statuses("transcript", batch)[batch[1]] == "FAILED"
    assert reasons(graph.failure(result, "transcript")) == {
        batch[1]: (f"{batch[1]}: the store is away", "transient: a retry may help")
    }
    assert RETRY_RUN not in _tags(graph, result), "automation carries on from `audio`: a second run would do the same"


def test_a_first_step_that_fails_for_longer_than_its_retries_comes_again_by_a_retry_of_the_run(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch, "video", "audio").success
    graph.engine.failures[2] = [TransientFailure("the store is away")] * 9
    result = graph.run(batch, "transcript", "embeddings")
    assert retries(graph.instance, result) == RETRIES.max_retries
    assert _tags(graph, result)[RETRY_RUN] == "true", "nobody else would ever come back to it"


class ToldToLeave(ScriptedEngine):
    """FAKE: its pod gets SIGTERM in the middle of each recording, as Dagster hands that on."""

    def hear(self, _sounds: Iterable[Sound]) -> Iterator[Heard | Exception]:
        """Never says anything."""
        raise DagsterExecutionInterruptedError
        yield from ()


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one executor that can be tried in this process, taken for that of the cluster."""
    monkeypatch.setattr(batches, "KUBERNETES", "execute_in_process_executor")


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
    assert (RETRY_RUN in _tags(graph, result)) is again, "where automation does not carry on, a later run does"


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
    assert RETRY_RUN not in _tags(graph, result)


def test_a_broken_recording_is_no_reason_to_run_the_batch_again(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [PermanentFailure("no")]
    assert RETRY_RUN not in _tags(graph, graph.run(batch))


def _tags(graph: Graph, result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
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


def test_a_bug_that_one_file_meets_does_not_stop_the_others_and_is_told_with_its_file(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    graph.engine.failures[2] = [ZeroDivisionError("division by zero")]
    result = graph.run(batch)
    assert graph.materialised("transcript") == [batch[0], batch[2]]
    description = graph.failure(result, "transcript").description
    assert description
    assert f"{batch[1]}: ZeroDivisionError: division by zero" in description


def test_a_single_recording_runs_alone_and_has_a_data_version_of_its_own(graph: Graph) -> None:
    (key,) = graph.drop(1)
    assert graph.run([key]).success
    assert all(graph.materialised(asset) == [key] for asset in CHAIN)
    etag = graph.store.stat(key).etag
    assert graph.data_version("audio", key).startswith(etag)
    assert etag in graph.data_version("transcript", key)


def test_a_single_bad_recording_fails_with_nothing_but_its_reason(graph: Graph) -> None:
    (key,) = graph.drop(BAD)
    break_at_video(graph, graph.root)
    description = graph.failure(graph.run([key]), "video").description
    assert description
    assert description.startswith(key)
    assert "recordings failed" not in description


def artefact_times(graph: Graph) -> dict[str, int]:
    folders = ("extracted", "posters", "transcripts", "embeddings")
    files = [path for folder in folders for path in (graph.root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(graph.root)): path.stat().st_mtime_ns for path in files}


def test_a_second_run_costs_nothing_and_is_recorded_as_reused(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch).success
    before, encoded = artefact_times(graph), len(graph.encoder.encoded)
    assert graph.run(batch).success
    assert artefact_times(graph) == before
    assert graph.engine.heard == [1, 2]
    assert len(graph.encoder.encoded) == encoded
    assert all(graph.metadata(asset, key)["reused"] is True for asset in CHAIN for key in batch)
    assert graph.passages()["media_key"].to_list() == batch


def test_the_failed_one_alone_is_worked_on_when_the_batch_is_run_again(graph: Graph) -> None:
    batch = graph.drop(1, 2, 3)
    graph.engine.failures[2] = [PermanentFailure("not today")]
    assert not graph.run(batch).success
    assert graph.run(batch).success
    assert graph.engine.heard == [1, 2, 3, 2]
    assert all(graph.statuses(asset, batch) == dict.fromkeys(batch, "MATERIALIZED") for asset in CHAIN)


def test_a_replaced_recording_is_done_anew_and_its_old_passages_are_gone(graph: Graph) -> None:
    graph.passage_s = 5.0
    graph.engine.script = {20: [f"Old sentence {number} ends here." for number in range(10)], 2: ["New words."]}
    batch = graph.drop(1, 20)
    assert graph.run(batch).success
    old = graph.data_version("transcript", batch[1])
    assert graph.passages().filter(media_key=batch[1]).height > 1

    recordings.tone(graph.root / batch[1], 2, rate=16_000)
    assert graph.run(batch[1:]).success

    rows = graph.passages().filter(media_key=batch[1])
    assert rows["text"].to_list() == ["New words."]
    assert rows["media_etag"].to_list() == [graph.store.stat(batch[1]).etag]
    assert graph.passages()["media_key"].to_list() == batch
    assert graph.data_version("transcript", batch[1]) != old
    assert all(graph.metadata(asset, batch[1])["reused"] is False for asset in CHAIN)
    assert graph.store.read(keys.transcript(batch[1], ".txt")) == b"New words.\n"


def test_a_recording_that_lost_its_picture_when_it_was_replaced_shows_no_old_one(graph: Graph, tmp_path: Path) -> None:
    key = "video/a.mp4"
    graph.instance.add_dynamic_partitions("recordings", [key])
    recordings.video(graph.root / key, 1.0)
    assert graph.run([key]).success
    assert graph.store.exists(keys.poster(key))
    assert "poster" in graph.metadata("video", key)

    recordings.tone(tmp_path / "sound.m4a", 1.0).replace(graph.root / key)
    assert graph.run([key]).success
    assert not graph.store.exists(keys.poster(key))
    assert "poster" not in graph.metadata("video", key)


def test_a_recording_that_is_replaced_while_it_is_read_never_mixes_two_versions(graph: Graph, tmp_path: Path) -> None:
    batch = graph.drop(1, 2)
    new, marker = recordings.tone(tmp_path / "new.wav", 5, rate=16_000), tmp_path / "once"
    marker.touch()
    replace = f'cp "{new}" "{graph.root / batch[1]}"'
    graph.decoder = decoder(
        tmp_path, f'case "$*" in *02.wav*speech.flac*) rm "{marker}" 2>/dev/null && {replace};; esac'
    )

    result = graph.run(batch)

    assert not result.success
    assert retries(graph.instance, result) == 1, "it may well succeed another time"
    assert graph.materialised("audio") == [batch[0]]
    reason, _ = reasons(graph.failure(result, "audio"))[batch[1]]
    assert "was replaced" in reason
    assert graph.run(batch).success, "the run that the sensor asks for because the ETag is another"
    assert graph.passages().filter(media_key=batch[1])["text"].to_list() == ["These are 5 seconds."]


def test_a_recording_that_vanished_is_named_and_said_to_be_gone(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    (graph.root / batch[0]).unlink()
    result = graph.run(batch)
    reason, kind = reasons(graph.failure(result, "video"))[batch[0]]
    assert batch[0] in reason
    assert "not found" in reason
    assert kind.startswith("permanent")
    assert graph.materialised("video") == [batch[1]]


def test_another_whisper_option_makes_transcript_and_embeddings_anew_and_decodes_nothing_again(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch).success
    graph.engine = ScriptedEngine(
        options=SpeechOptions(beam_size=1), script={1: ["Better words."], 2: ["Much better words."]}
    )
    assert graph.run(batch).success
    reused = {asset: graph.metadata(asset, batch[0])["reused"] for asset in CHAIN}
    assert reused == {"video": True, "audio": True, "transcript": False, "embeddings": False}
    assert graph.passages()["text"].to_list() == ["Better words.", "Much better words."]


def test_another_encoder_makes_only_embeddings_anew(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch).success
    graph.encoder = HashEncoder(model=EmbeddingModel("hash", "2"))
    assert graph.run(batch).success
    reused = {asset: graph.metadata(asset, batch[0])["reused"] for asset in CHAIN}
    assert reused == {"video": True, "audio": True, "transcript": True, "embeddings": False}
    assert graph.engine.heard == [1, 2]
    graph.refresh()
    assert set(graph.passages()["embedding_model"]) == {"hash@2"}


def test_another_passage_length_makes_only_embeddings_anew(graph: Graph) -> None:
    graph.engine.script = {20: [f"Sentence {number} ends here." for number in range(10)]}
    batch = graph.drop(20)
    assert graph.run(batch).success
    assert graph.passages().height == 1
    graph.passage_s = 5.0
    assert graph.run(batch).success
    assert graph.engine.heard == [20]
    assert graph.passages().height == 1, "the table that is searched stays whole until the other one is"
    assert graph.refresh()["building"] == "nothing"
    assert graph.passages().height > 1


def test_vectors_of_another_length_never_mix_with_those_that_are_there(graph: Graph) -> None:
    one, two = graph.drop(1, 2)
    assert graph.run([one, two]).success
    graph.encoder = HashEncoder(model=EmbeddingModel("wide", "1"), dimension=2 * DIMENSION)
    assert graph.run([one]).success
    assert graph.refresh()["table"] != graph.refresh()["building"]
    assert graph.passages()["media_key"].to_list() == [one, two], "what could be found before is still found"
    assert graph.run([two]).success
    assert graph.refresh()["building"] == "nothing"
    assert set(graph.passages()["embedding_model"]) == {"wide@1"}


def test_a_damaged_search_table_is_rebuilt_by_deleting_it_as_the_message_says(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch).success
    for manifest in (graph.root / "lancedb").rglob("*.manifest"):
        manifest.write_bytes(b"garbage")
    result = graph.run(batch)
    assert retries(graph.instance, result) == 0
    description = graph.failure(result, "embeddings").description
    assert description
    assert "delete the folder lancedb/" in description
    noted = [failure.load(graph.store, key) for key in batch]
    assert [note and note.step for note in noted] == ["embeddings", "embeddings"], "the library says it too"
    shutil.rmtree(graph.root / "lancedb")
    assert graph.run(batch).success
    assert [failure.load(graph.store, key) for key in batch] == [None, None]
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
    noted = failure.load(graph.store, key)
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


def test_silence_is_a_success_that_says_so_and_leaves_nothing_to_find(graph: Graph) -> None:
    graph.engine.script = {1: [], 2: []}
    batch = graph.drop(1, 2)
    result = graph.run(batch)
    assert result.success
    assert graph.metadata("transcript", batch[0])["no_speech"] is True
    assert graph.metadata("embeddings", batch[0])["dagster/row_count"] == 0
    assert graph.passages().is_empty()


def test_a_file_without_its_record_is_made_again_because_its_maker_was_killed(graph: Graph) -> None:
    (key,) = graph.drop(2)
    assert graph.run([key]).success
    graph.store.write(keys.flac(key), b"half a fi")
    graph.store.delete(keys.audio_record(key), keys.transcript(key))
    assert graph.run([key]).success
    assert graph.engine.heard == [2, 2], "a damaged FLAC would have been heard for another length"


@pytest.mark.parametrize("path", [keys.video_record, keys.audio_record, keys.transcript, keys.passages])
def test_a_damaged_artefact_is_made_again_and_not_a_failure_for_ever(graph: Graph, path: Callable[[str], str]) -> None:
    (key,) = graph.drop(2)
    assert graph.run([key]).success
    graph.store.write(path(key), b'{"version": "1"')
    assert graph.run([key]).success
    assert graph.passages()["text"].to_list() == ["These are 2 seconds."]


def test_sentences_that_whisper_put_on_the_same_instant_are_not_taken_for_lost(graph: Graph) -> None:
    (key,) = graph.drop(2)
    assert graph.run([key]).success
    spoken = from_json(graph.store.read(keys.transcript(key)))
    twins = (segment("Yes indeed.", 1.0, 1.0), segment("Certainly not.", 1.0, 1.0))
    graph.store.write(keys.transcript(key), dataclasses.replace(spoken, segments=twins).to_json())
    made = embeddings.materialise(graph.store, key, graph.encoder, embeddings.Choice(30.0))
    assert made.sentences == 2
    assert made.is_complete


def test_names_of_all_kinds_run_as_a_range_and_are_found_under_their_keys(graph: Graph, tmp_path: Path) -> None:
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
    batch = sorted(map(keys.encode, names))
    graph.instance.add_dynamic_partitions("recordings", batch)
    assert graph.run(batch).success
    assert graph.materialised("embeddings") == batch
    assert sorted(graph.passages()["media_key"]) == batch


def test_the_search_index_is_kept_in_order_on_an_empty_store_and_on_a_full_one(graph: Graph) -> None:
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
        "building": "nothing",
    }
