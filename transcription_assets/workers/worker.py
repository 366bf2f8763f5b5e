"""The worker: does one shard of a manifest. It needs the store, the weights of its stage and its settings."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from types import TracebackType
from typing import Any, Protocol, Self

from transcription_assets.errors import NotFound, PermanentFailure, TransientFailure
from transcription_assets.pipeline import shard_status, window_plan
from transcription_assets.pipeline.decoding import DecodeRequest, Group, decode_windows
from transcription_assets.pipeline.shard_status import ShardStatus, StatusWriter, WindowRef
from transcription_assets.speech import Engine
from transcription_assets.storage import Store
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.manifest import Manifest, Stage

Groups = Sequence[Sequence[WindowRef]]


class ExitCode(IntEnum):
    """Exit codes of a worker; the two failures are those of sysexits.h (EX_DATAERR, EX_TEMPFAIL)."""

    DONE = 0
    PERMANENT = 65
    TRANSIENT = 75


class StageWork(Protocol):
    """The work of one stage, with the settings that its results depend on."""

    @property
    def stage(self) -> Stage:
        """The step."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings that the results depend on, as values for JSON."""
        ...

    def load(self) -> None:
        """Load the weights.

        Raises:
            Exception: they cannot be loaded.

        """
        ...

    def run(self, store: Store, manifest: Manifest, groups: Groups, status: StatusWriter) -> None:
        """Work on the windows of a shard; the status tells what is done and what failed.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        ...


@dataclass(frozen=True, slots=True)
class Decoding:
    """Stage `transcript`: decodes windows into checkpoints."""

    engine: Engine
    ffmpeg: str
    stage: Stage = "transcript"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model and its options."""
        return speech_settings(self.engine)

    def load(self) -> None:
        """Load the speech model.

        Raises:
            Exception: the weights cannot be loaded.

        """
        self.engine.load()

    def run(self, store: Store, manifest: Manifest, groups: Groups, status: StatusWriter) -> None:
        """Decode the windows that have no checkpoint yet.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        requests = dict(_decode_requests(store, manifest, groups, status))
        left = self._left(store, requests, groups, status)
        for _ in decode_windows(store, requests, self.engine, left, status, parallel=manifest.parallel):
            pass  # the status tells

    def _left(
        self, store: Store, requests: Mapping[str, DecodeRequest], groups: Groups, status: StatusWriter
    ) -> list[Group]:
        """Return the windows without a checkpoint, in their groups; the others are done."""
        jobs = {
            shard_status.reference(job): job
            for request in requests.values()
            for job in request.jobs(store, self.ffmpeg, request.missing(store))
        }
        wanted = [window for group in groups for window in group if window[0] in requests]
        status.finish(*(window for window in wanted if window not in jobs))
        left = [[jobs[window] for window in group if window in jobs] for group in groups]
        return [group for group in left if group]


def speech_settings(engine: Engine) -> dict[str, Any]:
    """Return what the words of an engine depend on."""
    return {"model": asdict(engine.model), "options": engine.options.as_dict()}


def _decode_requests(
    store: Store, manifest: Manifest, groups: Groups, status: StatusWriter
) -> Iterator[tuple[str, DecodeRequest]]:
    wanted = {key for group in groups for key, _, _ in group}
    for item in manifest.recordings:
        if item.key not in wanted:
            continue
        plan = window_plan.load(store, item.key, item.sound)
        if plan is None:
            status.fail(item.key, TransientFailure(f"{item.key}: its extracted audio changed meanwhile; try again"))
            continue
        yield item.key, DecodeRequest(item.key, item.version, plan, item.vocabulary)


@dataclass(frozen=True, slots=True)
class WholeRecordings:
    """A stage that does the step for one recording after another; the results are in the store."""

    stage: Stage
    settings: Mapping[str, Any]
    materialise: Callable[[Store, str], object]

    def load(self) -> None:
        """Do nothing: what the step needs loads with the first recording."""

    def run(self, store: Store, manifest: Manifest, groups: Groups, status: StatusWriter) -> None:
        """Materialise the recordings; the failure of one does not stop the others."""
        versions = {item.key: item.version for item in manifest.recordings}
        for window in (window for group in groups for window in group):
            key = window[0]
            status.begin([window], {key: versions[key]})
            try:
                self.materialise(store, key)
            except Exception as error:  # noqa: BLE001 -- a failure of one recording must not stop the others
                status.fail(key, error)
            else:
                status.finish(window)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker with its stage, whose weights load once for all shards; `changed` is called when the status changed."""

    store: Store
    work: StageWork
    changed: Callable[[ShardStatus], None] = field(default=lambda _status: None)

    def run(self, manifest: Manifest, shard: int) -> ExitCode:
        """Work on what is not done of a shard.

        A failure of a recording is in the status of the shard and in the exit code, and does not stop the others.

        Raises:
            PermanentFailure: there is no such shard, or the stage or settings of this worker are not those of the
                manifest.
            TranscriptionError: the store refuses or does not answer.

        """
        self._require_same_settings(manifest)
        if not 0 <= shard < len(manifest.shards):
            raise PermanentFailure(f"the manifest {manifest.identifier} has no shard {shard}")
        place = shard_status.path(manifest.identifier, shard)
        with (
            StatusWriter(
                self.store, place, manifest.owner, keep=True, step=manifest.stage, changed=self.changed
            ) as status,
            CoordinatorWatch(self.store, manifest.identifier, status.leave),
        ):
            self.work.run(self.store, manifest, manifest.shards[shard], status)
        failures = status.status.failed.values()
        if not failures:
            return ExitCode.DONE
        return ExitCode.TRANSIENT if any(item.transient for item in failures) else ExitCode.PERMANENT

    def _require_same_settings(self, manifest: Manifest) -> None:
        if self.work.stage != manifest.stage:
            raise PermanentFailure(
                f"the manifest {manifest.identifier} is for the stage {manifest.stage}, this worker is for "
                f"{self.work.stage}: run it with `--stage {manifest.stage}`"
            )
        own = dict(self.work.settings)
        if own != manifest.settings:
            raise PermanentFailure(
                f"the settings of this worker are not those of the manifest {manifest.identifier}: it has {own}, the "
                f"manifest was made with {manifest.settings}; give both the same TRANSCRIPTION_ variables"
            )


class CoordinatorWatch:
    """Ends this process if the coordinator of its manifest stopped its heartbeat, so that no worker is left behind.

    Ages are measured with the clock of this machine only. A store that does not answer proves nothing.
    """

    def __init__(self, store: Store, identifier: str, leave: Callable[[], None]) -> None:
        self._store = store
        self._identifier = identifier
        self._leave = leave
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="coordinator watch", daemon=True)

    def __enter__(self) -> Self:
        """Start to watch."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        seen = ""
        silent = 0
        while not self._ended.wait(manifests.HEARTBEAT_S):
            try:
                beat = manifests.heartbeat(self._store, self._identifier)
            except NotFound:
                beat = seen  # deleted with the manifest, or never written
            except Exception:  # noqa: BLE001 -- a store that does not answer proves nothing
                silent = 0
                continue
            silent = silent + 1 if beat == seen else 0
            seen = beat
            if silent >= manifests.MISSED_BEATS:
                self._leave()
                os._exit(ExitCode.TRANSIENT)
