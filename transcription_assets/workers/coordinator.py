"""The coordinator: has workers do a stage for a batch of recordings.

It works in rounds. In each, the windows that are not done are distributed over shards, and workers work on them. When
all have ended, what a worker died of is set apart (see `quarantine`), and the next round does the rest.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import uuid4

from transcription_assets.costs import timing
from transcription_assets.costs.timing import WorkerUse
from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import SpeechModel
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import quarantine, shard_status
from transcription_assets.pipeline.decoding import DecodeRequest, Outcome
from transcription_assets.pipeline.work_queue import Progress, WorkQueue, WorkRequest
from transcription_assets.speech import Engine, SpeechOptions
from transcription_assets.storage import Store
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.launcher import Launched, Launcher, Phase, ShardState
from transcription_assets.workers.manifest import Manifest, ManifestRecording, Stage
from transcription_assets.workers.worker import speech_settings

R = TypeVar("R", bound=WorkRequest)

log = logging.getLogger(__name__)

Announce = Callable[[str], None]
"""Function that is called with a line for the log of the run."""

IDLE_WAIT_S = 2.0
MOST_IDLE_ROUNDS = 3
"""Rounds without any decoded window, and without a recording that could be the cause, after which the batch fails."""


class LoadingTime:
    """Time for which workers loaded weights; each process reports the sum since its start."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str], float] = {}

    def note(self, status: shard_status.ShardStatus) -> None:
        """Add what the process of a status has loaded since its last report to the loading time of this process."""
        process = status.host, status.pid, status.started
        timing.weights.add(status.load_s - self._known.get(process, 0.0))
        self._known[process] = status.load_s


@dataclass(frozen=True, slots=True)
class Coordinator(Generic[R]):
    """Has workers of one stage work on a batch, in rounds.

    `settings` is what the results depend on, `describe` says of a request what a worker needs. Groups have at least
    `group_s` seconds of audio, shards `shard_s`. `owner` identifies the run. For `parallel` see `Engine.decode`.
    `announce` is called with a line when the state of a shard changes.
    """

    stage: Stage
    settings: Mapping[str, Any]
    describe: Callable[[R], ManifestRecording]
    launcher: Launcher
    shard_s: float
    owner: str
    group_s: float = 0.0
    parallel: int = 0
    loading: LoadingTime = field(default_factory=LoadingTime, repr=False)
    announce: Announce = log.info

    def run(self, store: Store, requests: Sequence[R], progress: Progress) -> Iterator[tuple[R, Exception | None]]:
        """Yield the outcome of each request, as soon as it is known, in any order.

        Raises:
            PermanentFailure: the settings or the weights of the workers are wrong.
            TransientFailure: workers ended several times without having done anything.
            TranscriptionError: the store cannot be read, or workers cannot be started.

        """
        if not requests:
            return
        queue = WorkQueue.of(store, requests, progress, self.owner)
        yield from queue.known
        idle = 0
        while shards := self._shards(queue):
            time.sleep(idle * IDLE_WAIT_S)
            round_ = _Round(store, queue, self._manifest(queue, shards), self.loading, self.announce)
            yield from round_.run(self.launcher)
            round_.raise_refusal()
            deaths = round_.record_deaths()
            yield from queue.isolate()
            idle = 0 if round_.progressed or deaths else idle + 1
            if idle == MOST_IDLE_ROUNDS:
                raise TransientFailure(f"the workers ended {idle} times and did nothing: {round_.reason}")

    def _shards(self, queue: WorkQueue[R]) -> manifests.Shards:
        """Return the groups of each shard of the next round; what a worker died of comes last, one recording a round.

        With others beside it, it could take their workers down as well, if memory runs out.
        """
        groups = queue.pooled_groups(self.group_s)
        if groups:
            lengths = [sum(map(queue.length, group)) for group in groups]
            return manifests.shards(groups, lengths, self.shard_s, self.launcher.most)
        alone = queue.suspect_groups()
        return [list(alone)] if alone else []

    def _manifest(self, queue: WorkQueue[R], shards: manifests.Shards) -> Manifest:
        keys = {window[0] for shard in shards for group in shard for window in group}
        return Manifest(
            identifier=uuid4().hex,
            owner=self.owner,
            stage=self.stage,
            settings=dict(self.settings),
            recordings=tuple(self.describe(request) for request in queue.requests.values() if request.key in keys),
            shards=tuple(tuple(tuple(group) for group in shard) for shard in shards),
            created=time.time(),
            parallel=self.parallel,
        )


