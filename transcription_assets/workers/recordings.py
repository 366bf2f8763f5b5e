"""Steps for whole recordings (audio, embeddings) that workers do instead of this process.

The results are in the store, where the same step then finds them: so whoever calls `materialise` afterwards gets the
result at once, wherever it was made.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from transcription_assets.costs.timing import WorkerUse
from transcription_assets.pipeline import failure_notes
from transcription_assets.pipeline.work_queue import Progress, WholeRecording
from transcription_assets.storage import Store
from transcription_assets.workers.coordinator import Announce, Coordinator
from transcription_assets.workers.launcher import Launcher
from transcription_assets.workers.manifest import ManifestRecording, Stage

log = logging.getLogger(__name__)

Pending = Callable[[str], WholeRecording | None]
"""Function that returns what is to be done for a recording, None if nothing."""


@dataclass(frozen=True, slots=True)
class RecordingWorkers:
    """Has the workers of a launcher do a step for recordings; without a launcher nothing is done elsewhere.

    `settings` is what the results depend on, `owner` identifies the run, `shard_s` is the length of a shard in seconds.
    """

    stage: Stage
    launcher: Launcher | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    shard_s: float = 0.0
    owner: str = ""
    announce: Announce = log.info

    def begin(self, store: Store, keys: Iterable[str], pending: Pending, progress: Progress) -> "WorkerBatch":
        """Return the work on those of the recordings that `pending` names; workers start at the first call of `finish`.

        A recording for which `pending` fails has that failure.
        """
        return WorkerBatch(self._outcomes(store, keys, pending, progress))

    @property
    def use(self) -> WorkerUse:
        """Machines that the workers have held."""
        return WorkerUse() if self.launcher is None else self.launcher.use

    def close(self) -> None:
        """End the workers."""
        if self.launcher is not None:
            self.launcher.close()

    def _outcomes(
        self, store: Store, keys: Iterable[str], pending: Pending, progress: Progress
    ) -> Generator[tuple[str, Exception | None], None, None]:
        if self.launcher is None:
            return
        requests: dict[str, WholeRecording] = {}
        for key in keys:
            try:
                request = pending(key)
            except Exception as failure:  # noqa: BLE001 -- an error of one recording must not stop the others
                yield key, self._noted(store, key, failure)
                continue
            if request is not None:
                requests[key] = request
        coordinator = Coordinator(
            self.stage,
            self.settings,
            _described,
            self.launcher,
            self.shard_s,
            self.owner,
            announce=self.announce,
        )
        outcomes = coordinator.run(store, list(requests.values()), progress)
        try:
            for done, error in outcomes:
                del requests[done.key]
                yield done.key, self._noted(store, done.key, error)
        except Exception as failure:  # noqa: BLE001 -- of the workers: all recordings left have the same failure
            yield from ((key, self._noted(store, key, failure)) for key in requests)

    def _noted(self, store: Store, key: str, error: Exception | None) -> Exception | None:
        if error is not None:
            failure_notes.note(store, key, self.stage, error)
        return error


class WorkerBatch:
    """A batch of recordings that workers have; leaving its context ends those that still work."""

    def __init__(self, outcomes: Generator[tuple[str, Exception | None], None, None]) -> None:
        self._outcomes = outcomes
        self._known: dict[str, Exception | None] = {}

    def __enter__(self) -> Self:
        """Return the work."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers that still work."""
        self._outcomes.close()

    def end(self) -> None:
        """Wait until all workers have ended, which they may do some time after their last recording."""
        self._known |= dict(self._outcomes)

    def finish(self, key: str) -> bool:
        """Return when workers have done the recording: True; or False if this was not given to them.

        Raises:
            Exception: the failure of the recording.

        """
        while key not in self._known:
            outcome = next(self._outcomes, None)
            if outcome is None:
                return False
            done, error = outcome
            self._known[done] = error
        error = self._known[key]
        if error is not None:
            raise error
        return True


def _described(request: WholeRecording) -> ManifestRecording:
    return ManifestRecording(request.key, request.version)
