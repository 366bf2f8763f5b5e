"""Finished work is reused, and changed inputs are processed again."""

from pathlib import Path

from transcription_assets.domain import media_keys
from transcription_assets.embedding import EmbeddingModel
from transcription_assets.errors import PermanentFailure
from transcription_assets.speech import SpeechOptions
from transcription_assets_tests import recordings
from transcription_assets_tests.fakes import DIMENSION, HashEncoder, ScriptedEngine
from transcription_assets_tests.graph_runs import CHAIN, Graph


def artefact_times(graph: Graph) -> dict[str, int]:
    folders = ("extracted", "posters", "transcripts", "embeddings")
    files = [path for folder in folders for path in (graph.root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(graph.root)): path.stat().st_mtime_ns for path in files}


def test_second_run_reuses_all_artefacts(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    assert graph.run(batch).success
    before, encoded = artefact_times(graph), len(graph.encoder.encoded)
    assert graph.run(batch).success
    assert artefact_times(graph) == before
    assert graph.engine.decoded == [1, 2]
    assert len(graph.encoder.encoded) == encoded
    assert all(graph.metadata(asset, key)["reused"] is True for asset in CHAIN for key in batch)
    assert graph.passages()["media_key"].to_list() == batch


def test_second_run_processes_only_the_failed_recording(graph: Graph) -> None:
    batch = graph.drop(1, 2)
    graph.engine.failures[2] = [PermanentFailure("not today")]
    assert graph.run(batch).success
    assert graph.statuses("transcript", batch)[batch[1]] == "FAILED"
    assert graph.run(batch).success
    assert graph.engine.decoded == [1, 2, 2]
    assert all(graph.statuses(asset, batch) == dict.fromkeys(batch, "MATERIALIZED") for asset in CHAIN)


def test_replaced_recording_is_reprocessed_and_loses_old_passages(graph: Graph) -> None:
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
    assert graph.store.read(media_keys.transcript(batch[1], ".txt")) == b"New words.\n"


def test_poster_is_removed_if_the_replacement_has_no_video(graph: Graph, tmp_path: Path) -> None:
    key = "video/a.mp4"
    graph.instance.add_dynamic_partitions("recordings", [key])
    recordings.video(graph.root / key, 1.0)
    assert graph.run([key]).success
    assert graph.store.exists(media_keys.poster(key))
    assert "poster" in graph.metadata("video", key)

    recordings.tone(tmp_path / "sound.m4a", 1.0).replace(graph.root / key)
    assert graph.run([key]).success
    assert not graph.store.exists(media_keys.poster(key))
    assert "poster" not in graph.metadata("video", key)


def test_changed_whisper_option_recomputes_from_the_transcript_on(graph: Graph) -> None:
    batch = graph.drop(1)
    assert graph.run(batch).success
    graph.engine = ScriptedEngine(options=SpeechOptions(beam_size=1), script={1: ["Better words."]})
    assert graph.run(batch).success
    reused = {asset: graph.metadata(asset, batch[0])["reused"] for asset in CHAIN}
    assert reused == {"video": True, "audio": True, "transcript": False, "embeddings": False}
    assert graph.passages()["text"].to_list() == ["Better words."]


def test_changed_encoder_recomputes_only_embeddings(graph: Graph) -> None:
    batch = graph.drop(1)
    assert graph.run(batch).success
    graph.encoder = HashEncoder(model=EmbeddingModel("hash", "2"))
    assert graph.run(batch).success
    reused = {asset: graph.metadata(asset, batch[0])["reused"] for asset in CHAIN}
    assert reused == {"video": True, "audio": True, "transcript": True, "embeddings": False}
    assert graph.engine.decoded == [1]
    graph.refresh()
    assert set(graph.passages()["embedding_model"]) == {"hash@2"}


def test_changed_passage_length_recomputes_only_embeddings(graph: Graph) -> None:
    graph.engine.script = {20: [f"Sentence {number} ends here." for number in range(10)]}
    batch = graph.drop(20)
    assert graph.run(batch).success
    assert graph.passages().height == 1
    graph.passage_s = 5.0
    assert graph.run(batch).success
    assert graph.engine.decoded == [20]
    assert graph.passages().height == 1, "the old table is searched until the new one is complete"
    assert graph.refresh()["building"] == "none"
    assert graph.passages().height > 1


def test_vectors_of_another_dimension_go_to_a_new_table(graph: Graph) -> None:
    one, two = graph.drop(1, 2)
    assert graph.run([one, two]).success
    graph.encoder = HashEncoder(model=EmbeddingModel("wide", "1"), dimension=2 * DIMENSION)
    assert graph.run([one]).success
    assert graph.refresh()["table"] != graph.refresh()["building"]
    assert graph.passages()["media_key"].to_list() == [one, two], "the old table is still searched"
    assert graph.run([two]).success
    assert graph.refresh()["building"] == "none"
    assert set(graph.passages()["embedding_model"]) == {"wide@1"}


def test_audio_file_without_its_record_is_extracted_again(graph: Graph) -> None:
    (key,) = graph.drop(2)
    assert graph.run([key]).success
    graph.store.write(media_keys.flac(key), b"half a fi")
    graph.store.delete(media_keys.audio_record(key), media_keys.transcript(key))
    assert graph.run([key]).success
    assert graph.engine.decoded == [2, 2], "a damaged FLAC would have another duration"


def test_damaged_artefact_is_recomputed(graph: Graph) -> None:
    (key,) = graph.drop(2)
    assert graph.run([key]).success
    damaged = b'{"version": "1"'
    for path in (media_keys.video_record, media_keys.audio_record, media_keys.transcript, media_keys.passages):
        graph.store.write(path(key), damaged)
        assert graph.run([key]).success, path
        assert graph.store.read(path(key)) != damaged, path
        assert graph.passages()["text"].to_list() == ["These are 2 seconds."], path
