"""Data access of the site: the store, its search table, and one encoder that stays loaded."""

import gc
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import urlsplit

import polars as pl

from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Transcript, from_json
from transcription_assets.embedding import Encoder
from transcription_assets.errors import NotFound, PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.pipeline import slides
from transcription_assets.pipeline.identification import IdentificationTools
from transcription_assets.search.filters import Facets
from transcription_assets.search.index import Index
from transcription_assets.search.query import Answer, Query, SimilarQuery
from transcription_assets.search.searcher import Searcher
from transcription_assets.settings import Settings
from transcription_assets.slides.finder import Slide
from transcription_assets.sources.uploads import Landing
from transcription_assets.storage import MediaObject, Store
from transcription_assets.web.cache import Cached
from transcription_assets.wiring import Services
from transcription_assets.worker_wiring import Locate

log = logging.getLogger(__name__)


SEARCHABLE = pl.Schema({"key": pl.String, "media_etag": pl.String, "language": pl.String, "passages": pl.Int64})

LONGEST_KEY = 3072
"""Maximum characters of a key: S3 allows 1024 bytes, each of which may be encoded as three characters."""

FRESH_S = 2.0
"""Seconds for which a result about the whole archive is cached at least."""

CREDENTIALS_S = 900.0
"""Seconds after which the table is opened again: the credentials of a pod are valid for about an hour."""

RETRY_S = 30.0
"""Seconds after which a failed load of the encoder is retried: its service or the models' volume may be back."""


