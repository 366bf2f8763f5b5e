"""Every recording and how far it is: what the store itself tells, without asking Dagster.

Searchable in this version: done. A note of a failure that no later step has overtaken: failed. Looked at by `video`:
working. None of these: waiting.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from transcription_assets import keys
from transcription_assets.app.serve.archive import SEARCHABLE, Archive
from transcription_assets.app.serve.shapes import State
from transcription_assets.failures import TranscriptionError
from transcription_assets.steps import audio, failure, video
from transcription_assets.steps.failure import Failed
from transcription_assets.steps.video import Video
from transcription_assets.storage import Store

FRESH_S = 10.0
"""How old an overview may be before it is made anew: listing a large bucket takes seconds."""
MOST_DETAILS = 20_000
MOST_READ = 1_000
"""Records that one overview reads, one by one; whatever is beyond is shown as working."""
STATES: tuple[State, ...] = ("failed", "working", "waiting", "done")
STEPS = ("video", "audio", "transcript", "embeddings")


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """All recordings (key, etag, size, last_modified, state, passages, language), newest first, and their notes."""

    frame: pl.DataFrame
    notes: Mapping[str, Failed]

    @property
    def counts(self) -> dict[State, int]:
        """How many there are of each state."""
        found = dict(self.frame["state"].value_counts().iter_rows())
        return {state: found.get(state, 0) for state in STATES}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is that is not done: which outputs of its version are there."""

    video: bool
    audio: bool
    transcript: bool

    @property
    def next_step(self) -> str:
        """The step that is running or waited for."""
        return STEPS[sum((self.video, self.audio, self.transcript))]

    def has_overtaken(self, step: str) -> bool:
        """Whether this step has succeeded since it failed."""
        return step in STEPS and STEPS.index(step) < STEPS.index(self.next_step)


@dataclass(slots=True)
class Library:
    """Overviews, kept for a moment, and what the probe saw, kept for a version."""

    archive: Archive
    now: Callable[[], float] = time.monotonic
    _made: tuple[float, Overview] | None = None
    _making: threading.Lock = field(default_factory=threading.Lock)
    _details: OrderedDict[tuple[str, str], Video] = field(default_factory=OrderedDict)

    def overview(self) -> Overview:
        """At most FRESH_S old, or, while another thread makes a new one, the last one."""
        made = self._made
        if made and self.now() - made[0] < FRESH_S:
            return made[1]
        if not self._making.acquire(blocking=made is None):
            assert made  # noqa: S101 -- else we had waited
            return made[1]
        try:
            if self._made is None or self._made is made:
                self._made = (self.now(), self._overview())
            return self._made[1]
        finally:
            self._making.release()

    def details(self, key: str, etag: str) -> Video | None:
        """What the probe saw of this version, if it has looked at it."""
        if found := self._details.get((key, etag)):
            return found
        seen = video.load(self.archive.store, key)
        if seen is None or seen.etag != etag:
            return None
        self._details[key, etag] = seen
        if len(self._details) > MOST_DETAILS:
            self._details.popitem(last=False)
        return seen

    def progress(self, key: str, etag: str) -> Progress:
        """How far this version is."""
        store = self.archive.store
        seen = self.details(key, etag) is not None
        heard = seen and _etag_of_sound(store, key) == etag
        return Progress(seen, heard, heard and store.exists(keys.transcript(key)))

    def _overview(self) -> Overview:
        store = self.archive.store
        frame = _all(store).join(self._searchable(), on="key", how="left")
        is_current = (pl.col("media_etag") == pl.col("etag")) | (pl.col("moved") & (pl.col("passages") > 0))
        todo = frame.filter(~is_current.fill_null(value=False))
        etags = dict(todo.select("key", "etag").iter_rows())
        notes = self._notes(etags)
        state: dict[str, State] = dict.fromkeys(etags, "waiting")
        state |= self._begun(etags) | dict.fromkeys(notes, "failed")
        states = pl.DataFrame([*state.items()], {"key": pl.String, "state": pl.String}, orient="row")
        shown = frame.join(states, on="key", how="left").with_columns(
            pl.col("state").fill_null("done"), pl.col("passages").fill_null(0), pl.col("language").fill_null("")
        )
        return Overview(shown.sort("last_modified", "key", descending=[True, False]), notes)

    def _begun(self, etags: Mapping[str, str]) -> dict[str, State]:
        """Those that were looked at, and those in which nobody speaks: they are done and cannot be found."""
        store = self.archive.store
        if not etags:
            return {}
        states: dict[str, State] = dict.fromkeys(_stems(store, "posters/", ".json") & etags.keys(), "working")
        silent = sorted(_stems(store, "embeddings/", ".parquet") & etags.keys())[:MOST_READ]
        return states | {key: "done" for key in silent if _etag_of_sound(store, key) == etags[key]}

    def _notes(self, etags: Mapping[str, str]) -> dict[str, Failed]:
        """The failures of these versions that no later step has overtaken."""
        store = self.archive.store
        notes: dict[str, Failed] = {}
        for key in sorted(_stems(store, "failures/", ".json") & etags.keys())[:MOST_READ]:
            note = failure.load(store, key)
            if note and note.etag == etags[key] and not self.progress(key, note.etag).has_overtaken(note.step):
                notes[key] = note
        return notes

    def _searchable(self) -> pl.DataFrame:
        """Key, media_etag, language, passages: one row a recording that can be found."""
        try:
            return self.archive.searchable()
        except (TranscriptionError, OSError, RuntimeError, ValueError):
            # The table is missing or damaged, and the search page says so: what there is can be listed all the same.
            return pl.DataFrame(schema=SEARCHABLE)


def _all(store: Store) -> pl.DataFrame:
    """What lies in the inboxes, and what was moved out of them when it was done; new versions hide moved ones."""
    here = store.list_media().frame.with_columns(moved=pl.lit(value=False))
    done = store.list_done().join(here, on="key", how="anti").with_columns(moved=pl.lit(value=True))
    return pl.concat([here, done])


def _stems(store: Store, prefix: str, suffix: str) -> set[str]:
    return {name.removeprefix(prefix).removesuffix(suffix) for name in store.list(prefix) if name.endswith(suffix)}


def _etag_of_sound(store: Store, key: str) -> str:
    found = audio.load(store, key)
    return found.etag if found else ""
