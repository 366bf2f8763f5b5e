"""The coordinator: a transcriber that has the windows of a batch decoded by workers.

It works in rounds. In each, the windows without a checkpoint are distributed over shards, and workers decode them. When
all have ended, what a worker died of is set apart (see `quarantine`), and the next round decodes the rest.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from transcription_assets.costs import timing
from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import SpeechModel
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import quarantine, shard_status
from transcription_assets.pipeline.decoding import Backlog, DecodeRequest, Outcome, Progress
from transcription_assets.speech import Engine, SpeechOptions
from transcription_assets.speech.recognition import WindowJob
from transcription_assets.storage import Store
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.launcher import Launched, Launcher, Phase, ShardState
from transcription_assets.workers.manifest import Manifest, ManifestRecording

log = logging.getLogger(__name__)

Shards = Sequence[Sequence[Sequence[WindowJob]]]
"""Groups of windows by shard."""
IDLE_WAIT_S = 2.0
MOST_IDLE_ROUNDS = 3
"""Rounds without any decoded window, and without a recording that could be the cause, after which the batch fails."""


class _LoadingTime:
    """Time for which workers loaded weights; each process reports the sum since its start."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str], float] = {}

    def note(self, status: shard_status.ShardStatus) -> None:
        """Add what the process of a status has loaded since its last report to the loading time of this process."""
        process = status.host, status.pid, status.started
        timing.weights.add(status.load_s - self._known.get(process, 0.0))
        self._known[process] = status.load_s


@dataclass(frozen=True, slots=True)
class WorkerTranscriber:
    """Transcriber that launches workers; `engine` is asked for its model and options only, so its weights do not load.

    `shard_s` is the length of a shard in seconds of audio; `owner` identifies the run.
    """

    engine: Engine
    launcher: Launcher
    ffmpeg: str
    shard_s: float
    owner: str = ""
    _loading: _LoadingTime = field(default_factory=_LoadingTime, repr=False)

    @property
    def model(self) -> SpeechModel:
        """Model of the workers."""
        return self.engine.model

    @property
    def options(self) -> SpeechOptions:
        """Options of the workers."""
        return self.engine.options

    def prepare(self, store: Store) -> None:
        """Start workers, which load their weights."""
        self.launcher.prepare(store)

    def decode(self, store: Store, requests: Sequence[DecodeRequest], progress: Progress) -> Iterator[Outcome]:
        """Implement `Transcriber.decode`.

        Raises:
            TransientFailure: workers ended several times without having decoded anything.
            TranscriptionError: the store cannot be read, or workers cannot be started.

        """
        if not requests:
            return
        backlog = Backlog.of(store, requests, progress, self.owner)
        yield from backlog.known
        idle = 0
        while shards := self._shards(backlog):
            time.sleep(idle * IDLE_WAIT_S)
            round_ = _Round(store, backlog, self._manifest(backlog, shards), shards, self._loading)
            yield from round_.run(self.launcher)
            for shard, state in round_.unfinished():
                log.warning(
                    "the worker of shard %s ended early (%s): what is left is decoded again", shard, state.reason
                )
            round_.raise_refusal()
            deaths = round_.record_deaths()
            yield from backlog.isolate()
            idle = 0 if round_.progressed or deaths else idle + 1
            if idle == MOST_IDLE_ROUNDS:
                raise TransientFailure(f"the workers ended {idle} times and decoded nothing: {round_.reason}")

    def close(self) -> None:
        """End the workers."""
        self.launcher.close()

    def _shards(self, backlog: Backlog) -> Shards:
        """Return the groups of each shard of the next round; what a worker died of comes last, one recording a round.

        With others beside it, it could take their workers down as well, if memory runs out.
        """
        groups = backlog.pooled_groups(self.ffmpeg, self.engine.group_s)
        if groups:
            return manifests.shards(groups, self.shard_s, self.launcher.most)
        alone = backlog.suspect_groups(self.ffmpeg)
        return [alone] if alone else []

    def _manifest(self, backlog: Backlog, shards: Shards) -> Manifest:
        keys = {job.recording for shard in shards for group in shard for job in group}
        return Manifest(
            identifier=uuid4().hex,
            owner=self.owner,
            model=self.model,
            options=self.options.as_dict(),
            recordings=tuple(
                ManifestRecording(request.key, request.version, request.plan.sound, request.vocabulary)
                for request in backlog.requests.values()
                if request.key in keys
            ),
            shards=tuple(
                tuple(tuple(shard_status.reference(job) for job in group) for group in shard) for shard in shards
            ),
            created=time.time(),
            parallel=self.engine.parallel,
        )


class _Round:
    """One manifest, from its launch until all its workers have ended."""

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        manifest: Manifest,
        shards: Shards,
        loading: _LoadingTime,
    ) -> None:
        self._store = store
        self._backlog = backlog
        self._manifest = manifest
        self._loading = loading
        self._jobs = {shard_status.reference(job): job for shard in shards for group in shard for job in group}
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

    def run(self, launcher: Launcher) -> Iterator[Outcome]:
        """Yield the outcomes of recordings until all workers have ended."""
        self._manifest.write(self._store)
        try:
            with launcher.launch(self._store, self._manifest) as workers:
                while not self._is_over(workers):
                    workers.wait()
                    yield from self._news(workers)
                yield from self._news(workers)
        finally:
            shard_status.remove(self._store, media_keys.work(self._manifest.identifier))

    def unfinished(self) -> list[tuple[int, ShardState]]:
        """Return the shards whose worker did not end by itself."""
        return [(shard, state) for shard, state in self._states.items() if state.phase is not Phase.ENDED]

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
        self._states = workers.states()
        return all(state.is_final for state in self._states.values())

    def _news(self, workers: Launched) -> Iterator[Outcome]:
        for shard, status in workers.statuses().items():
            if status == self._statuses.get(shard):
                continue
            self._statuses[shard] = status
            self._loading.note(status)
            for window in status.done:
                if window not in self._seen:
                    self._seen.add(window)
                    self.progressed = True
                    yield from self._backlog.finish(self._jobs[window])
            for key, failure in status.failed.items():
                if key not in self._failed:
                    self._failed.add(key)
                    self.progressed = True
                    yield from self._backlog.fail(key, failure.error)
            current = [self._jobs[window] for window in status.current if window[0] in self._backlog.requests]
            self._backlog.tracker.decoding(current, status.share)
