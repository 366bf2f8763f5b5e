"""What the commands work with, made from the settings; heavy parts load where they are first used."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from transcription_assets import media, models
from transcription_assets.embedding import Encoder, Prompts, SentenceEncoder
from transcription_assets.embedding.api import ApiEncoder
from transcription_assets.failures import PermanentFailure
from transcription_assets.index import Index
from transcription_assets.models import Located
from transcription_assets.models.encoders import profile
from transcription_assets.settings import Settings
from transcription_assets.speech import Engine, Hardware, SpeechOptions, Whisper
from transcription_assets.steps import transcript
from transcription_assets.steps.embeddings import Choice
from transcription_assets.steps.search import Searcher
from transcription_assets.steps.video import Decoder
from transcription_assets.storage import Store

Locate = Callable[[str, str], Located]


@dataclass(frozen=True)
class Tools:
    """One of each, shared by a command; `locate` finds (or pulls) a model by name and kind."""

    settings: Settings
    locate: Locate

    @cached_property
    def store(self) -> Store:
        """The store, its inboxes made."""
        return Store.open(self.settings.store)

    @cached_property
    def table(self) -> Index:
        """The search table in the store."""
        return Index(self.store.lancedb_uri, self.store.lancedb_options)

    @cached_property
    def decoder(self) -> Decoder:
        """The ffmpeg to call, and its time limits."""
        chosen = self.settings
        return Decoder(
            media.find_ffmpeg(chosen.ffmpeg),
            chosen.decode_floor_s,
            chosen.decode_per_second,
            keep_channels=chosen.speakers == "channels",
        )

    @cached_property
    def engine(self) -> Engine:
        """The speech engine."""
        chosen = self.settings
        located = self.locate(chosen.whisper_model, "speech")
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

    @property
    def transcribing(self) -> transcript.Tools:
        """What transcribes."""
        return transcript.Tools(self.engine, self.decoder.ffmpeg)

    @property
    def choice(self) -> Choice:
        """What goes into the search."""
        return Choice(self.settings.passage_s, self.settings.search_doubtful)

    @cached_property
    def encoder(self) -> Encoder:
        """The sentence encoder."""
        chosen = self.settings
        if chosen.embedding_url:
            return ApiEncoder(
                chosen.embedding_url,
                chosen.encoder_model,
                key=chosen.embedding_key.get_secret_value(),
                dollars_per_million=chosen.embedding_dollars,
                prompts=_prompts(chosen.encoder_model),
            )
        return _encoder(self.locate(chosen.encoder_model, "encoder"), chosen)

    @cached_property
    def searcher(self) -> Searcher:
        """What answers questions; one for all requests of a process."""
        return Searcher(self.table, self.encoder_of)

    def encoder_of(self, embedding_model: str) -> Encoder:
        """The encoder that a table's vectors are of; PermanentFailure where it is not on this machine."""
        if embedding_model in ("", str(self.encoder.model)):
            return self.encoder
        if embedding_model not in self._others:
            self._others[embedding_model] = self._other(embedding_model)
        return self._others[embedding_model]

    @cached_property
    def _others(self) -> dict[str, Encoder]:
        return {}

    def _other(self, embedding_model: str) -> Encoder:
        name = embedding_model.partition("@")[0]
        found = _encoder(self.locate(name, "encoder"), self.settings)
        if str(found.model) != embedding_model:
            raise PermanentFailure(
                f"the vectors of the search table are of {embedding_model}, here is {found.model}: run"
                " `transcription-assets index rebuild`"
            )
        return found


def _prompts(name: str) -> Prompts:
    known = profile(name)
    return Prompts(known.query, known.passage, known.weak_below)


def _encoder(located: Located, settings: Settings) -> Encoder:
    return SentenceEncoder(
        located.path,
        name=located.name,
        revision=located.revision,
        device=settings.device,
        prompts=_prompts(located.name),
    )


def installed(settings: Settings) -> Locate:
    """Find models that are on this machine already."""
    return lambda name, kind: models.locate(name, kind, settings.models_dir)
