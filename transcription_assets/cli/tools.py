"""The objects that commands work with, built from the settings; heavy ones load at first use."""

from dataclasses import dataclass
from functools import cached_property

from transcription_assets import media, models, wiring
from transcription_assets.embedding import Encoder
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import transcript
from transcription_assets.pipeline.embeddings import PassageOptions
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.search.index import Index
from transcription_assets.search.searcher import Searcher
from transcription_assets.settings import Settings
from transcription_assets.speech import Engine
from transcription_assets.storage import Store
from transcription_assets.wiring import Locate

__all__ = ["Locate", "Services", "locate_installed"]


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
        return wiring.build_whisper(self.locate(self.settings.whisper_model, "speech"), self.settings)

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
            return wiring.build_api_encoder(chosen.embedding_url, chosen.encoder_model, key, chosen.embedding_dollars)
        return wiring.build_encoder(self.locate, chosen.encoder_model, chosen.encodes_on)

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
        found = wiring.build_encoder(self.locate, name, self.settings.encodes_on)
        if str(found.model) != embedding_model:
            raise PermanentFailure(
                f"the vectors of the search table are of {embedding_model}, here is {found.model}: run"
                " `transcription-assets index rebuild`"
            )
        return found


def locate_installed(settings: Settings) -> Locate:
    """Return a function that finds models on this machine without downloading; it raises as `models.locate` does."""
    return lambda name, kind: models.locate(name, kind, settings.models_dir)
