"""What is served: the store, its search table, and one encoder that stays loaded."""

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

import polars as pl

from transcription_assets import keys
from transcription_assets.app.serve.kept import Kept
from transcription_assets.app.tools import Locate, Tools
from transcription_assets.embedding import Encoder
from transcription_assets.failures import NotFound, PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.index import Facets, Index
from transcription_assets.query import Answer, Query
from transcription_assets.settings import Settings
from transcription_assets.steps.search import Searcher
from transcription_assets.storage import MediaObject, Store
from transcription_assets.transcript import Transcript, from_json

log = logging.getLogger(__name__)


SEARCHABLE = pl.Schema({"key": pl.String, "media_etag": pl.String, "language": pl.String, "passages": pl.Int64})

LONGEST_KEY = 3072
"""Characters of a key: S3 allows 1024 bytes, each of which may be encoded as three characters."""

FRESH_S = 2.0
"""How old an answer about the whole archive may be before it is made anew."""

CREDENTIALS_S = 900.0
"""How long one opening of a bucket's table is used: the credentials of a pod are good for about an hour."""

AGAIN_S = 30.0
"""After so long an encoder that could not be loaded is tried again: its service or the models' volume may be back."""


@dataclass
class Archive:
    """Everything is opened when it is first asked for, and asked for again after a failure: a store may come back."""

    settings: Settings
    locate: Locate
    media_origin: str = ""
    """Scheme and host that recordings in a bucket are played from, once it is known."""
    _opened: tuple[float, Index, Searcher] | None = None
    _encoder: "tuple[float, Future[None]] | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def tools(self) -> Tools:
        """What the other commands work with too."""
        return Tools(self.settings, self.locate, read_only=True)

    @property
    def store(self) -> Store:
        """The store, opened for reading only; PermanentFailure where there is none."""
        return self.tools.store

    @property
    def searcher(self) -> Searcher:
        """What answers questions; the encoder stays, the table is opened anew before its credentials expire."""
        opened = self._opened
        if opened is None or time.monotonic() - opened[0] > CREDENTIALS_S:
            table = Index(self.store.lancedb_uri, self.store.lancedb_options)
            opened = self._opened = (time.monotonic(), table, Searcher(table, self._encoder_of))
        return opened[2]

    @property
    def table(self) -> Index:
        """The search table."""
        assert self.searcher  # noqa: S101 -- opens it
        assert self._opened  # noqa: S101 -- by now
        return self._opened[1]

    @property
    def encoder_ready(self) -> "Future[None]":
        """Done once the encoder has encoded something; its exception is why it cannot.

        While it is tried again that stays so: nobody waits a second time for what may not come.
        """
        with self._lock:
            if self._encoder is None or _is_worth_a_try(*self._encoder):
                ready: Future[None] = Future()
                self._encoder = (float("inf"), self._encoder[1] if self._encoder else ready)
                threading.Thread(target=self._load_encoder, args=(ready,), name="encoder", daemon=True).start()
            return self._encoder[1]

    def search(self, query: Query) -> Answer:
        """The moments that fit, best first."""
        return self.searcher.search(query)

    def look(self) -> None:
        """Look into the store; raises what is wrong with it."""
        self.store.list("catalog/")

    @cached_property
    def facets(self) -> Kept[Facets]:
        """What can be filtered by: made from all rows."""
        return Kept(lambda: self.searcher.facets(), FRESH_S)  # noqa: PLW0108 -- the searcher is opened anew at times

    def find_media_origin(self) -> None:
        """Learn where browsers will be sent for a recording."""
        if not self.media_origin and not self.store.is_local:
            address = urlsplit(self.store.playable_url("video/-"))
            self.media_origin = f"{address.scheme}://{address.netloc}"

    def count(self) -> int:
        """How many passages can be found; raises what is wrong with the table."""
        return self.table.count()

    def searchable(self) -> pl.DataFrame:
        """Key, media_etag, language and number of passages of every recording that can be found."""
        parts = self.table.passages(("media_key", "media_etag", "language"))
        by = ("media_key", "media_etag", "language")
        counted = [part.group_by(by).len("passages").rename({"media_key": "key"}) for part in parts]
        rows = pl.concat([pl.DataFrame(schema=SEARCHABLE), *(part.cast(SEARCHABLE) for part in counted)])
        return rows.group_by("key").agg(
            pl.col("media_etag", "language").sort_by("passages").last(), pl.col("passages").sum()
        )

    def require_encoder(self) -> None:
        """TransientFailure while it loads, PermanentFailure where it cannot be loaded."""
        if not self.encoder_ready.done():
            raise TransientFailure("it is being loaded")
        self.encoder_ready.result()

    def media(self, key: str) -> MediaObject:
        """The recording; NotFound for whatever is not the key of a recording in an inbox, or one that was done."""
        if not is_known_form(key):
            raise NotFound(f"{key}: there is no such recording")
        store = self.store
        try:
            return store.stat(key)
        except PermanentFailure as error:
            # A name that no file system takes, or a bucket that answers "refused" for what is not there.
            log.info("%s", error)
            raise NotFound(f"{key}: there is no such recording") from None

    def require(self, key: str, artefact: str) -> None:
        """NotFound where the recording is not there, or does not have this artefact."""
        self.media(key)
        if not self.store.exists(artefact):
            raise NotFound(f"{key}: not made yet")

    def poster(self, key: str) -> bytes:
        """Its picture as JPEG; NotFound where it has none."""
        return self._made(key, keys.poster(key), "there is no picture of it")

    def transcript(self, key: str, suffix: str) -> bytes:
        """Its transcript as it lies in the store; NotFound where there is none yet."""
        return self._made(key, keys.transcript(key, suffix), "there is no transcript of it yet")

    def said(self, key: str) -> Transcript:
        """Its transcript; NotFound where there is none yet."""
        try:
            return from_json(self.transcript(key, ".json"))
        except (ValueError, KeyError, TypeError) as error:
            raise PermanentFailure(f"{key}: its transcript cannot be read ({error}); materialise it again") from error

    def _made(self, key: str, artefact: str, otherwise: str) -> bytes:
        self.media(key)
        try:
            return self.store.read(artefact)
        except NotFound:
            raise NotFound(f"{key}: {otherwise}") from None

    def _encoder_of(self, embedding_model: str) -> Encoder:
        self.require_encoder()
        return self.tools.encoder_of(embedding_model)

    def _load_encoder(self, ready: "Future[None]") -> None:
        try:
            self.tools.encoder.encode(["warm"])
        except Exception as error:  # whatever it is, those who wait for it have to be told
            if not threading.main_thread().is_alive():
                return  # ended while it loaded
            log.exception("the sentence encoder cannot be loaded")
            said = str(error) if isinstance(error, TranscriptionError) else f"{type(error).__name__}: {error}"
            self._encoder = (time.monotonic(), ready)
            ready.set_exception(PermanentFailure(f"the sentence encoder cannot be loaded: {said}"))
        else:
            self._encoder = (time.monotonic(), ready)
            ready.set_result(None)


def _is_worth_a_try(since: float, loaded: "Future[None]") -> bool:
    return loaded.done() and loaded.exception() is not None and time.monotonic() - since > AGAIN_S


def is_known_form(key: str) -> bool:
    """Whether it can be the key of a recording: in an inbox, with a media suffix, written as `keys.encode` does."""
    if len(key) > LONGEST_KEY:
        return False
    name = keys.decode(key)
    return key.startswith(keys.INBOXES) and keys.is_media(name) and keys.encode(name) == key and "\0" not in name
