"""The work queue of a batch: the recordings on which a step is to be done, in windows, and what is known of each.

A step that can be divided (decoding) has many windows for a recording, another one (extraction, embedding) has one.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from transcription_assets.pipeline import quarantine
from transcription_assets.pipeline.checkpoints import WindowId
from transcription_assets.pipeline.shard_status import WindowRef
from transcription_assets.speech import recognition
from transcription_assets.storage import Store

Progress = Callable[[str, float], None]
"""Function that is called with a media key and the seconds of the recording that are done."""


class WorkRequest(Protocol):
    """A recording on which a step is to be done; `version` identifies everything that its result depends on."""

    @property
    def key(self) -> str:
        """Media key."""
        ...

    @property
    def version(self) -> str:
        """Identifier of the input and the options."""
        ...

    @property
    def lengths(self) -> Mapping[WindowId, float]:
        """Length of each window in seconds, in the order of their work."""
        ...

    @property
    def channels(self) -> int:
        """Number of channels, each of which has windows for all of the recording."""
        ...

    def missing(self, store: Store) -> set[WindowId]:
        """Return the windows that are not done.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        ...


@dataclass(frozen=True, slots=True)
class WholeRecording:
    """Request of a step that cannot be divided: a single window of `seconds`."""

    key: str
    version: str
    seconds: float

    @property
    def lengths(self) -> Mapping[WindowId, float]:
        """Length of the window."""
        return {(0, 0): self.seconds}

    @property
    def channels(self) -> int:
        """One, as channels are not counted here."""
        return 1

    def missing(self, _store: Store) -> set[WindowId]:
        """Return the window: such a request is made only if the step is not done."""
        return {(0, 0)}


R = TypeVar("R", bound=WorkRequest)


class WorkQueue(Generic[R]):
    """The requests of a batch whose outcome is not known yet.

    `requests` are by media key, `missing` are their windows that are not done. `suspects` are those that a process
    died of. `known` are the outcomes that were known from the beginning.
    """

    def __init__(self, store: Store, requests: Sequence[R], progress: Progress) -> None:
        self._store = store
        self.tracker = ProgressTracker(progress)
        self.requests = {request.key: request for request in requests}
        self.missing: dict[str, set[WindowId]] = {}
        self.suspects: set[str] = set()
        self.known: list[tuple[R, Exception | None]] = []

    @classmethod
    def of(cls, store: Store, requests: Sequence[R], progress: Progress, owner: str) -> "WorkQueue[R]":
        """Return the queue; processes that died earlier are taken into account.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        quarantine.recover(store, owner)
        queue = cls(store, requests, progress)
        queue.known = queue.isolate()
        for key, request in list(queue.requests.items()):
            missing = queue.missing[key] = request.missing(store)
            queue.tracker.begin(request, missing)
            if not missing:
                queue.known += queue._drop(key, None)
        return queue

    def isolate(self) -> list[tuple[R, Exception | None]]:
        """Read which recordings a process died of; return the failures of those that must not be tried again.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        versions = {key: request.version for key, request in self.requests.items()}
        deaths = quarantine.load(self._store, versions) if versions else {}
        self.suspects = set(deaths)
        final = {key: item.error(key) for key, item in deaths.items() if item.is_final}
        return [outcome for key, error in final.items() for outcome in self._drop(key, error)]

    def groups(self, group_s: float) -> list[list[WindowRef]]:
        """Return the windows in groups; each recording that a process died of is alone, after all others."""
        alone = [[window] for key in self.missing if key in self.suspects for window in self._windows(key)]
        return self.pooled_groups(group_s) + alone

    def pooled_groups(self, group_s: float) -> list[list[WindowRef]]:
        """Return the windows of the recordings that no process died of, in groups of at least `group_s` seconds."""
        pooled = [window for key in self.missing if key not in self.suspects for window in self._windows(key)]
        return recognition.grouped(pooled, self.length, group_s)

    def suspect_groups(self) -> list[list[WindowRef]]:
        """Return the windows of the first recording that a process died of, each in a group of its own."""
        first = next((key for key in self.missing if key in self.suspects), None)
        return [[window] for window in self._windows(first)] if first else []

    def length(self, window: WindowRef) -> float:
        """Return the length of a window in seconds."""
        key, channel, number = window
        return self.requests[key].lengths[channel, number]

    def _windows(self, key: str) -> list[WindowRef]:
        return [(key, *window) for window in self.requests[key].lengths if window in self.missing[key]]

    def finish(self, window: WindowRef) -> list[tuple[R, Exception | None]]:
        """Note a window as done; return the outcome of its recording if that was the last one.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        key, channel, number = window
        if key not in self.requests:
            return []
        if key in self.suspects:
            quarantine.lift(self._store, key)
        self.missing[key].discard((channel, number))
        self.tracker.finish(window)
        return [] if self.missing[key] else self._drop(key, None)

    def fail(self, key: str, error: Exception) -> list[tuple[R, Exception | None]]:
        """Note the failure of a recording; return its outcome, unless it was known before."""
        return self._drop(key, error)

    def _drop(self, key: str, error: Exception | None) -> list[tuple[R, Exception | None]]:
        self.missing.pop(key, None)
        request = self.requests.pop(key, None)
        return [(request, error)] if request else []


class ProgressTracker:
    """Seconds done of each recording: the mean over its channels, which never decreases."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._lengths: dict[WindowRef, float] = {}
        self._done_s: dict[str, float] = defaultdict(float)
        self._reported_s: dict[str, float] = defaultdict(float)

    def begin(self, request: WorkRequest, missing: set[WindowId]) -> None:
        """Count the windows of a recording that are done already."""
        key, channels = request.key, max(1, request.channels)
        for window, length in request.lengths.items():
            self._lengths[key, *window] = length / channels
            if window not in missing:
                self._done_s[key] += length / channels

    def working(self, windows: Sequence[WindowRef], share: float) -> None:
        """Report the seconds done of the recordings of these windows, of which this share is done."""
        partly: dict[str, float] = defaultdict(float)
        for window in windows:
            partly[window[0]] += share * self._lengths[window]
        for key, seconds in partly.items():
            self._tell(key, self._done_s[key] + seconds)

    def finish(self, window: WindowRef) -> None:
        """Count a window as done."""
        key = window[0]
        self._done_s[key] += self._lengths[window]
        self._tell(key, self._done_s[key])

    def _tell(self, key: str, seconds: float) -> None:
        self._reported_s[key] = max(self._reported_s[key], seconds)
        self._report(key, self._reported_s[key])
