"""Journal of what steps used (`usage/<day>/<id>.json`), written by whatever runs them, and read for `/metrics`.

Entries are never changed. Those of a day that ended more than a day ago are replaced by one file with their sum
(`usage/<day>.json`), so that all of them can be read again after each start of a server: totals since the first entry
do not fall when a server restarts.
"""

import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from uuid import uuid4

from transcription_assets.costs.usage import StepUsage, Usage, total
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline import records
from transcription_assets.storage import Store

FOLDER = "usage/"
VERSION = "1"
MOST_READ = 2_000
"""Maximum files that one call of `UsageReader.read` reads."""
ATTEMPTS = 3
"""Lists in one call of `UsageReader.read`, as files may be summed up meanwhile."""
READERS = 16
"""Files read in parallel, because of the latency of a bucket."""
_PATH = re.compile(r"usage/(\d{4}-\d\d-\d\d)(?:\.json|/\w+\.json)")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    steps: dict[str, StepUsage] = field(default_factory=dict)
    version: str = VERSION


def add(store: Store, used: Usage, now: datetime | None = None) -> None:
    """Write an entry; an error of the store is logged only, as the figures are not part of any result."""
    if not used:
        return
    day = (now or datetime.now(UTC)).date().isoformat()
    try:
        _write(store, f"{FOLDER}{day}/{uuid4().hex}.json", used)
    except TranscriptionError as error:
        log.warning("what the steps used cannot be written: %s", error)


def _write(store: Store, path: str, used: Usage) -> None:
    figures = total({step: item.clamped()} for step, item in used.items())
    records.write(store, path, asdict(_Entry(figures)))


def compact(store: Store, now: datetime | None = None) -> None:
    """Replace the entries of each day before yesterday by their sum.

    Several processes may do it at once. Each lists a day, reads all of it, and only then checks whether the sum exists:
    if it does not, nobody had deleted an entry when the day was listed, so all write the same sum. A day with entries
    that cannot be read is left alone. An error of the store is logged only: the next call does the same.
    """
    try:
        _compact(store, now or datetime.now(UTC))
    except TranscriptionError as error:
        log.warning("what the steps used cannot be summed up: %s", error)


def _compact(store: Store, now: datetime) -> None:
    yesterday = (now.date() - timedelta(days=1)).isoformat()
    days: dict[str, list[str]] = {}
    for path in store.list(FOLDER):
        day = _day(path)
        if day and path != _sum(day) and day < yesterday:
            days.setdefault(day, []).append(path)
    for day, paths in days.items():
        entries = [entry for entry in _read(store, paths) if entry is not Missing.GONE]
        readable = [entry for entry in entries if not isinstance(entry, Missing)]
        if len(readable) < len(entries):
            log.warning("usage of %s: an entry is damaged or of another release; the day is left as it is", day)
            continue
        if not store.exists(_sum(day)):
            _write(store, _sum(day), total(readable))
        store.delete_below(f"{FOLDER}{day}/")


def _sum(day: str) -> str:
    return f"{FOLDER}{day}.json"


def _day(path: str) -> str:
    """Return the day of an entry or sum, "" for any other file."""
    found = _PATH.fullmatch(path)
    return found[1] if found else ""


class Missing(Enum):
    """Why a file has no usage."""

    GONE = auto()
    UNREADABLE = auto()


def _read(store: Store, paths: Sequence[str]) -> list[Usage | Missing]:
    """Return what the files hold, or why there is nothing."""

    def load(path: str) -> Usage | Missing:
        found = records.load(store, path, _Entry, VERSION)
        if found:
            return found.steps
        return Missing.UNREADABLE if store.exists(path) else Missing.GONE

    with ThreadPoolExecutor(READERS, thread_name_prefix="usage") as pool:
        return list(pool.map(load, paths))


@dataclass(slots=True)
class UsageReader:
    """Reads the journal; each file once, at most MOST_READ files in a call."""

    store: Callable[[], Store]
    _days: dict[str, dict[str, StepUsage]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _complete: bool = False

    def read(self) -> Usage | None:
        """Return the totals since the first entry; None as long as not all files that were there have been read.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        # Entries that are gone are part of a sum that the next list has. Until it is read, the totals stay the same.
        any(self._update() for _ in range(ATTEMPTS))
        return total(self._days.values()) if self._complete else None

    def _update(self) -> bool:
        """Read new files; return whether all of them were there."""
        store = self.store()
        present = {path: day for path in store.list(FOLDER) if (day := _day(path))}
        sums = {path for path, day in present.items() if path == _sum(day)}
        wanted = [path for path, day in present.items() if path in sums or _sum(day) not in sums]
        unread = [path for path in wanted if path not in self._seen]
        part = unread[:MOST_READ]
        read = _read(store, part)
        if Missing.GONE in read:
            return False
        for path, found in zip(part, read, strict=True):
            day = present[path]
            entry = {} if isinstance(found, Missing) else found
            # A sum replaces the entries of its day, which were read one by one.
            self._days[day] = total([entry] if path in sums else [self._days.get(day, {}), entry])
        self._seen = (self._seen & set(wanted)) | set(part)
        self._complete |= len(part) == len(unread)
        return True
