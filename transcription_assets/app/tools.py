"""What the commands work with, made from the settings; heavy parts load where they are first used."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from transcription_assets import media, models
from transcription_assets.embedding import Encoder, SentenceEncoder
from transcription_assets.index import Index
from transcription_assets.models import Located
from transcription_assets.settings import Settings
from transcription_assets.speech import Engine, Hardware, SpeechOptions, Whisper
from transcription_assets.steps import transcript
from transcription_assets.steps.embeddings import Choice
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
        located = self.locate(self.settings.encoder_model, "encoder")
        return SentenceEncoder(located.path, name=located.name, revision=located.revision, device=self.settings.device)


def installed(settings: Settings) -> Locate:
    """Find models that are on this machine already."""
    return lambda name, kind: models.locate(name, kind, settings.models_dir)
