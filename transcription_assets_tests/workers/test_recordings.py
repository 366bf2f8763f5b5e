"""Extraction and encoding of whole recordings by real worker processes (the encoder is a FAKE)."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.pipeline import audio, embeddings, failure_notes, shard_status, video
from transcription_assets.pipeline.embeddings import PassageOptions
from transcription_assets.pipeline.quarantine import WorkerDied
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.manifest import Manifest, ManifestRecording
from transcription_assets.workers.recordings import RecordingWorkers, WorkerBatch
from transcription_assets.workers.subprocesses import SubprocessLauncher
from transcription_assets.workers.worker import ExitCode, speech_settings
from transcription_assets_tests import recordings, waiting
from transcription_assets_tests.chain import script
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine
from transcription_assets_tests.workers.batch import FFMPEG, WORKER, extracted, in_process, workers

DECODER = MediaDecoder(FFMPEG)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def probed(store: Store, *seconds: int) -> list[str]:
    keys = []
    for number, length in enumerate(seconds):
        keys.append(f"audio/{number:02}.wav")
        recordings.tone(Path(store.url) / keys[-1], length, rate=8_000, frequency=300.0 + 10 * number)
        video.materialise(store, keys[-1], DECODER)
    return keys


@contextmanager
def extracting(
    store: Store, keys: list[str], count: int = 1, stage: str = "audio", **environment: str
) -> Iterator[WorkerBatch]:
    own = {"TRANSCRIPTION_FFMPEG": FFMPEG, **environment}
    launcher = SubprocessLauncher([own] * count, (*WORKER, "--stage", stage))
    extraction = RecordingWorkers("audio", launcher, audio.options(DECODER))
    try:
        with extraction.begin(
            store, keys, lambda key: audio.pending(store, key, DECODER), lambda _key, _done_s: None
        ) as delegated:
            yield delegated
            delegated.end()
    finally:
        extraction.close()


def left_behind(store: Store) -> list[str]:
    return [*store.list(media_keys.work()), *store.list("deaths/")]


def test_workers_extract_the_audio_of_a_batch(store: Store) -> None:
    keys = probed(store, 3, 2, 4)
    with extracting(store, keys, count=2) as delegated:
        assert [delegated.finish(key) for key in keys] == [True] * 3
        assert not delegated.finish("audio/other.wav")
    assert [audio.materialise(store, key, DECODER).reused for key in keys] == [True] * 3
    with extracting(store, keys) as delegated:
        assert not any(delegated.finish(key) for key in keys), "all are extracted"
    assert left_behind(store) == []


def test_recording_that_kills_its_extraction_fails_alone(store: Store) -> None:
    keys = probed(store, 3, 2, 4)
    with extracting(store, keys, POISON="2") as delegated:
        assert delegated.finish(keys[0])
        assert delegated.finish(keys[2])
        with pytest.raises(WorkerDied) as caught:
            delegated.finish(keys[1])
    assert (caught.value.key, caught.value.step) == (keys[1], "audio")
    note = failure_notes.load(store, keys[1])
    assert note is not None
    assert note.step == "audio"


def test_broken_recording_does_not_stop_the_others(store: Store) -> None:
    keys = probed(store, 3, 2)
    broken = Path(store.url) / keys[0]
    stat = broken.stat()
    broken.write_bytes(b"\0" * stat.st_size)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with extracting(store, keys) as delegated:
        assert delegated.finish(keys[1])
        with pytest.raises(PermanentFailure):
            delegated.finish(keys[0])


def test_workers_of_another_stage_refuse_the_work(store: Store) -> None:
    keys = probed(store, 2, 3)
    with extracting(store, keys, stage="embeddings") as delegated:
        for key in keys:
            with pytest.raises(PermanentFailure):
                delegated.finish(key)


def test_recording_that_cannot_be_given_to_workers_has_its_failure(store: Store) -> None:
    (key,) = probed(store, 2)
    with extracting(store, [key, "audio/missing.wav"]) as delegated:
        with pytest.raises(NotFound):
            delegated.finish("audio/missing.wav")
        assert delegated.finish(key)


def test_workers_encode_what_this_process_would(store: Store) -> None:
    batch = extracted(store, 5, 7)
    batch.transcribe(in_process())
    encoder, options = HashEncoder(), PassageOptions()
    launcher = SubprocessLauncher([{"TRANSCRIPTION_FFMPEG": FFMPEG}], (*WORKER, "--stage", "embeddings"))
    encoding = RecordingWorkers("embeddings", launcher, embeddings.options(encoder, options))
    with encoding.begin(
        store,
        batch.keys,
        lambda key: embeddings.pending(store, key, encoder, options),
        lambda _key, _done_s: None,
    ) as delegated:
        assert [delegated.finish(key) for key in batch.keys] == [True, True]
        delegated.end()
    encoding.close()
    made = [embeddings.materialise(store, key, encoder, options) for key in batch.keys]
    assert [item.reused for item in made] == [True, True]
    assert encoder.encoded == []
    store.delete(*map(media_keys.passages, batch.keys))
    again = [embeddings.materialise(store, key, encoder, options) for key in batch.keys]
    assert [item.rows.to_dicts() for item in again] == [item.rows.to_dicts() for item in made]


def test_worker_ends_after_its_coordinator_and_blames_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "HEARTBEAT_S", 0.02)
    (key,) = extracted(store, 5).keys
    source = audio.load(store, key)
    assert source is not None
    settings = speech_settings(ScriptedEngine(script()))
    recording = ManifestRecording(key, "1", source.sha256)
    work = Manifest("1" * 32, "run", "transcript", settings, (recording,), ((((key, 0, 0),),),), 0.0)
    work.write(store)
    environment = {**os.environ, "TRANSCRIPTION_STORE": store.url, "TRANSCRIPTION_FFMPEG": FFMPEG}
    environment |= {"DECODE_S": "600", "HEARTBEAT_S": "0.5"}
    place = shard_status.path(work.identifier, 0)

    def is_decoding() -> bool:
        status = shard_status.load(store, place)
        return status is not None and bool(status.current)

    with manifests.Heartbeat(store, work.identifier):
        command = [*WORKER, "work", work.identifier, "--shard", "0"]
        worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        waiting.until("it decodes", is_decoding, worker.poll)
    assert worker.wait() == ExitCode.TRANSIENT
    status = shard_status.load(store, place)
    assert status is not None
    assert status.current == ()


def test_worker_goes_on_while_its_coordinator_lives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = extracted(store, 5)
    monkeypatch.setattr(manifests, "HEARTBEAT_S", 0.05)
    with workers(DECODE_S="4", HEARTBEAT_S="0.5") as tools:
        assert not [item for item in batch.transcribe(tools).values() if isinstance(item, Exception)]
    assert left_behind(store) == []
