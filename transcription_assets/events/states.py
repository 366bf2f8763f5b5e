"""The last known state of each subject, in `SHARDS` files of the store, and which occurrences change it.

A recording that is done takes about 130 bytes, so that 100 000 recordings take 13 MB in all.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.events.occurrences import Occurrence
from transcription_assets.storage import Store

SHARDS = 64
STATES = "events/states/"
READERS = 16
"""Requests at once, because of the latency of a bucket."""

Change = Literal["none", "unknown", "failed", "succeeded", "recovered"]


@dataclass(frozen=True, slots=True)
class SubjectState:
    """State of a subject: `failed` or not, in this `version`; `events` were made of it.

    `taken` are the names of its occurrences in the last intake that had some: they do not count again if that intake
    was killed, and is repeated. `last` is the time in the id of its last event.
    """

    taken: tuple[str, ...]
    failed: bool
    version: str = ""
    events: int = 0
    at: str = ""
    reason: str = ""
    transient: bool = False
    last: str = ""


_ENTRIES = TypeAdapter(dict[str, SubjectState])


def change(entry: SubjectState | None, occurrence: Occurrence) -> Change:
    """Return how an occurrence changes the state of its subject.

    A failure is reported if the subject had not failed, if it is of another version, or if a retry will no longer
    help. So each retry of a step, which fails again, is none. `unknown` is the first occurrence of a subject that
    succeeded, which may have been so for long.
    """
    if not occurrence.succeeded:
        if entry is None or not entry.failed or entry.version != occurrence.version:
            return "failed"
        return "failed" if entry.transient and not occurrence.transient else "none"
    if entry is None:
        return "unknown"
    if entry.failed:
        return "recovered"
    return "succeeded" if entry.version != occurrence.version else "none"


def following(
    entry: SubjectState | None, occurrence: Occurrence, taken: tuple[str, ...], *, is_event: bool
) -> SubjectState:
    """Return the state after an occurrence; `taken` are the names as of `SubjectState`."""
    events, last = (entry.events + is_event, entry.last) if entry else (int(is_event), "")
    if occurrence.succeeded:
        return SubjectState(taken, failed=False, version=occurrence.version, events=events, last=last)
    if entry and entry.failed and not is_event:  # still the same failure, for good once it was so
        transient = entry.transient and occurrence.transient
        return replace(entry, taken=taken, reason=occurrence.reason, transient=transient)
    return SubjectState(
        taken,
        failed=True,
        version=occurrence.version,
        events=events,
        at=occurrence.at,
        reason=occurrence.reason,
        transient=occurrence.transient,
        last=last,
    )


@dataclass(slots=True)
class States:
    """States of subjects, read in part and written back; for one process at a time."""

    store: Store
    _shards: dict[int, dict[str, SubjectState]] = field(default_factory=dict)
    _changed: set[int] = field(default_factory=set)

    def read(self, subjects: Iterable[str]) -> None:
        """Read the states of these subjects, unless they were read before.

        Raises:
            PermanentFailure: a file is damaged.
            TranscriptionError: the store refuses or does not answer.

        """
        self._read(sorted({_shard(subject) for subject in subjects} - self._shards.keys()))

    def get(self, subject: str) -> SubjectState | None:
        """Return the state of a subject that was read; None if nothing is known of it."""
        return self._shards[_shard(subject)].get(subject)

    def put(self, subject: str, entry: SubjectState) -> None:
        """Replace the state of a subject that was read."""
        self._shards[_shard(subject)][subject] = entry
        self._changed.add(_shard(subject))

    def everything(self) -> Mapping[str, SubjectState]:
        """Return all states by subject.

        Raises:
            TranscriptionError: a file is damaged, or the store refuses or does not answer.

        """
        self._read([number for number in range(SHARDS) if number not in self._shards])
        return {subject: entry for shard in self._shards.values() for subject, entry in shard.items()}

    def drop(self, subjects: Iterable[str]) -> None:
        """Forget these subjects, of which all states were read."""
        for subject in subjects:
            del self._shards[_shard(subject)][subject]
            self._changed.add(_shard(subject))

    def save(self) -> None:
        """Write the states that changed.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(self._write, sorted(self._changed)))
        self._changed.clear()

    def _read(self, numbers: Sequence[int]) -> None:
        with ThreadPoolExecutor(READERS) as pool:
            self._shards |= dict(zip(numbers, pool.map(self._load, numbers), strict=True))

    def _load(self, number: int) -> dict[str, SubjectState]:
        try:
            return _ENTRIES.validate_json(self.store.read(_path(number)))
        except NotFound:
            return {}
        except ValueError as error:
            hint = "delete it: failures that are known already are then sent once more"
            location = f"{self.store.url}/{_path(number)}"
            raise PermanentFailure(f"{location}: damaged state of events; {hint}", hint=hint) from error

    def _write(self, number: int) -> None:
        self.store.write(_path(number), _ENTRIES.dump_json(self._shards[number], exclude_defaults=True))


def _shard(subject: str) -> int:
    return int.from_bytes(sha256(subject.encode(errors="surrogatepass")).digest()[:4]) % SHARDS


def _path(number: int) -> str:
    return f"{STATES}{number:02}.json"
