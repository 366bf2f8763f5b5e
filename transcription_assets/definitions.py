"""The code location, on one page: assets, checks, jobs, sensors, executor, resources."""

import dagster as dg

from transcription_assets import settings, speech
from transcription_assets.defs import assets, jobs
from transcription_assets.defs.automation import automation_sensor
from transcription_assets.defs.resources import (
    DecoderResource,
    EncoderResource,
    SpeechResource,
    StoreResource,
)
from transcription_assets.defs.sensors import Pace, inbox_sensor
from transcription_assets.models.catalogue import CATALOGUE
from transcription_assets.settings import Settings
from transcription_assets.steps import audio, embeddings, video

EXECUTORS = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}


def code_versions(chosen: Settings) -> dict[str, str]:
    """What would change an asset's output: a new value marks what was made before as stale in the UI."""
    whisper, encoder = _pinned(chosen.whisper_model), _pinned(chosen.encoder_model)
    return {
        "video": video.VERSION,
        "audio": audio.VERSION,
        "transcript": f"{speech.VERSION}, {whisper}, beam {chosen.beam_size}, "
        f"{chosen.language or 'language detected'}, {chosen.task}, {chosen.speakers}",
        "embeddings": f"{embeddings.VERSION}, {encoder}, {chosen.passage_s:g} s"
        + (", with doubtful words" if chosen.search_doubtful else ""),
    }


def _store(chosen: Settings) -> StoreResource:
    """A folder, or a bucket by way of dagster-aws, which is loaded only then."""
    if not chosen.store.startswith("s3://"):
        return StoreResource(url=chosen.store, done_prefix=chosen.done_prefix)
    from dagster_aws.s3 import S3Resource

    from transcription_assets.defs.bucket import BucketResource

    return BucketResource(url=chosen.store, done_prefix=chosen.done_prefix, s3=S3Resource())


def _pinned(name: str) -> str:
    """A catalogue name with the revision that it stands for in this release."""
    known = CATALOGUE.get(name)
    return f"{name}@{known.revision[:12]}" if known else name


def build(chosen: Settings) -> dg.Definitions:
    """The definitions for these settings."""
    versions = code_versions(chosen)
    folder = str(chosen.models_dir)
    return dg.Definitions(
        assets=dg.map_asset_specs(
            lambda spec: spec.replace_attributes(code_version=versions.get(spec.key.to_user_string())),
            assets.GRAPH,
        ),
        jobs=[jobs.process_recordings, jobs.refresh_search],
        sensors=[
            inbox_sensor(
                Pace(
                    interval_s=chosen.sensor_interval_s,
                    settle_s=chosen.settle_s,
                    max_adds=chosen.sensor_max_adds,
                    run_max_files=chosen.run_max_files,
                    run_max_bytes=int(chosen.run_max_gb * 1e9),
                    remove_gone=chosen.remove_gone,
                    remove_max_share=chosen.remove_max_share,
                    max_runs=chosen.sensor_max_runs,
                    queue_url=chosen.inbox_queue,
                    list_every_s=chosen.list_every_s,
                )
            ),
            automation_sensor,
        ],
        executor=EXECUTORS[chosen.executor],
        resources={
            "store": _store(chosen),
            "decoder": DecoderResource(
                ffmpeg=chosen.ffmpeg,
                floor_s=chosen.decode_floor_s,
                per_second=chosen.decode_per_second,
                keep_channels=chosen.speakers == "channels",
            ),
            "speech": SpeechResource(
                name=chosen.whisper_model,
                models_dir=folder,
                device=chosen.device,
                compute_type=chosen.compute_type,
                device_index=chosen.device_index,
                cpu_threads=chosen.cpu_threads,
                workers=chosen.workers,
                batch_size=chosen.batch_size,
                language=chosen.language,
                beam_size=chosen.beam_size,
                task=chosen.task,
                speakers=chosen.speakers,
            ),
            "encoder": EncoderResource(
                name=chosen.encoder_model,
                models_dir=folder,
                device=chosen.device,
                passage_s=chosen.passage_s,
                search_doubtful=chosen.search_doubtful,
            ),
        },
    )


defs = build(settings.load())
