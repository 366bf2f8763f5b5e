"""Every recording and how far it is: what the store itself tells, without asking Dagster.

Searchable in this version: done. A note of a failure that no later step has overtaken: failed. Looked at by `video`:
working. None of these: waiting.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import polars as pl

from transcription_assets import keys
from transcription_assets.app.serve.archive import FRESH_S, SEARCHABLE, Archive
from transcription_assets.app.serve.kept import Kept
from transcription_assets.app.serve.shapes import State
from transcription_assets.failures import NotFound, TranscriptionError
from transcription_assets.steps import audio, failure, video
from transcription_assets.steps.failure import Failed
from transcription_assets.steps.video import Video
from transcription_assets.storage import Store

MOST_DETAILS = 20_000
SHORT_KEY = 200
"""Bytes of a key that surely leave room for the names of everything that is made from it."""
MOST_READ = 1_000
"""New records that one overview reads; whatever is beyond is shown as working until the next one."""
READERS = 16
"""Records that are read at once: from a bucket each of them takes a while."""
STATES: tuple[State, ...] = ("failed", "working", "waiting", "done")
STEPS = ("video", "audio", "transcript", "embeddings")

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    overview: Kept[Overview] = field(init=False)
    _details: OrderedDict[tuple[str, str], Video] = field(default_factory=OrderedDict)
    _silent: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.overview = Kept(self._overview, FRESH_S)

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

    def pictured(self, media_keys: Collection[str]) -> set[str]:
        """Those of which there is a picture; where the store does not say, none."""
        store, asked = self.archive.store, sorted(media_keys)

        def is_pictured(key: str) -> bool:
            try:
                return store.exists(keys.poster(key))
            except TranscriptionError:
                return False

        return {key for key, found in zip(asked, each(is_pictured, asked), strict=True) if found}

    def _overview(self) -> Overview:
        store = self.archive.store
        frame = _all(store).join(self._searchable(), on="key", how="left")
        is_current = (pl.col("media_etag") == pl.col("etag")) | (pl.col("moved") & (pl.col("passages") > 0))
        todo = frame.filter(~is_current.fill_null(value=False))
        etags = dict(todo.select("key", "etag").iter_rows())
        inside = frame.filter(pl.col("key").str.contains(".json/", literal=True))["key"]
        notes = self._notes(etags, {key.rpartition("/")[0] for key in inside})
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
        states: dict[str, State] = dict.fromkeys(_having(store, "posters/", ".json", etags), "working")
        embedded = _having(store, "embeddings/", ".parquet", etags)
        known = self._silent & etags.items()
        unknown = sorted(embedded - {key for key, _ in known})[:MOST_READ]
        heard = zip(unknown, each(lambda key: _etag_of_sound(store, key), unknown), strict=True)
        self._silent = known | {(key, etag) for key, etag in heard if etag == etags[key]}
        return states | {key: "done" for key, _ in self._silent if key in embedded}

    def _notes(self, etags: Mapping[str, str], folders: Collection[str]) -> dict[str, Failed]:
        """The failures of these versions that no later step has overtaken, and names that leave no room for a note.

        `folders` are those of the inbox that may have the name of a record.
        """
        store = self.archive.store

        def current(key: str) -> Failed | None:
            try:
                note = failure.load(store, key)
                if note is None:
                    store.stat(key)  # says what is wrong with a name that leaves no room for a note
                elif note.etag == etags[key] and not self.progress(key, note.etag).has_overtaken(note.step):
                    return note
            except NotFound:
                return None
            except TranscriptionError as error:
                return unreadable(etags[key], error)
            return None

        noted = _having(store, "failures/", ".json", etags)
        noted |= {key for key in etags if len(key.encode()) > SHORT_KEY or f"{keys.bounded(key)}.json" in folders}
        asked = sorted(noted)[:MOST_READ]
        return {key: note for key, note in zip(asked, each(current, asked), strict=True) if note}

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


def _having(store: Store, prefix: str, suffix: str, media_keys: Iterable[str]) -> set[str]:
    """Return the recordings that have an artefact with this prefix and suffix."""
    there = {name.removeprefix(prefix).removesuffix(suffix) for name in store.list(prefix) if name.endswith(suffix)}
    return {key for key in media_keys if keys.bounded(key) in there}


def each(read: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """What `read` answers for each, in their order, several at once."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="library") as pool:
        return list(pool.map(read, items))


def unreadable(etag: str, error: TranscriptionError) -> Failed:
    """The note of a recording whose own records cannot be read: its row says so, and the others stand."""
    return Failed(etag, STEPS[0], str(error), error.transient, at="")


def _etag_of_sound(store: Store, key: str) -> str:
    try:
        found = audio.load(store, key)
    except TranscriptionError:
        return ""
    return found.etag if found else ""
