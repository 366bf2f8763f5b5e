"""Resources of the assets: configured in definitions.py, shown in the UI, loaded on first use.

Dagster lets a person who launches a run set every field of a resource, an executor or an I/O manager, also from an
environment variable. Programs, addresses, folders and secrets must come from the operator's settings only, so
definitions use `fixed_resources` and `fixed_executor`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from transcription_assets import media, models, settings, wiring, worker_wiring
from transcription_assets.embedding import Encoder
from transcription_assets.models import Located
from transcription_assets.pipeline import audio, embeddings
from transcription_assets.pipeline.decoding import Transcriber
from transcription_assets.pipeline.embeddings import PassageOptions
from transcription_assets.pipeline.slides import SlideTools
from transcription_assets.pipeline.speakers import SpeakerTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.search.index import Index
from transcription_assets.search.voiceprints import Voiceprints
from transcription_assets.service_client import TIMEOUT_S
from transcription_assets.settings import folders
from transcription_assets.sources.fetching import Fetcher
from transcription_assets.speech import Task
from transcription_assets.storage import Store
from transcription_assets.workers.coordinator import Announce
from transcription_assets.workers.recordings import RecordingWorkers


class StoreResource(dg.ConfigurableResource["StoreResource"]):
    """The store that holds recordings, artefacts, the catalogue and the search table."""

    url: str
    done_prefix: bool = False
    link_roots: str = ""

    def open(self) -> Store:
        """Open the store and create its inboxes if they are missing.

        Raises:
            PermanentFailure: The store does not exist, or access to it is refused.
            TransientFailure: The store does not answer.

        """
        return Store.open(self.url, link_roots=folders(self.link_roots))

    def table(self) -> Index:
        """Return the search table in the store.

        Raises:
            PermanentFailure: The store does not exist, or access to it is refused.
            TransientFailure: The store does not answer.

        """
        store = self.open()
        return Index(store.lancedb_uri, store.lancedb_options)

    def voiceprints(self) -> Voiceprints:
        """Return the tables of voiceprints in the store.

        Raises:
            PermanentFailure: The store does not exist, or access to it is refused.
            TransientFailure: The store does not answer.

        """
        store = self.open()
        return Voiceprints(store.lancedb_uri, store.lancedb_options)


class DecoderResource(dg.ConfigurableResource["DecoderResource"]):
    """ffmpeg, and the time limit for decoding one recording."""

    ffmpeg: str = ""
    floor_s: float = 120.0
    per_second: float = 0.5
    keep_channels: bool = False
    audio_tracks: str = "auto"
    longest_hours: float = media.LONGEST_S / 3600
    disk_gib: float = 0.0
    """Disk that a pod may use of its node, in GiB; 0 = unlimited."""

    def open(self) -> MediaDecoder:
        """Return the decoder.

        Raises:
            PermanentFailure: ffmpeg is not installed.

        """
        return MediaDecoder(
            media.find_ffmpeg(self.ffmpeg),
            floor_s=self.floor_s,
            per_second=self.per_second,
            keep_channels=self.keep_channels,
            audio_tracks=self.audio_tracks,
            longest_s=self.longest_hours * 3600,
            most_disk=int(self.disk_gib * wiring.DISK_SHARE * (1 << 30)) or None,
        )

    def workers(self, decoder: MediaDecoder, owner: str, announce: Announce) -> RecordingWorkers:
        """Build the workers that extract audio, if the settings ask for some; see `SpeechResource.transcriber`.

        Raises:
            PermanentFailure: A setting that they need is missing.

        """
        return worker_wiring.build_recording_workers("audio", audio.options(decoder), owner, announce=announce)


class SpeechResource(dg.ConfigurableResource["SpeechResource"]):
    """The speech model or service, and the processes that decode with it."""

    whisper_model: str
    models_dir: str
    device: str = "auto"
    compute_type: str = "auto"
    device_index: str = "0"
    cpu_threads: int = 0
    workers: int = 0
    batch_size: int = 0
    language: str = ""
    beam_size: int = 5
    task: Task = "transcribe"
    speakers: str = "mixed"
    launcher: str = "subprocess"
    worker_processes: int = 1
    shard_s: float = 600.0
    engine: str = "whisper"
    speech_url: str = ""
    speech_model: str = "whisper-1"
    speech_requests: int = 4
    speech_timeout_s: float = TIMEOUT_S

    def transcriber(self, ffmpeg: str, owner: str, announce: Announce) -> Transcriber:
        """Build the transcriber; the weights load on first use.

        `owner` is the ID of the run or its root run; `announce` logs a line in the run.

        Raises:
            PermanentFailure: The weights are not on this machine, or the speech service is not configured.

        """
        chosen = worker_wiring.SpeechSettings.of(self, models_dir=Path(self.models_dir), ffmpeg=ffmpeg)
        engine = worker_wiring.build_engine(self._located, chosen, settings.load().speech_key)
        return worker_wiring.build_transcriber(engine, chosen, ffmpeg, owner, announce)

    def _located(self, name: str, kind: str) -> Located:
        return models.locate(name, kind, Path(self.models_dir))

    @property
    def local_gpus(self) -> int:
        """Number of GPUs of this machine that decode."""
        return worker_wiring.SpeechSettings.of(self, models_dir=Path(self.models_dir), ffmpeg="").local_gpus


class DiariserResource(dg.ConfigurableResource["DiariserResource"]):
    """The diariser, with the operator's settings."""

    def open(self) -> SpeakerTools:
        """Return the diariser; the weights load on first use.

        Raises:
            PermanentFailure: The weights are not on this machine, a package is missing, or the bounds are wrong.

        """
        chosen = settings.load()
        return wiring.build_speaker_tools(wiring.locate_installed(chosen), chosen, media.find_ffmpeg(chosen.ffmpeg))


