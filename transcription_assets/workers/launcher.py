"""The launcher protocol: start a worker for each shard of a manifest, watch them, and end them.

A launcher knows processes, pods or jobs, not recordings: what was decoded is in the checkpoints and in the status of
each shard.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Protocol, Self

from transcription_assets.costs.timing import WorkerUse
from transcription_assets.domain import media_keys
from transcription_assets.pipeline import shard_status
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.storage import Store
from transcription_assets.workers.manifest import Manifest
from transcription_assets.workers.worker import ExitCode

STOPPED_BY = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals by which a person or the system ends a process that did nothing wrong."""
_SIGNALS = {item.value: item.name for item in signal.Signals}


class Phase(Enum):
    """Phase of a shard."""

    WAITING = auto()
    """No worker has it yet: it is queued, or its machine starts."""
    RUNNING = auto()
    ENDED = auto()
    """The worker ended by itself; its status tells what it did."""
    DIED = auto()
    """The worker was killed or crashed while it decoded: what it decoded is a suspect."""
    LOST = auto()
    """The machine was taken away (eviction, preemption), or none was found: no recording caused it."""
    REFUSED = auto()
    """The worker could not begin, and no retry helps: its settings or weights are wrong."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """Phase of a shard, and for DIED, LOST and REFUSED the reason in words."""

    phase: Phase
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """True if no worker works on the shard any more."""
        return self.phase not in {Phase.WAITING, Phase.RUNNING}


def exit_state(code: int, detail: str = "", *, is_reported: bool = False) -> ShardState:
    """Return the state of a shard whose worker ended.

    Args:
        code: Its exit code; 128 + n after signal n.
        detail: What is known besides.
        is_reported: Whether its status tells the failures that it ended with.

    """
    if code == ExitCode.DONE or (code in {ExitCode.PERMANENT, ExitCode.TRANSIENT} and is_reported):
        return ShardState(Phase.ENDED)
    if code == ExitCode.PERMANENT:
        return ShardState(Phase.REFUSED, f"the worker cannot begin: {detail or 'its log tells why'}")
    if code == ExitCode.TRANSIENT:
        return ShardState(Phase.LOST, f"the worker could not go on: {detail or 'its log tells why'}")
    name = _SIGNALS.get(code - 128, f"exit code {code}")
    suffix = f": {detail}" if detail else ""
    if code - 128 in STOPPED_BY:
        return ShardState(Phase.LOST, f"the worker was stopped by {name}{suffix}")
    cause = ", perhaps because memory ran out" if code - 128 == signal.SIGKILL else ""
    return ShardState(Phase.DIED, f"{name}{cause}{suffix}")


def stored_statuses(store: Store, manifest: Manifest) -> dict[int, ShardStatus]:
    """Return the statuses that workers have written to the store, by shard.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    paths = {shard_status.path(manifest.identifier, shard): shard for shard in range(len(manifest.shards))}
    present = store.list(media_keys.work(manifest.identifier))
    found = {paths[path]: shard_status.load(store, path) for path in present if path in paths}
    return {shard: status for shard, status in found.items() if status is not None}


class Launched(Protocol):
    """The workers of one manifest. Leaving its context ends those that still run, and waits for that."""

    def states(self) -> Mapping[int, ShardState]:
        """Return the state of each shard.

        Raises:
            TranscriptionError: what runs the workers does not answer.

        """
        ...

    def statuses(self) -> Mapping[int, ShardStatus]:
        """Return the last known status of each shard that a worker began; `stored_statuses` reads those in the store.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        ...

    def wait(self) -> None:
        """Return when something may have changed; at the latest after a few seconds."""
        ...

    def __enter__(self) -> Self:
        """Return the workers."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers that still run."""
        ...


class Launcher(Protocol):
    """Starts workers."""

    @property
    def most(self) -> int:
        """Maximum number of workers at once."""
        ...

    @property
    def use(self) -> WorkerUse:
        """Machines that its workers have held so far; nothing if they share the machine of the coordinator."""
        ...

    def prepare(self, store: Store) -> None:
        """Begin to start what can be started before a manifest exists; failures are raised by `launch`."""
        ...

    def launch(self, store: Store, manifest: Manifest) -> Launched:
        """Start a worker for each shard of a manifest that is in the store; some may wait for others to end.

        Raises:
            TranscriptionError: workers cannot be started.

        """
        ...

    def close(self) -> None:
        """End what is kept for later batches."""
        ...
