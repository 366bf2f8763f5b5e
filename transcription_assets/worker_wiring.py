"""Builds the speech engine and the workers of a step from settings, for `wiring` and Dagster."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from transcription_assets import settings
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import Located
from transcription_assets.pipeline.decoding import InProcessTranscriber, Transcriber
from transcription_assets.service_client import TIMEOUT_S, ServiceClient
from transcription_assets.settings import Settings
from transcription_assets.speech import (
    Engine,
    Hardware,
    ServiceEngine,
    Speakers,
    SpeechOptions,
    Task,
    Whisper,
    service,
    usable_cores,
)
from transcription_assets.workers.coordinator import Announce, WorkerTranscriber
from transcription_assets.workers.kubernetes import KubernetesLauncher
from transcription_assets.workers.launcher import Launcher
from transcription_assets.workers.manifest import Stage
from transcription_assets.workers.nebius import NebiusLauncher, NebiusOptions
from transcription_assets.workers.nodes import Cluster
from transcription_assets.workers.recordings import RecordingWorkers
from transcription_assets.workers.subprocesses import COMMAND, SubprocessLauncher

log = logging.getLogger(__name__)

Locate = Callable[[str, str], Located]
"""Function that finds (or pulls) a model by name and kind; raises PermanentFailure if it cannot."""
STAGE_SETTINGS: Mapping[Stage, Sequence[str]] = {
    "audio": ("decode_floor_s", "decode_per_second", "speakers", "audio_tracks", "longest_hours"),
    "embeddings": (
        "device",
        "encoder_device",
        "encoder_model",
        "passage_s",
        "search_low_confidence",
        "slides",
        "embedding_url",
        "embedding_dollars",
    ),
}
"""Settings that a worker needs besides the store and folders, by stage; see also `SpeechSettings`."""


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """The settings of the speech model and of its workers, by the names that the environment and Dagster use."""

    whisper_model: str
    models_dir: Path
    device: str
    compute_type: str
    device_index: str
    cpu_threads: int
    workers: int
    batch_size: int
    language: str
    beam_size: int
    task: Task
    speakers: str
    launcher: str
    worker_processes: int
    shard_s: float
    engine: str = "whisper"
    speech_url: str = ""
    speech_model: str = ""
    speech_requests: int = 4
    speech_timeout_s: float = TIMEOUT_S
    ffmpeg: str = ""

    @classmethod
    def of(cls, source: object, **changes: Any) -> "SpeechSettings":
        """Return the settings that `source` has as attributes, with changes.

        Raises:
            AttributeError: `source` lacks one.

        """
        names = (item.name for item in fields(cls) if item.name not in changes)
        return cls(**{name: getattr(source, name) for name in names}, **changes)

    @property
    def hardware(self) -> Hardware:
        """The hardware that a worker uses.

        Raises:
            ValueError: `device_index` is not a list of numbers separated by commas.

        """
        return Hardware(
            device=self.device,
            compute_type=self.compute_type,
            cpu_threads=self.cpu_threads,
            workers=self.workers,
            batch_size=self.batch_size,
            devices=tuple(map(int, self.device_index.split(","))),
        )

    @property
    def local_gpus(self) -> int:
        """Number of GPUs of this machine that decode, 0 if other machines do it."""
        is_here = self.launcher in ("in_process", "subprocess")
        return len(self.hardware.devices) if is_here and self.hardware.on_gpu else 0

    @property
    def options(self) -> SpeechOptions:
        """The options that affect the words."""
        apart: Speakers = "channels" if self.speakers == "channels" else "mixed"
        return SpeechOptions(self.language, self.beam_size, self.task, apart)

    def environments(self) -> list[dict[str, str]]:
        """Return the variables of each worker process: these settings, with its share of the cores and GPUs."""
        count = self.worker_processes
        devices = self.device_index.split(",")
        threads = max(1, (self.cpu_threads or usable_cores()) // count) if count > 1 else self.cpu_threads
        own = {f"TRANSCRIPTION_{item.name.upper()}": str(getattr(self, item.name)) for item in fields(self)}
        shares = [devices[number::count] or [devices[number % len(devices)]] for number in range(count)]
        return [
            own | {"TRANSCRIPTION_CPU_THREADS": str(threads), "TRANSCRIPTION_DEVICE_INDEX": ",".join(share)}
            for share in shares
        ]


def build_engine(locate: Locate, chosen: SpeechSettings, key: SecretStr) -> Engine:
    """Build the speech engine; its weights load on first use. `key` is that of the speech service.

    Raises:
        PermanentFailure: the URL or the key of the service is missing or invalid.
        TranscriptionError: the model cannot be located.
        ValueError: `chosen.device_index` is not a list of numbers separated by commas.

    """
    if chosen.engine == "openai":
        return _build_service_engine(chosen, key.get_secret_value())
    located = locate(chosen.whisper_model, "speech")
    return Whisper(
        located.path,
        name=located.name,
        revision=located.revision,
        hardware=chosen.hardware,
        options=chosen.options,
    )


def _build_service_engine(chosen: SpeechSettings, key: str) -> Engine:
    if not chosen.speech_url:
        hint = "set TRANSCRIPTION_SPEECH_URL to the base URL of a speech service, such as http://host:8010/v1"
        raise PermanentFailure(f"TRANSCRIPTION_ENGINE=openai needs a service: {hint}", hint=hint)
    client = ServiceClient(
        chosen.speech_url,
        "speech",
        key=key,
        timeout_s=chosen.speech_timeout_s,
        most_bytes=service.MOST_BYTES,
        requests=chosen.speech_requests,
    )
    return ServiceEngine(client, chosen.speech_model, requests=chosen.speech_requests, options=chosen.options)


def build_transcriber(
    engine: Engine, chosen: SpeechSettings, ffmpeg: str, owner: str, announce: Announce = log.info
) -> Transcriber:
    """Build the transcriber: in this process, or with workers.

    `owner` identifies a run and its retries: they never work at the same time, so an earlier process of it is dead.
    `announce` is called with the changes of shards.

    Raises:
        PermanentFailure: a setting that the workers need is missing.

    """
    if chosen.launcher == "in_process":
        return InProcessTranscriber(engine, ffmpeg, owner)
    if chosen.launcher == "subprocess":
        processes = SubprocessLauncher(chosen.environments())
        # Idle processes cost nothing, so no shard is too short.
        return WorkerTranscriber(engine, processes, 0.0, owner, announce)
    own = replace(chosen, worker_processes=1).environments()[0]
    launcher = _remote_launcher(chosen.launcher, "transcript", own, settings.load())
    return WorkerTranscriber(engine, launcher, chosen.shard_s, owner, announce)


def _remote_launcher(name: str, stage: Stage, environment: Mapping[str, str], chosen: Settings) -> Launcher:
    """Build the launcher of pods or jobs; `environment` holds the settings of a stage, for jobs."""
    if name == "kubernetes":
        return KubernetesLauncher(Cluster.of(chosen), chosen.k8s_workers, chosen.k8s_start_limit_s)
    local = {"TRANSCRIPTION_MODELS_DIR", "TRANSCRIPTION_FFMPEG", "TRANSCRIPTION_LAUNCHER"}
    remote = {name: value for name, value in environment.items() if name not in local}
    return NebiusLauncher(NebiusOptions.of(chosen, stage), remote)


def build_recording_workers(
    stage: Stage,
    options: Mapping[str, Any],
    owner: str,
    chosen: Settings | None = None,
    announce: Announce = log.info,
) -> RecordingWorkers:
    """Build the workers that do a step for whole recordings; none if the step does it in its own process.

    `options` are those that the results depend on; `owner` and `announce` are as of `build_transcriber`.

    Raises:
        PermanentFailure: a setting that the workers need is missing.

    """
    chosen = chosen or settings.load()
    name: str = getattr(chosen, f"{stage}_launcher")
    if name == "in_process":
        return RecordingWorkers(stage)
    own = {f"TRANSCRIPTION_{field.upper()}": str(getattr(chosen, field)) for field in STAGE_SETTINGS[stage]}
    if name == "subprocess":
        command = (*COMMAND, "--stage", stage)
        local = own | {"TRANSCRIPTION_MODELS_DIR": str(chosen.models_dir), "TRANSCRIPTION_FFMPEG": chosen.ffmpeg}
        # A recording reports no progress while it is extracted; ffmpeg has a time limit of its own.
        stall_s = math.inf if stage == "audio" else None
        launcher: Launcher = SubprocessLauncher([local] * chosen.worker_processes, command, stall_s)
        return RecordingWorkers(stage, launcher, options, 0.0, f"{owner}-{stage}", announce)
    launcher = _remote_launcher(name, stage, own, chosen)
    return RecordingWorkers(stage, launcher, options, chosen.shard_s, f"{owner}-{stage}", announce)
