"""Composition root: builds stores, engines and encoders from settings, for commands, web server and Dagster."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from transcription_assets import media, models
from transcription_assets.embedding import Encoder, Prompts, SentenceEncoder
from transcription_assets.embedding.api import ApiEncoder
from transcription_assets.embedding.profiles import profile
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import Located
from transcription_assets.pipeline import transcript
from transcription_assets.pipeline.embeddings import PassageOptions
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.search.index import Index
from transcription_assets.search.searcher import Searcher
from transcription_assets.settings import Settings
from transcription_assets.speech import Engine, Hardware, Speakers, SpeechOptions, Task, Whisper
from transcription_assets.storage import Store

Locate = Callable[[str, str], Located]
"""Function that finds (or pulls) a model by name and kind; raises PermanentFailure if it cannot."""


class WhisperSettings(Protocol):
    """Configuration of Whisper; implemented by the settings and by Dagster's resource."""

    @property
    def device(self) -> str:
        """`auto`, `cpu` or `cuda`."""
        ...

    @property
    def compute_type(self) -> str:
        """`auto`, or a compute type of CTranslate2."""
        ...

    @property
    def device_index(self) -> str:
        """Numbers of the GPUs, such as `0,1`."""
        ...

    @property
    def cpu_threads(self) -> int:
        """Threads of the decoder; 0 = all cores."""
        ...

    @property
    def workers(self) -> int:
        """Batches decoded at the same time; 0 = automatic."""
        ...

    @property
    def batch_size(self) -> int:
        """Chunks decoded together; 0 = automatic."""
        ...

    @property
    def language(self) -> str:
        """Language code; empty = detected."""
        ...

    @property
    def beam_size(self) -> int:
        """Beam size of the decoder."""
        ...

    @property
    def task(self) -> Task:
        """Transcription or translation."""
        ...

    @property
    def speakers(self) -> Speakers:
        """Mixed, or one per channel."""
        ...


def build_whisper(located: Located, chosen: WhisperSettings) -> Engine:
    """Build the speech engine.

    Raises:
        ValueError: `chosen.device_index` is not a list of numbers separated by commas.

    """
    return Whisper(
        located.path,
        name=located.name,
        revision=located.revision,
        hardware=Hardware(
            device=chosen.device,
            compute_type=chosen.compute_type,
            cpu_threads=chosen.cpu_threads,
            workers=chosen.workers,
            batch_size=chosen.batch_size,
            devices=tuple(map(int, chosen.device_index.split(","))),
        ),
        options=SpeechOptions(chosen.language, chosen.beam_size, chosen.task, chosen.speakers),
    )


def build_encoder(locate: Locate, name: str, device: str) -> Encoder:
    """Build the sentence encoder that runs on this machine.

    Raises:
        TranscriptionError: the model cannot be located.

    """
    located = locate(name, "encoder")
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
    return ApiEncoder(url, name, key=key, dollars_per_million=dollars_per_million, prompts=_prompts(name))


def _prompts(name: str) -> Prompts:
    known = profile(name)
    return Prompts(known.query, known.passage, known.weak_below)


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
    def table(self) -> Index:
        """The search index in the store.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        return Index(self.store.lancedb_uri, self.store.lancedb_options)

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
        )

    @cached_property
    def engine(self) -> Engine:
        """The speech engine.

        Raises:
            TranscriptionError: its model cannot be located.

        """
        return build_whisper(self.locate(self.settings.whisper_model, "speech"), self.settings)

    @property
    def transcript_tools(self) -> transcript.TranscriptTools:
        """The tools of the transcript step.

        Raises:
            TranscriptionError: ffmpeg is missing, or the model cannot be located.

        """
        return transcript.TranscriptTools(self.engine, self.decoder.ffmpeg)

    @property
    def choice(self) -> PassageOptions:
        """The options of the embeddings step."""
        return PassageOptions(self.settings.passage_s, self.settings.search_low_confidence)

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
    def searcher(self) -> Searcher:
        """The search, one for all requests of a process.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        return Searcher(self.table, self.encoder_of)

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


def locate_installed(settings: Settings) -> Locate:
    """Return a function that finds models on this machine without downloading; it raises as `models.locate` does."""
    return lambda name, kind: models.locate(name, kind, settings.models_dir)