@dataclass
class Archive:
    """The data of one server; each part is opened at first use, and again after a failure, which may be temporary."""

    settings: Settings
    locate: Locate
    media_origin: str = ""
    """Scheme and host of URLs of recordings in a bucket; "" until known, and for a local store."""
    _opened: tuple[float, Index, Searcher] | None = None
    _encoder: "tuple[float, Future[None]] | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def tools(self) -> Services:
        """The objects that the other commands use too, read-only."""
        return Services(self.settings, self.locate, read_only=True)

    @property
    def store(self) -> Store:
        """The store, opened for reading only.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        return self.tools.store

    @property
    def identification(self) -> IdentificationTools:
        """What is needed to change who the speakers are: the store and the tables, opened for writing.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        # Opened for each change, as the credentials of a pod expire; the encoder stays loaded.
        writing = Services(self.settings, self.locate)
        return replace(writing.identification, encoder=lambda: self.tools.encoder)

    @property
    def landing(self) -> Landing:
        """Landing of uploads in the store, which is opened for writing once for each, and created if it is missing."""
        tools = self.tools
        # Opened for each upload, as the credentials of a pod expire.
        return Landing(tools.spool, lambda: Services(self.settings, self.locate).store, lambda: tools.decoder)

    @property
    def searcher(self) -> Searcher:
        """The search; the encoder is reused, the table is opened again before its credentials expire.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        opened = self._opened
        if opened is None or time.monotonic() - opened[0] > CREDENTIALS_S:
            table = Index(self.store.lancedb_uri, self.store.lancedb_options)
            opened = self._opened = (time.monotonic(), table, Searcher(table, self._encoder_of))
        return opened[2]

    @property
    def table(self) -> Index:
        """The search table.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        assert self.searcher  # noqa: S101 -- opens the table
        assert self._opened  # noqa: S101 -- set by `searcher`
        return self._opened[1]

    @property
    def encoder_ready(self) -> "Future[None]":
        """Future that is done once the encoder has encoded a text; its exception is the PermanentFailure of loading.

        During a retry it is still the failed future, so that no request waits for a retry that may fail too.
        """
        with self._lock:
            if self._encoder is None or _is_worth_a_try(*self._encoder):
                ready: Future[None] = Future()
                self._encoder = (float("inf"), self._encoder[1] if self._encoder else ready)
                threading.Thread(target=self._load_encoder, args=(ready,), name="encoder", daemon=True).start()
            return self._encoder[1]

    def search(self, query: Query) -> Answer:
        """Return the moments that match the query, best first.

        Raises:
            TranscriptionError: the store cannot be opened, or the search table cannot be read.

        """
        return self.searcher.search(query)

    def similar(self, query: SimilarQuery) -> Answer:
        """Return the moments that are similar to a moment, the nearest first.

        Raises:
            TranscriptionError: the store cannot be opened, or the search table cannot be read.

        """
        return self.searcher.similar(query)

    def check_store(self) -> None:
        """Check that the store can be read.

        Raises:
            TranscriptionError: the store cannot be opened or read.

        """
        self.store.list("catalog/")

    @cached_property
    def facets(self) -> Cached[Facets]:
        """Cache of the facets, which are computed from all rows."""
        return Cached(lambda: self.searcher.facets(), FRESH_S)  # noqa: PLW0108 -- the searcher is replaced at times

    def find_media_origin(self) -> None:
        """Set `media_origin` if the store is a bucket; the origin is determined once.

        Raises:
            TranscriptionError: the store cannot be opened, or cannot sign URLs.

        """
        if not self.media_origin and not self.store.is_local:
            address = urlsplit(self.store.playable_url("video/-"))
            self.media_origin = f"{address.scheme}://{address.netloc}"

    def count(self) -> int:
        """Return the number of searchable passages.

        Raises:
            TranscriptionError: the store cannot be opened, or the search table cannot be read.

        """
        return self.table.count()

    def searchable(self) -> pl.DataFrame:
        """Return key, media_etag, language and number of passages of every searchable recording, one row each.

        Raises:
            TranscriptionError: the store cannot be opened, or the search table cannot be read.

        """
        parts = self.table.passages(("media_key", "media_etag", "language"))
        by = ("media_key", "media_etag", "language")
        counted = [part.group_by(by).len("passages").rename({"media_key": "key"}) for part in parts]
        rows = pl.concat([pl.DataFrame(schema=SEARCHABLE), *(part.cast(SEARCHABLE) for part in counted)])
        return rows.group_by("key").agg(
            pl.col("media_etag", "language").sort_by("passages").last(), pl.col("passages").sum()
        )

    def require_encoder(self) -> None:
        """Check that the encoder is loaded.

        Raises:
            TransientFailure: it is being loaded.
            PermanentFailure: it cannot be loaded.

        """
        if not self.encoder_ready.done():
            raise TransientFailure("the sentence encoder is being loaded")
        self.encoder_ready.result()

    def media(self, key: str) -> MediaObject:
        """Return the recording in an inbox, or moved out of it after the last step.

        Raises:
            NotFound: this is not the key of a recording, or the store has none of this key.
            TranscriptionError: the store cannot be opened, or does not answer.

        """
        if not is_media_key(key):
            raise NotFound(f"{key}: no such recording")
        store = self.store
        try:
            return store.stat(key)
        except PermanentFailure as error:
            # The file system rejects such a name, or the bucket denies access to objects that do not exist.
            log.info("%s", error)
            raise NotFound(f"{key}: no such recording") from None

    def require(self, key: str, artefact: str) -> None:
        """Check that the recording and this artefact exist.

        Raises:
            NotFound: one of them does not exist.
            TranscriptionError: the store cannot be opened or read.

        """
        self.media(key)
        if not self.store.exists(artefact):
            raise NotFound(f"{key}: this file does not exist yet")

    def poster(self, key: str) -> bytes:
        """Return the poster frame (JPEG).

        Raises:
            NotFound: the recording does not exist, or has no poster frame.
            TranscriptionError: the store cannot be opened or read.

        """
        return self._read_artefact(key, media_keys.poster(key), "no poster frame")

    def transcript(self, key: str, suffix: str) -> bytes:
        """Return the file of the transcript with this suffix, unchanged.

        Raises:
            NotFound: the recording does not exist, or has no transcript yet.
            TranscriptionError: the store cannot be opened or read.

        """
        return self._read_artefact(key, media_keys.transcript(key, suffix), "no transcript yet")

    def slides(self, key: str) -> tuple[Slide, ...]:
        """Return the slides of a recording, none if they were not read.

        Raises:
            NotFound: the recording does not exist.
            TranscriptionError: the store cannot be opened or read.

        """
        self.media(key)
        found = slides.load(self.store, key)
        return found.slides if found else ()

    def slide_picture(self, key: str, number: int) -> bytes:
        """Return the thumbnail of a slide (WebP).

        Raises:
            NotFound: the recording does not exist, or has no such slide.
            TranscriptionError: the store cannot be opened or read.

        """
        return self._read_artefact(key, media_keys.slide_picture(key, number), f"no slide {number}")

    def parsed_transcript(self, key: str) -> Transcript:
        """Return the parsed transcript.

        Raises:
            NotFound: the recording does not exist, or has no transcript yet.
            PermanentFailure: the transcript is damaged, or has another schema version.
            TranscriptionError: the store cannot be opened or read.

        """
        try:
            return from_json(self.transcript(key, ".json"))
        except ValueError as error:
            hint = "materialise `transcript` again"
            raise PermanentFailure(f"{key}: the transcript is damaged ({error}); {hint}", key=key, hint=hint) from error

    def _read_artefact(self, key: str, artefact: str, missing: str) -> bytes:
        self.media(key)
        try:
            return self.store.read(artefact)
        except NotFound:
            raise NotFound(f"{key}: {missing}") from None

    def _encoder_of(self, embedding_model: str) -> Encoder:
        self.require_encoder()
        return self.tools.encoder_of(embedding_model)

    def _load_encoder(self, ready: "Future[None]") -> None:
        try:
            self.tools.encoder.encode(["warm"])
        except Exception as error:  # any error has to reach those who wait for the future
            if not threading.main_thread().is_alive():
                return  # the process ended during loading
            log.exception("the sentence encoder cannot be loaded")
            reason = str(error) if isinstance(error, TranscriptionError) else f"{type(error).__name__}: {error}"
            self._encoder = (time.monotonic(), ready)
            ready.set_exception(PermanentFailure(f"the sentence encoder cannot be loaded: {reason}"))
        else:
            # All libraries are loaded now. Each full collection would examine their objects again, 100 ms in a search.
            gc.collect()
            gc.freeze()
            self._encoder = (time.monotonic(), ready)
            ready.set_result(None)


def _is_worth_a_try(since: float, loaded: "Future[None]") -> bool:
    return loaded.done() and loaded.exception() is not None and time.monotonic() - since > RETRY_S


def is_media_key(key: str) -> bool:
    """Return whether this can be a media key: in an inbox, with a media suffix, encoded by `media_keys.encode`."""
    if len(key) > LONGEST_KEY:
        return False
    name = media_keys.decode(key)
    return (
        key.startswith(media_keys.INBOXES)
        and media_keys.is_media(name)
        and media_keys.encode(name) == key
        and "\0" not in name
    )