class SlideReaderResource(dg.ConfigurableResource["SlideReaderResource"]):
    """The reader of text in pictures, with the operator's settings."""

    def open(self, decoder: MediaDecoder) -> SlideTools:
        """Return the reader; the weights load on first use.

        Raises:
            PermanentFailure: The weights are not on this machine.

        """
        return wiring.build_slide_tools(wiring.locate_installed(settings.load()), decoder)


class EncoderResource(dg.ConfigurableResource["EncoderResource"]):
    """The sentence encoder, local or, if a URL is given, an embedding service."""

    name: str
    models_dir: str
    device: str = "auto"
    passage_s: float = 30.0
    search_low_confidence: bool = False
    slides: bool = False
    url: str = ""
    key: str = ""
    dollars_per_million: float = 0.0

    @property
    def passage_options(self) -> PassageOptions:
        """Length of passages, and whether segments with low confidence and slides are indexed."""
        return PassageOptions(self.passage_s, self.search_low_confidence, self.slides)

    def open(self) -> Encoder:
        """Return the encoder; local weights load on first use.

        Raises:
            PermanentFailure: The weights are not on this machine, or the service's key is invalid.

        """
        if self.url:
            return wiring.build_api_encoder(self.url, self.name, self.key, self.dollars_per_million)
        return wiring.build_encoder(self._located, self.name, self.device)

    def workers(self, encoder: Encoder, owner: str, announce: Announce) -> RecordingWorkers:
        """Build the workers that encode passages, if the settings ask for some; see `SpeechResource.transcriber`.

        Raises:
            PermanentFailure: A setting that they need is missing.

        """
        options = embeddings.options(encoder, self.passage_options)
        return worker_wiring.build_recording_workers("embeddings", options, owner, announce=announce)

    def _located(self, name: str, kind: str) -> Located:
        return models.locate(name, kind, Path(self.models_dir))


class FetcherResource(dg.ConfigurableResource["FetcherResource"]):
    """Downloads of sources, with the operator's limits."""

    def open(self, store: Store, decoder: MediaDecoder) -> Fetcher:
        """Return the fetcher for a store.

        Raises:
            PermanentFailure: A setting is invalid.

        """
        return Fetcher(store, decoder, wiring.source_limits(settings.load()))


def fixed_resources(values: Mapping[str, dg.ConfigurableResource[Any]]) -> dict[str, dg.ResourceDefinition]:
    """Return these resources and an I/O manager, all without a configuration."""
    bound = {name: _fixed(value) for name, value in values.items()}
    # No asset has a value to store, but the default I/O manager would accept a folder in the run configuration.
    return {**bound, "io_manager": dg.fs_io_manager.configured(lambda _config: {}, config_schema={})}


def fixed_executor(definition: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """Return this executor with its default configuration, which cannot be changed at launch."""
    return definition.configured(lambda _config: {}, config_schema={})


def _fixed(value: dg.ConfigurableResource[Any]) -> dg.ResourceDefinition:
    return dg.ResourceDefinition(lambda _context: value, config_schema={}, description=type(value).__doc__)
