"""Composition root: builds stores, encoders and other services from settings, for commands, web server and Dagster.

`worker_wiring` builds the speech engine and the workers. What a service needs is imported when it is built: a worker
process, of which a run starts many, needs few of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from transcription_assets import media, models
from transcription_assets.embedding import Encoder, Prompts, SentenceEncoder
from transcription_assets.embedding.profiles import profile
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import audio
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.settings import Settings
from transcription_assets.speech import AudioSource, Engine, transcribe_one, usable_cores
from transcription_assets.storage import Store
from transcription_assets.worker_wiring import (
    Locate,
    SpeechSettings,
    build_engine,
    build_recording_workers,
    build_transcriber,
)
from transcription_assets.workers.manifest import Stage
from transcription_assets.workers.recordings import RecordingWorkers
from transcription_assets.workers.worker import Decoding, StageWork, WholeRecordings

if TYPE_CHECKING:
    from transcription_assets.answers.asking import Asker
    from transcription_assets.domain.transcript import Segment
    from transcription_assets.events.delivery import Deliverer
    from transcription_assets.pipeline.embeddings import PassageOptions
    from transcription_assets.pipeline.identification import IdentificationTools
    from transcription_assets.pipeline.slides import SlideTools
    from transcription_assets.pipeline.speakers import SpeakerTools
    from transcription_assets.pipeline.transcript import TranscriptTools
    from transcription_assets.search.index import Index
    from transcription_assets.search.searcher import Searcher
    from transcription_assets.search.voiceprints import Voiceprints
    from transcription_assets.sources.fetching import Fetcher, SourceLimits
    from transcription_assets.sources.spool import UploadSpool
    from transcription_assets.speakers.diariser import Diariser

DIARISER_MODEL = "campplus-segmentation"
READER_MODEL = "pp-ocrv6-small"
DISK_SHARE = 0.95
"""Of the disk of a pod: the rest is for logs and what libraries write. A pod that uses more is evicted."""


def build_encoder(locate: Locate, name: str, device: str) -> Encoder:
    """Build the sentence encoder that runs on this machine.

    Raises:
        TranscriptionError: the model cannot be located.

    """
    from transcription_assets.embedding import universal

    located = locate(name, "encoder")
    if located.name == universal.NAME:
        return universal.UniversalEncoder(located.path, name=located.name, revision=located.revision)
    return SentenceEncoder(
        located.path,
        name=located.name,
        revision=located.revision,
        device=device,
        prompts=_prompts(located.name),
    )


def build_api_encoder(url: str, name: str, key: str, dollars_per_million: float) -> Encoder:
    """Build the sentence encoder of a service.

    Raises:
        PermanentFailure: `key` holds characters that are not allowed in an HTTP header.

    """
    from transcription_assets.embedding.api import ApiEncoder

    return ApiEncoder(url, name, key=key, dollars_per_million=dollars_per_million, prompts=_prompts(name))


def _prompts(name: str) -> Prompts:
    known = profile(name)
    return Prompts(known.query, known.passage)


def build_speaker_tools(locate: Locate, chosen: Settings, ffmpeg: str) -> "SpeakerTools":
    """Build the diariser; its weights load with the first recording.

    Raises:
        TranscriptionError: its model cannot be located, a package is missing, or the bounds exclude each other.

    """
    from transcription_assets.pipeline.speakers import SpeakerTools
    from transcription_assets.speakers.diariser import Bounds

    if 0 < chosen.speakers_max < chosen.speakers_min:
        raise PermanentFailure(
            f"TRANSCRIPTION_SPEAKERS_MIN={chosen.speakers_min} is above TRANSCRIPTION_SPEAKERS_MAX="
            f"{chosen.speakers_max}; set one of them to 0"
        )
    diariser: Diariser
    if chosen.diariser == "pyannote":
        from transcription_assets.speakers.pyannote import PyannoteDiariser

        diariser = PyannoteDiariser("cpu" if chosen.executor == "k8s" else chosen.device)  # its pod has no GPU
    else:
        from transcription_assets.speakers.local import LocalDiariser

        diariser = LocalDiariser(locate(DIARISER_MODEL, "voice"))
    bounds = Bounds(chosen.speakers_min, chosen.speakers_max)
    return SpeakerTools(diariser, ffmpeg, bounds, only_several=chosen.speakers == "auto")


def build_slide_tools(locate: Locate, decoder: MediaDecoder) -> "SlideTools":
    """Build the reader of text; its weights load with the first picture.

    Raises:
        TranscriptionError: its model cannot be located.

    """
    from transcription_assets.pipeline.slides import SlideTools
    from transcription_assets.slides.local import LocalReader

    return SlideTools(LocalReader(locate(READER_MODEL, "ocr"), usable_cores()), decoder)


@dataclass(frozen=True)
class Services:
    """One object of each kind, shared by a command; `locate` finds (or pulls) a model by name and kind.

    With `read_only` nothing is written to the store, and a missing one is not created.
    """

    settings: Settings
    locate: Locate
    read_only: bool = False

    @cached_property
    def store(self) -> Store:
        """The store; its inboxes are created unless it is read-only.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        chosen = self.settings
        return Store.open(chosen.store, link_roots=chosen.link_folders, read_only=self.read_only)

    @cached_property
    def table(self) -> "Index":
        """The search index in the store.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        from transcription_assets.search.index import Index

        return Index(self.store.lancedb_uri, self.store.lancedb_options)

    @cached_property
    def voiceprints(self) -> "Voiceprints":
        """The tables of voiceprints in the store.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        from transcription_assets.search.voiceprints import Voiceprints

        return Voiceprints(self.store.lancedb_uri, self.store.lancedb_options)

    @property
    def identification(self) -> "IdentificationTools":
        """What is needed to change who the speakers are.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        from transcription_assets.pipeline.identification import IdentificationTools

        return IdentificationTools(self.store, self.voiceprints, self.table, lambda: self.encoder, self.passage_options)

    @cached_property
    def fetcher(self) -> "Fetcher":
        """Fetches recordings of the sources into the store.

        Raises:
            TranscriptionError: ffmpeg is missing, or the store cannot be opened.

        """
        from transcription_assets.sources.fetching import Fetcher

        return Fetcher(self.store, self.decoder, source_limits(self.settings))

    @cached_property
    def spool(self) -> "UploadSpool":
        """The unfinished uploads for this store; several stores share the folder of the settings."""
        from transcription_assets.sources.spool import SpoolLimits, UploadSpool

        chosen = self.settings
        limits = SpoolLimits(
            int(chosen.upload_max_gb * 1e9),
            int(chosen.upload_spool_gb * 1e9),
            chosen.upload_max_unfinished,
            chosen.upload_expire_hours * 3600,
        )
        url = chosen.store if "://" in chosen.store else str(Path(chosen.store).absolute())
        return UploadSpool(chosen.uploads_dir / sha256(url.encode()).hexdigest()[:16], limits)

    @cached_property
    def decoder(self) -> MediaDecoder:
        """The ffmpeg to call, and its time limits.

        Raises:
            PermanentFailure: ffmpeg is missing.

        """
        chosen = self.settings
        return MediaDecoder(
            media.find_ffmpeg(chosen.ffmpeg),
            chosen.decode_floor_s,
            chosen.decode_per_second,
            keep_channels=chosen.speakers == "channels",
            audio_tracks=chosen.audio_tracks,
            longest_s=chosen.longest_hours * 3600,
            most_disk=int(chosen.disk_gib * DISK_SHARE * (1 << 30)) or None,
        )

    @cached_property
    def engine(self) -> Engine:
        """The speech engine.

        Raises:
            TranscriptionError: its model cannot be located, or the service is not configured.

        """
        return build_engine(self.locate, SpeechSettings.of(self.settings), self.settings.speech_key)

    @cached_property
    def transcript_tools(self) -> "TranscriptTools":
        """The tools of the transcript step; its worker processes are kept until the end of the command.

        Raises:
            TranscriptionError: ffmpeg is missing, or the model cannot be located.

        """
        from transcription_assets.pipeline.transcript import TranscriptTools

        ffmpeg = self.decoder.ffmpeg
        chosen = SpeechSettings.of(self.settings)
        return TranscriptTools(build_transcriber(self.engine, chosen, ffmpeg, uuid4().hex), ffmpeg)

    @cached_property
    def audio_workers(self) -> RecordingWorkers:
        """The workers that extract audio, kept until the end of the command.

        Raises:
            TranscriptionError: ffmpeg is missing, or a setting that they need.

        """
        return build_recording_workers("audio", audio.options(self.decoder), uuid4().hex, self.settings)

    @cached_property
    def embeddings_workers(self) -> RecordingWorkers:
        """The workers that encode passages, kept until the end of the command.

        Raises:
            TranscriptionError: the encoder cannot be built, or a setting that they need is missing.

        """
        from transcription_assets.pipeline import embeddings

        options = embeddings.options(self.encoder, self.passage_options)
        return build_recording_workers("embeddings", options, uuid4().hex, self.settings)

    def stage_work(self, stage: Stage) -> StageWork:
        """Return what a worker of this stage does.

        Raises:
            TranscriptionError: ffmpeg or a model is missing.

        """
        if stage == "audio":
            extract: Callable[[Store, str], object] = lambda store, key: audio.materialise(store, key, self.decoder)  # noqa: E731
            return WholeRecordings(stage, audio.options(self.decoder), extract)
        if stage == "embeddings":
            from transcription_assets.pipeline import embeddings

            encoder, passage_options = self.encoder, self.passage_options
            return WholeRecordings(
                stage,
                embeddings.options(encoder, passage_options),
                lambda store, key: embeddings.materialise(store, key, encoder, passage_options),
            )
        return Decoding(self.engine, self.decoder.ffmpeg)

    @cached_property
    def speaker_tools(self) -> "SpeakerTools":
        """The diariser of the step `speakers`.

        Raises:
            TranscriptionError: ffmpeg or a package is missing, the model cannot be located, or bounds are wrong.

        """
        return build_speaker_tools(self.locate, self.settings, self.decoder.ffmpeg)

    @cached_property
    def slide_tools(self) -> "SlideTools":
        """The reader of text of the step `slides`.

        Raises:
            TranscriptionError: ffmpeg is missing, or the model cannot be located.

        """
        return build_slide_tools(self.locate, self.decoder)

    def segments_of(self, path: Path) -> Sequence["Segment"]:
        """Return the words of a file that is not in the store, decoded in this process.

        Raises:
            TranscriptionError: the file cannot be decoded, or the model cannot be located.
            Exception: any other exception of the engine.

        """
        ffmpeg = self.decoder.ffmpeg
        source = AudioSource(lambda _channel, start: media.read_samples(str(path), ffmpeg=ffmpeg, start=start))
        return transcribe_one(self.engine, source).segments

    @property
    def passage_options(self) -> "PassageOptions":
        """The options of the embeddings step."""
        from transcription_assets.pipeline.embeddings import PassageOptions

        chosen = self.settings
        return PassageOptions(chosen.passage_s, chosen.search_low_confidence, chosen.slides)

    @cached_property
    def encoder(self) -> Encoder:
        """The sentence encoder.

        Raises:
            TranscriptionError: its model cannot be located, or the key of its service is invalid.

        """
        chosen = self.settings
        if chosen.embedding_url:
            key = chosen.embedding_key.get_secret_value()
            return build_api_encoder(chosen.embedding_url, chosen.encoder_model, key, chosen.embedding_dollars)
        return build_encoder(self.locate, chosen.encoder_model, chosen.encodes_on)

    @cached_property
    def searcher(self) -> "Searcher":
        """The search, one for all requests of a process.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        from transcription_assets.search.searcher import Searcher

        return Searcher(self.table, self.encoder_of)

    @cached_property
    def asker(self) -> "Asker | None":
        """Answering of questions, None if no language model is set.

        Raises:
            PermanentFailure: the name of the model is missing, or its key is invalid.

        """
        chosen = self.settings
        if not chosen.ask_url:
            return None
        from transcription_assets.answers.asking import Asker
        from transcription_assets.answers.service import LanguageModel

        key = chosen.ask_key.get_secret_value()
        model = LanguageModel(chosen.ask_url, chosen.ask_model, key=key, timeout_s=chosen.ask_timeout_s)
        return Asker(model, chosen.ask_tokens)

    def encoder_of(self, embedding_model: str) -> Encoder:
        """Return the encoder that made a table's vectors.

        Raises:
            TranscriptionError: its model is not on this machine, is there in another revision, or the encoder of the
                settings cannot be built.

        """
        if embedding_model == str(self.encoder.model):
            return self.encoder
        if embedding_model not in self._others:
            self._others[embedding_model] = self._other(embedding_model)
        return self._others[embedding_model]

    @cached_property
    def _others(self) -> dict[str, Encoder]:
        return {}

    def _other(self, embedding_model: str) -> Encoder:
        name = embedding_model.partition("@")[0]
        found = build_encoder(self.locate, name, self.settings.encodes_on)
        if str(found.model) != embedding_model:
            raise PermanentFailure(
                f"the vectors of the search table are of {embedding_model}, here is {found.model}: run"
                " `transcription-assets index rebuild`"
            )
        return found


