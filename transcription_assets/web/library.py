"""Every recording and its state, read from the store without Dagster; `recording_state` has the rules."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import polars as pl

from transcription_assets.domain import media_keys as keys
from transcription_assets.errors import NotFound, TranscriptionError
from transcription_assets.pipeline import audio, failure_notes, origin, transcript, video
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.failure_notes import FailureNote
from transcription_assets.pipeline.origin import Origin
from transcription_assets.pipeline.video import Video
from transcription_assets.storage import Store
from transcription_assets.web.archive import FRESH_S, SEARCHABLE, Archive
from transcription_assets.web.cache import Cached
from transcription_assets.web.recording_state import STEPS, ArtefactState, TranscriptState, recording_state, spoken
from transcription_assets.web.schemas import State

MOST_DETAILS = 20_000
MOST_READ = 1_000
"""Maximum records of a kind that one overview reads; the others are listed as working until a later one."""
READERS = 16
"""Maximum records read in parallel, because of the latency of a bucket."""
SHORT_KEY = 200
"""Bytes of a key that certainly leave room for the names of all its artefacts."""
STATES: tuple[State, ...] = ("failed", "working", "waiting", "done")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """All recordings, newest first, and the failure records of those that failed.

    Columns: key, etag, size, last_modified, state, silence, passages, language.
    """

    frame: pl.DataFrame
    notes: Mapping[str, FailureNote]

    @property
    def counts(self) -> dict[State, int]:
        """Number of recordings by state."""
        found = dict(self.frame["state"].value_counts().iter_rows())
        return {state: found.get(state, 0) for state in STATES}


@dataclass(slots=True)
class RecordReader(Generic[Result]):
    """Cache of the results of `read` by media key.

    With `settles` an artefact is read again only if its ETag has changed or the last attempt failed.
    """

    read: Callable[[str], Result]
    settles: bool = True
    _cached: dict[str, tuple[str, Result | TranscriptionError]] = field(default_factory=dict)
    """ETag and value by media key, the least recently read first."""

    def of(self, versions: Mapping[str, str]) -> dict[str, Result | TranscriptionError]:
        """Return the results for `versions` (ETags of the artefacts by media key) and discard all others.

        At most MOST_READ artefacts are read: first those that are new, then the least recently read, so that each is
        read at some time. The result of an artefact that cannot be read is its error.
        """
        cached = {key: artefacts for key, artefacts in self._cached.items() if artefacts[0] == versions.get(key)}
        to_retry = [
            key for key, (_, value) in cached.items() if not self.settles or isinstance(value, TranscriptionError)
        ]
        due = [*sorted(versions.keys() - cached.keys()), *to_retry][:MOST_READ]
        for key, value in zip(due, each(guarded(self.read), due), strict=True):
            cached.pop(key, None)
            cached[key] = versions[key], value
        self._cached = cached
        return {key: value for key, (_, value) in cached.items()}


@dataclass(slots=True)
class Library:
    """Overviews, cached for some seconds, and records of recordings, cached by version."""

    archive: Archive
    overview: Cached[Overview] = field(init=False)
    progress: OrderedDict[tuple[str, str], tuple[float, float | None]] = field(default_factory=OrderedDict)
    """Shares that are decoded, by key and version, each with the time (monotonic) at which it was read."""
    _details: OrderedDict[tuple[str, str], Video] = field(default_factory=OrderedDict)
    _sounds: OrderedDict[tuple[str, str], Audio] = field(default_factory=OrderedDict)
    _origins: OrderedDict[tuple[str, str], Origin | None] = field(default_factory=OrderedDict)
    _spoken: OrderedDict[tuple[str, str], TranscriptState | None] = field(default_factory=OrderedDict)
    _probed: RecordReader[str] = field(init=False)
    _embedded: RecordReader[TranscriptState | None] = field(init=False)
    _failed: RecordReader[FailureNote | None] = field(init=False)
    _rooms: RecordReader[None] = field(init=False)

    def __post_init__(self) -> None:
        self.overview = Cached(self._overview, FRESH_S)
        self._probed = RecordReader(self._probed_etag)
        self._embedded = RecordReader(self._read_transcript)
        self._failed = RecordReader(lambda key: failure_notes.load(self.archive.store, key))
        # A folder with the name of a failure record can appear at any time, without a change of the recording.
        self._rooms = RecordReader(self._require_room, settles=False)

    def details(self, key: str, etag: str) -> Video | None:
        """Return the record of the probe of this version, if there is one.

        Raises:
            TranscriptionError: the store cannot be opened or read.

        """
        if found := self._details.get((key, etag)):
            return found
        probed = video.load(self.archive.store, key)
        if probed is None or probed.etag != etag:
            return None
        remember(self._details, (key, etag), probed)
        return probed

    def sound(self, key: str, etag: str) -> Audio | None:
        """Return the record of the extracted sound of this version, if there is one.

        Raises:
            TranscriptionError: the store cannot be opened or read.

        """
        if found := self._sounds.get((key, etag)):
            return found
        extracted = audio.load(self.archive.store, key)
        if extracted is None or extracted.etag != etag:
            return None
        remember(self._sounds, (key, etag), extracted)
        return extracted

    def origin(self, key: str, etag: str) -> Origin | None:
        """Return where a source found this version of the recording, None if it was put into the inbox by hand.

        Raises:
            TranscriptionError: the store cannot be opened or read.

        """
        if (key, etag) not in self._origins:
            remember(self._origins, (key, etag), origin.load(self.archive.store, key))
        return self._origins[key, etag]

    def artefacts(self, key: str, etag: str) -> ArtefactState:
        """Return the artefacts of this version that precede its passages.

        Raises:
            TranscriptionError: the store cannot be opened or read.

        """
        transcript_state = self._transcript(key)
        return ArtefactState(
            video=self.details(key, etag) is not None,
            audio=self.sound(key, etag) is not None,
            silence=transcript_state.silence if transcript_state and transcript_state.etag == etag else None,
        )

    def pictured(self, media_keys: Collection[str]) -> set[str]:
        """Return the recordings that have a poster frame; one that cannot be checked counts as having none.

        Raises:
            TranscriptionError: the store cannot be opened.

        """
        store, sorted_keys = self.archive.store, sorted(media_keys)

        def is_pictured(key: str) -> bool:
            try:
                return store.exists(keys.poster(key))
            except TranscriptionError:
                return False

        return {key for key, found in zip(sorted_keys, each(is_pictured, sorted_keys), strict=True) if found}

    def _overview(self) -> Overview:
        rows_each = self._searchable()
        frame = _all(self.archive.store).join(
            pl.DataFrame(schema=SEARCHABLE) if rows_each is None else rows_each, on="key", how="left"
        )
        is_current = (pl.col("media_etag") == pl.col("etag")) | (pl.col("moved") & (pl.col("passages") > 0))
        todo = frame.filter(~is_current.fill_null(value=False))
        inside = frame.filter(pl.col("key").str.contains(".json/", literal=True))["key"]
        artefacts, notes = self._unpublished(todo, {key.rpartition("/")[0] for key in inside})
        if rows_each is None:
            # Without the table, recordings that have passages count as published; only the current batch may not be.
            artefacts = {
                key: replace(one, rows="current" if one.passages and one.silence is not None else "")
                for key, one in artefacts.items()
            }
        rows = [(key, recording_state(of_it)[0], of_it.silence or "") for key, of_it in artefacts.items()]
        states = pl.DataFrame(rows, {"key": pl.String, "state": pl.String, "silence": pl.String}, orient="row")
        rows_shown = frame.join(states, on="key", how="left").with_columns(
            pl.col("state").fill_null("done"),
            pl.col("passages").fill_null(0),
            pl.col("language", "silence").fill_null(""),
        )
        failed = {key: notes[key] for key, state, _ in rows if state == "failed"}
        return Overview(rows_shown.sort("last_modified", "key", descending=[True, False]), failed)

    def _unpublished(
        self, todo: pl.DataFrame, folders: Collection[str]
    ) -> tuple[dict[str, ArtefactState], dict[str, FailureNote]]:
        """Return the artefacts of recordings whose current version is not searchable, and their failure records.

        The next step is exact only for those that failed: `held` reads more, for a single recording. `folders` are
        folders of the inbox that may have the name of a record.
        """
        etags = dict(todo.select("key", "etag").iter_rows())
        older = set(todo.filter(pl.col("passages") > 0)["key"])
        moved = set(todo.filter("moved")["key"])
        records = self._versions("posters/", ".json", etags)
        passages = self._versions("embeddings/", ".parquet", etags)
        probed, transcripts = self._probed.of(records), self._embedded.of(passages)
        notes = self._notes(etags, folders)
        exact = dict(zip(notes, each(guarded(lambda key: self.artefacts(key, etags[key])), [*notes]), strict=True))

        def artefacts(key: str, etag: str) -> ArtefactState:
            transcript_state, found = transcripts.get(key), exact.get(key)
            if isinstance(found, TranscriptionError):
                notes[key] = unreadable(etag, found)
            if key in notes and not notes[key].at:
                found = (
                    ArtefactState()
                )  # without other artefacts, so that no later step makes the unreadable record outdated
            elif not isinstance(found, ArtefactState):
                is_of_this = isinstance(transcript_state, TranscriptState) and (
                    transcript_state.etag == etag or key in moved
                )
                found = ArtefactState(
                    # A record that has not been read yet counts as one of this version.
                    video=key in records and probed.get(key, etag) == etag,
                    silence=transcript_state.silence
                    if isinstance(transcript_state, TranscriptState) and is_of_this
                    else None,
                )
            return replace(
                found,
                passages=key in passages,
                rows="older" if key in older else "",
                failed=notes[key].step if key in notes else "",
            )

        return {key: artefacts(key, etag) for key, etag in etags.items()}, notes

    def _notes(self, etags: Mapping[str, str], folders: Collection[str]) -> dict[str, FailureNote]:
        """Return the failures of these versions, also of keys for which no failure record can be stored."""
        records_read = self._failed.of(self._versions("failures/", ".json", etags))
        notes = {
            key: note for key, note in records_read.items() if isinstance(note, FailureNote) and note.etag == etags[key]
        }
        errors = {key: note for key, note in records_read.items() if isinstance(note, TranscriptionError)}
        odd = {
            key: etag
            for key, etag in etags.items()
            if len(key.encode()) > SHORT_KEY or f"{keys.bounded(key)}.json" in folders
        }
        errors |= {
            key: error
            for key, error in self._rooms.of(odd).items()
            if isinstance(error, TranscriptionError) and not isinstance(error, NotFound)
        }
        return notes | {key: unreadable(etags[key], error) for key, error in errors.items()}

    def _require_room(self, key: str) -> None:
        """Check that the store accepts the names of the recording and of its failure record."""
        if failure_notes.load(self.archive.store, key) is None:
            self.archive.store.stat(key)

    def _versions(self, prefix: str, suffix: str, media_keys: Collection[str]) -> dict[str, str]:
        """Return the ETags of the artefacts `<prefix><key><suffix>` of the wanted media keys."""
        if not media_keys:
            return {}
        found = self.archive.store.versions(prefix).items()
        by_name = {
            name.removeprefix(prefix).removesuffix(suffix): etag for name, etag in found if name.endswith(suffix)
        }
        return {key: by_name[keys.bounded(key)] for key in media_keys if keys.bounded(key) in by_name}

    def _transcript(self, key: str) -> TranscriptState | None:
        """Return the part of the transcript that decides on the state, read again only if its ETag has changed."""
        version = self.archive.store.version(keys.transcript(key))
        if version and (key, version) not in self._spoken:
            remember(self._spoken, (key, version), self._read_transcript(key))
        return self._spoken.get((key, version)) if version else None

    def _probed_etag(self, key: str) -> str:
        probed = video.load(self.archive.store, key)
        return probed.etag if probed else ""

    def _read_transcript(self, key: str) -> TranscriptState | None:
        found = transcript.load(self.archive.store, key)
        return spoken(found, with_low_confidence=self.archive.settings.search_low_confidence) if found else None

    def _searchable(self) -> pl.DataFrame | None:
        """Return key, media_etag, language and number of passages of each searchable recording.

        None if the table is damaged: a search reports that, and the library can be listed all the same.
        """
        try:
            return self.archive.searchable()
        except (TranscriptionError, OSError, RuntimeError, ValueError):
            return None


def _all(store: Store) -> pl.DataFrame:
    """Return the recordings of the inboxes and those moved out of them when done; new versions hide moved ones."""
    in_inboxes = store.list_media().frame.with_columns(moved=pl.lit(value=False))
    done = store.list_done().join(in_inboxes, on="key", how="anti").with_columns(moved=pl.lit(value=True))
    return pl.concat([in_inboxes, done])


def remember(cache: OrderedDict[tuple[str, str], Item], name: tuple[str, str], value: Item) -> None:
    """Add a value to a cache of at most MOST_DETAILS values."""
    cache[name] = value
    if len(cache) > MOST_DETAILS:
        cache.popitem(last=False)


def guarded(read: Callable[[Item], Result]) -> Callable[[Item], Result | TranscriptionError]:
    """Return a function that returns the TranscriptionError of `read`, so that one bad record affects no others."""

    def guarded_read(item: Item) -> Result | TranscriptionError:
        try:
            return read(item)
        except TranscriptionError as error:
            return error

    return guarded_read


def each(read: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return the results of `read` in the order of `items`, several computed in parallel.

    Raises:
        Exception: any exception of `read`.

    """
    with ThreadPoolExecutor(READERS, thread_name_prefix="library") as pool:
        return list(pool.map(read, items))


def unreadable(etag: str, error: TranscriptionError) -> FailureNote:
    """Return a failure for a recording whose records cannot be read, so that only its own row reports the error."""
    return FailureNote(etag, STEPS[0], str(error), error.transient, at="")