@dataclass(frozen=True, slots=True)
class WorkerTranscriber:
    """Transcriber that launches workers; `engine` is asked for its model and options only, so its weights do not load.

    `shard_s` is the length of a shard in seconds of audio; `owner` identifies the run.
    """

    engine: Engine
    launcher: Launcher
    shard_s: float
    owner: str = ""
    announce: Announce = log.info
    _loading: LoadingTime = field(default_factory=LoadingTime, repr=False)

    @property
    def model(self) -> SpeechModel:
        """Model of the workers."""
        return self.engine.model

    @property
    def options(self) -> SpeechOptions:
        """Options of the workers."""
        return self.engine.options

    @property
    def use(self) -> WorkerUse:
        """Machines that the workers have held."""
        return self.launcher.use

    def prepare(self, store: Store) -> None:
        """Start workers, which load their weights."""
        self.launcher.prepare(store)

    def decode(self, store: Store, requests: Sequence[DecodeRequest], progress: Progress) -> Iterator[Outcome]:
        """Implement `Transcriber.decode`, see `Coordinator.run`.

        Raises:
            TranscriptionError: nothing could be decoded.

        """
        coordinator = Coordinator(
            "transcript",
            speech_settings(self.engine),
            _decoded,
            self.launcher,
            self.shard_s,
            self.owner,
            group_s=self.engine.group_s,
            parallel=self.engine.parallel,
            loading=self._loading,
            announce=self.announce,
        )
        yield from coordinator.run(store, requests, progress)

    def close(self) -> None:
        """End the workers."""
        self.launcher.close()


def _decoded(request: DecodeRequest) -> ManifestRecording:
    return ManifestRecording(request.key, request.version, request.plan.sound, request.vocabulary)


class _Round(Generic[R]):
    """One manifest, from its launch until all its workers have ended."""

    def __init__(
        self, store: Store, queue: WorkQueue[R], manifest: Manifest, loading: LoadingTime, announce: Announce
    ) -> None:
        self._store = store
        self._queue = queue
        self._manifest = manifest
        self._loading = loading
        self._announce = announce
        self._windows = {window for shard in manifest.shards for group in shard for window in group}
        self._seen: set[shard_status.WindowRef] = set()
        self._failed: set[str] = set()
        self._states: Mapping[int, ShardState] = {}
        self._statuses: dict[int, shard_status.ShardStatus] = {}
        self.progressed = False

    @property
    def reason(self) -> str:
        """Why workers ended before their shard was done."""
        reasons = (state.reason for state in self._states.values() if state.reason)
        return "; ".join(dict.fromkeys(reasons)) or "unknown"

    def run(self, launcher: Launcher) -> Iterator[tuple[R, Exception | None]]:
        """Yield the outcomes of recordings until all workers have ended."""
        self._manifest.write(self._store)
        try:
            with (
                manifests.Heartbeat(self._store, self._manifest.identifier),
                launcher.launch(self._store, self._manifest) as workers,
            ):
                while not self._is_over(workers):
                    workers.wait()
                    yield from self._news(workers)
                yield from self._news(workers)
        finally:
            shard_status.remove(self._store, media_keys.work(self._manifest.identifier))

    def raise_refusal(self) -> None:
        """Raise the failure of workers that could not begin.

        Raises:
            PermanentFailure: the settings or the weights of the workers are wrong.

        """
        if any(state.phase is Phase.REFUSED for state in self._states.values()):
            raise PermanentFailure(self.reason)

    def record_deaths(self) -> int:
        """Record what workers died of; return the number of workers that died while they decoded.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        count = 0
        for shard, state in self._states.items():
            status = self._statuses.get(shard)
            if state.phase is Phase.DIED and status and quarantine.record(self._store, status, state.reason):
                count += 1
        return count

    def _is_over(self, workers: Launched) -> bool:
        before, self._states = self._states, workers.states()
        for shard, state in self._states.items():
            if state != before.get(shard):
                self._announce(self._line(shard, state))
        return all(state.is_final for state in self._states.values())

    def _line(self, shard: int, state: ShardState) -> str:
        """Return the state of a shard as a line for the log of the run."""
        status = self._statuses.get(shard)
        host = f" on {status.host}" if status else ""
        words = {
            Phase.WAITING: "waits",
            Phase.RUNNING: "is at work",
            Phase.ENDED: "has ended",
            Phase.DIED: f"ended early: its worker died ({state.reason}); what is left is done again",
            Phase.LOST: f"ended early: its worker was lost ({state.reason}); what is left is done again",
            Phase.REFUSED: f"was refused: {state.reason}",
        }
        return f"{self._manifest.stage}: shard {shard + 1} of {len(self._manifest.shards)}{host} {words[state.phase]}"

    def _news(self, workers: Launched) -> Iterator[tuple[R, Exception | None]]:
        for shard, status in workers.statuses().items():
            if status == self._statuses.get(shard):
                continue
            self._statuses[shard] = status
            self._loading.note(status)
            for window in self._windows.intersection(status.done) - self._seen:
                self._seen.add(window)
                self.progressed = True
                yield from self._queue.finish(window)
            for key, failure in status.failed.items():
                if key not in self._failed:
                    self._failed.add(key)
                    self.progressed = True
                    yield from self._queue.fail(key, failure.error)
            current = [window for window in status.current if window[0] in self._queue.requests]
            self._queue.tracker.working(current, status.share)