def source_limits(chosen: Settings) -> "SourceLimits":
    """Return the limits of sources."""
    from transcription_assets.guarded_http import parse_networks
    from transcription_assets.sources.fetching import SourceLimits

    return SourceLimits(
        chosen.downloads_dir,
        parse_networks(chosen.source_allowed),
        int(chosen.source_max_gb * 1e9),
        chosen.source_timeout_s,
        chosen.link_folders,
    )


def build_deliverer(store: Store, chosen: Settings) -> "Deliverer":
    """Build the delivery of events.

    Raises:
        InvalidEvents: a setting about receivers is invalid.

    """
    from transcription_assets.events import catalogue
    from transcription_assets.events.delivery import Deliverer
    from transcription_assets.events.webhooks import Sender
    from transcription_assets.guarded_http import parse_networks

    secrets = catalogue.parse_secrets(chosen.event_secrets.get_secret_value())
    sender = Sender(secrets=secrets, networks=parse_networks(chosen.event_allowed))
    return Deliverer(store, sender, catalogue.parse_channels(chosen.event_channels.get_secret_value()))


def locate_installed(settings: Settings) -> Locate:
    """Return a function that finds models on this machine without downloading; it raises as `models.locate` does."""
    return lambda name, kind: models.locate(name, kind, settings.models_dir)
