"""What is served: the store, its search table, and one encoder that stays loaded."""

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transcription_assets import keys
from transcription_assets.app.tools import Locate, Tools
from transcription_assets.failures import NotFound, PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.index import Hit, Index
from transcription_assets.settings import Settings
from transcription_assets.steps import search_index
from transcription_assets.storage import MediaObject, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody looks for: `offset` and `limit` count moments."""

    text: str
    limit: int = 10
    offset: int = 0


@dataclass(frozen=True)
class Archive:
    """Everything is opened when it is first asked for, and asked for again after a failure: a store may come back."""

    settings: Settings
    locate: Locate

    @cached_property
    def tools(self) -> Tools:
        """What the other commands work with too."""
        return Tools(self.settings, self.locate)

    @property
    def store(self) -> Store:
        """The store; PermanentFailure where there is none. It is never made here: serving only reads."""
        url = self.settings.store
        if "://" not in url and not Path(url).is_dir():
            raise PermanentFailure(
                f"there is no store at {Path(url).absolute()}: set TRANSCRIPTION_STORE to the folder or bucket of the"
                " recordings, or put the first ones there (transcription-assets put)"
            )
        return self.tools.store

    @property
    def table(self) -> Index:
        """The search table, with the credentials of this moment: those of a pod are renewed every hour."""
        return Index(self.store.lancedb_uri, self.store.lancedb_options)

    @cached_property
    def encoder_ready(self) -> "Future[None]":
        """Done once the encoder has encoded something; its exception is why it cannot."""
        ready: Future[None] = Future()
        threading.Thread(target=self._load_encoder, args=(ready,), name="encoder", daemon=True).start()
        return ready

    def search(self, wanted: Wanted) -> list[Hit]:
        """The moments that fit, best first, from `offset` on; at most `limit`."""
        query = search_index.Query(wanted.text, wanted.offset + wanted.limit)
        return list(search_index.search(self.table, self.tools.encoder, query))[wanted.offset :]

    def look(self) -> None:
        """Look into the store; raises what is wrong with it."""
        self.store.list("catalog/")

    def count(self) -> int:
        """How many passages can be found; raises what is wrong with the table."""
        return self.table.count()

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

    def _load_encoder(self, ready: "Future[None]") -> None:
        try:
            self.tools.encoder.encode(["warm"])
        except Exception as error:  # whatever it is, those who wait for it have to be told
            log.exception("the sentence encoder cannot be loaded")
            said = str(error) if isinstance(error, TranscriptionError) else f"{type(error).__name__}: {error}"
            ready.set_exception(PermanentFailure(f"the sentence encoder cannot be loaded: {said}"))
        else:
            ready.set_result(None)


def is_known_form(key: str) -> bool:
    """Whether it can be the key of a recording: in an inbox, with a media suffix, written as `keys.encode` does."""
    name = keys.decode(key)
    return key.startswith(keys.INBOXES) and keys.is_media(name) and keys.encode(name) == key and "\0" not in name
