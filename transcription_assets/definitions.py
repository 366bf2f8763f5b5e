"""The Dagster code location: assets, checks, jobs, sensors, executor and resources, built from the settings."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from transcription_assets import settings, speech, wiring
from transcription_assets.costs.prices import CPU_SIZES
from transcription_assets.defs import assets, events, jobs, resources, sources
from transcription_assets.defs.executors import kubernetes, placement
from transcription_assets.defs.executors.kubernetes import Deadlines
from transcription_assets.defs.inbox.sensor import SensorLimits, inbox_sensor
from transcription_assets.defs.jobs import automation_sensor
from transcription_assets.defs.resources import (
    DecoderResource,
    DiariserResource,
    EncoderResource,
    FetcherResource,
    SlideReaderResource,
    SpeechResource,
    StoreResource,
)
from transcription_assets.models.catalogue import CATALOGUE
from transcription_assets.pipeline import audio, embeddings, slides, speakers, video
from transcription_assets.settings import Settings
from transcription_assets.workers.nodes import Cluster, threads

EXECUTORS = {
    "in_process": resources.fixed_executor(dg.in_process_executor),
    "multiprocess": resources.fixed_executor(dg.multiprocess_executor),
}
STEPS = tuple(CPU_SIZES)


def code_versions(chosen: Settings) -> dict[str, str]:
    """Return the code version of each asset: a change marks existing materialisations as stale in the UI."""
    encoder = _pinned(chosen.encoder_model)
    recogniser = f"{speech.VERSION}, {_pinned(chosen.whisper_model)}"
    if chosen.engine == "openai":
        where = speech.service.revision(chosen.speech_model, chosen.speech_url)
        recogniser = f"service {speech.service.VERSION}, {chosen.speech_model}{where and f' at {where}'}"
    apart = "channels" if chosen.speakers == "channels" else "mixed"
    return {
        "video": video.VERSION,
        "audio": audio.VERSION,
        "transcript": f"{recogniser}, beam {chosen.beam_size}, "
        f"{chosen.language or 'language detected'}, {chosen.task}, {apart}",
        "speakers": f"{speakers.VERSION}, {chosen.diariser}, {chosen.speakers}, "
        f"{chosen.speakers_min} to {chosen.speakers_max or 'any'}",
        "slides": f"{slides.VERSION}, {_pinned(wiring.READER_MODEL)}",
        "embeddings": f"{embeddings.VERSION}, {encoder}, {chosen.passage_s:g} s"
        + (f", by {chosen.embedding_url}" if chosen.embedding_url else "")
        + (", with words of low confidence" if chosen.search_low_confidence else "")
        + (", with slides" if chosen.slides else ""),
    }


def _store(chosen: Settings) -> StoreResource:
    """Return the resource of a folder or a bucket; dagster-aws is imported for a bucket only."""
    if not chosen.store.startswith("s3://"):
        return StoreResource(url=chosen.store, done_prefix=chosen.done_prefix, link_roots=chosen.link_roots)
    from dagster_aws.s3 import S3Resource

    from transcription_assets.defs.s3_resource import BucketResource

    return BucketResource(url=chosen.store, done_prefix=chosen.done_prefix, s3=S3Resource())


def _executor(chosen: Settings) -> dg.ExecutorDefinition:
    """Return the executor that the settings choose."""
    if chosen.executor != "k8s":
        return EXECUTORS[chosen.executor]
    placed = Cluster.of(chosen)
    return kubernetes.executor(
        {step: placement.pod_config(step, placed) for step in STEPS},
        Deadlines(chosen.k8s_start_limit_s, chosen.step_floor_s, chosen.step_per_second),
    )


def _prices(chosen: Settings) -> dict[str, dict[str, float]]:
    """Return the resources and the price of each step's own pod; empty if steps do not run in pods."""
    placed = Cluster.of(chosen)
    return {step: placement.price_tag(placed.size(step)) for step in STEPS} if chosen.executor == "k8s" else {}


def _threads(chosen: Settings) -> int:
    """Return the threads of the speech model; by default the cores of its pod, which sees all those of its node."""
    if chosen.cpu_threads or chosen.executor != "k8s":
        return chosen.cpu_threads
    return threads(Cluster.of(chosen).work_size("transcript"))


def _described(
    spec: dg.AssetSpec, versions: Mapping[str, str], prices: Mapping[str, Mapping[str, float]]
) -> dg.AssetSpec:
    name = spec.key.to_user_string()
    return spec.replace_attributes(code_version=versions.get(name), metadata={**spec.metadata, **prices.get(name, {})})


def _pinned(name: str) -> str:
    """Return a catalogue name with the revision that this release pins; other names are unchanged."""
    known = CATALOGUE.get(name)
    return f"{name}@{known.revision[:12]}" if known else name


def build(chosen: Settings) -> dg.Definitions:
    """Build the definitions for these settings."""
    versions, prices = code_versions(chosen), _prices(chosen)
    optional = {"speakers": chosen.finds_voices, "slides": chosen.slides}
    added = [name for name, wanted in optional.items() if wanted]
    return dg.Definitions(
        assets=dg.map_asset_specs(
            lambda spec: _described(spec, versions, prices), [sources.sources, *assets.graph(*added)]
        ),
        jobs=[jobs.process_recordings(*added), jobs.refresh_search, sources.fetch_sources],
        sensors=[
            inbox_sensor(
                SensorLimits(
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
            *sources.sensors,
            events.events,
        ],
        executor=_executor(chosen),
        resources=resources.fixed_resources(_resources(chosen)),
    )


def _resources(chosen: Settings) -> dict[str, dg.ConfigurableResource[Any]]:
    """Return the resources of the assets and the sensor."""
    folder = str(chosen.models_dir)
    return {
        "store": _store(chosen),
        "decoder": DecoderResource(
            ffmpeg=chosen.ffmpeg,
            floor_s=chosen.decode_floor_s,
            per_second=chosen.decode_per_second,
            keep_channels=chosen.speakers == "channels",
            audio_tracks=chosen.audio_tracks,
            longest_hours=chosen.longest_hours,
            disk_gib=Cluster.of(chosen).size("audio").disk_gib if chosen.executor == "k8s" else chosen.disk_gib,
        ),
        "speech": SpeechResource(
            whisper_model=chosen.whisper_model,
            models_dir=folder,
            device=chosen.device,
            compute_type=chosen.compute_type,
            device_index=chosen.device_index,
            cpu_threads=_threads(chosen),
            workers=chosen.workers,
            batch_size=chosen.batch_size,
            language=chosen.language,
            beam_size=chosen.beam_size,
            task=chosen.task,
            speakers=chosen.speakers,
            launcher=chosen.launcher,
            worker_processes=chosen.worker_processes,
            shard_s=chosen.shard_s,
            engine=chosen.engine,
            speech_url=chosen.speech_url,
            speech_model=chosen.speech_model,
            speech_requests=chosen.speech_requests,
            speech_timeout_s=chosen.speech_timeout_s,
        ),
        "fetcher": FetcherResource(),
        **({"diariser": DiariserResource()} if chosen.finds_voices else {}),
        **({"slide_reader": SlideReaderResource()} if chosen.slides else {}),
        "encoder": EncoderResource(
            name=chosen.encoder_model,
            models_dir=folder,
            device=chosen.encodes_on,
            passage_s=chosen.passage_s,
            search_low_confidence=chosen.search_low_confidence,
            slides=chosen.slides,
            url=chosen.embedding_url,
            key=chosen.embedding_key.get_secret_value(),
            dollars_per_million=chosen.embedding_dollars,
        ),
    }


defs = build(settings.load())
