"""Launcher for workers that are processes of this machine; the default."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, Queue
from types import TracebackType
from typing import IO, Any, Self, cast

from pydantic import TypeAdapter

from transcription_assets.costs.timing import WorkerUse
from transcription_assets.errors import TransientFailure
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.storage import Store
from transcription_assets.workers.launcher import Phase, ShardState, exit_state
from transcription_assets.workers.manifest import Manifest

COMMAND = (sys.executable, "-P", "-m", "transcription_assets", "work", "--serve")
"""Command of a worker of the stage `transcript`; others add `--stage`."""
WAIT_S = 1.0
END_S = 10.0
"""Seconds that a worker has to end after SIGTERM."""
STALL_S = 1800.0
"""Seconds without any progress after which a worker is killed: a batch of chunks takes minutes on a slow CPU."""
START_S = 1800.0
"""Seconds that a worker has to load its weights and begin with a shard."""

EVENTS = {"progress": {"status"}, "done": set[str](), "error": {"reason", "transient"}}
"""Fields of the events that a worker writes, by the name of the event."""
_STATUS = TypeAdapter(ShardStatus)
Event = dict[str, Any]
"""A line of a worker's output, with the worker's number as `worker`; `event` is `ended` when its process has ended."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Process:
    """A worker process; `shard` is what it works on, None while it is idle."""

    popen: "subprocess.Popen[str]"
    requests: IO[str]
    shard: int | None = None
    last_event_at: float = 0.0
    error: str = ""
    """Reason that it gave for not being able to begin."""

    def send(self, identifier: str, shard: int) -> bool:
        """Give it a shard; return False if it has ended."""
        self.shard, self.last_event_at = shard, time.monotonic()
        try:
            self.requests.write(f"{identifier} {shard}\n")
            self.requests.flush()
        except OSError:
            self.shard = None
            return False
        return True

    def end(self) -> None:
        """End it, and wait for that. It ends by itself when its input is closed."""
        with suppress(OSError):  # it may have ended already
            self.requests.close()
        self.popen.terminate()
        try:
            self.popen.wait(END_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@dataclass(eq=False)
class SubprocessLauncher:
    """Launcher of at most `most` processes, which are kept for later batches so that their model loads once.

    `environments[n]` holds additional variables of worker n, such as the number of its GPU.
    """

    environments: Sequence[Mapping[str, str]] = ({},)
    command: Sequence[str] = COMMAND
    stall_s: float | None = None
    """Seconds without progress after which a process is killed, by default STALL_S."""
    _processes: "dict[int, _Process]" = field(default_factory=dict)
    _events: "Queue[Event]" = field(default_factory=Queue)

    def __post_init__(self) -> None:
        """End the processes when the launcher is no longer used, at the latest at exit."""
        weakref.finalize(self, _end_all, self._processes)

    @property
    def most(self) -> int:
        """Maximum number of processes."""
        return len(self.environments)

    @property
    def use(self) -> WorkerUse:
        """Nothing: the processes share this machine."""
        return WorkerUse()

    def prepare(self, store: Store) -> None:
        """Start the first process, which loads its model."""
        with suppress(TransientFailure):
            self._started(0, store)

    def launch(self, store: Store, manifest: Manifest) -> "LaunchedProcesses":
        """Give the shards of a manifest to processes, which are started if needed.

        Raises:
            TransientFailure: no process can be started.

        """
        return LaunchedProcesses(self, store, manifest)

    def close(self) -> None:
        """End all processes."""
        _end_all(self._processes)

    def _started(self, number: int, store: Store) -> _Process:
        found = self._processes.get(number)
        if found is not None and (found.shard is not None or found.popen.poll() is None):
            return found  # also one that has ended, until that is taken note of
        if found is not None:
            found.end()
        environment = {**os.environ, "TRANSCRIPTION_STORE": store.url, **self.environments[number]}
        try:
            popen = subprocess.Popen(
                self.command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                process_group=0,  # Ctrl-C is for the coordinator, which then ends its workers
            )
        except OSError as error:
            raise TransientFailure(f"no worker process can be started: {error}") from error
        requests, answers = cast("IO[str]", popen.stdin), cast("IO[str]", popen.stdout)
        reading = (popen, answers, number, self._events)
        threading.Thread(target=_read, args=reading, name="worker", daemon=True).start()
        started = self._processes[number] = _Process(popen, requests)
        return started


class LaunchedProcesses:
    """The shards of one manifest, and the processes that work on them."""

    def __init__(self, launcher: SubprocessLauncher, store: Store, manifest: Manifest) -> None:
        self._launcher = launcher
        self._store = store
        self._manifest = manifest
        self._waiting = deque(range(len(manifest.shards)))
        self._states = {shard: ShardState(Phase.WAITING) for shard in self._waiting}
        self._statuses: dict[int, ShardStatus] = {}

    def states(self) -> Mapping[int, ShardState]:
        """Return the state of each shard, after shards were given to idle processes.

        Raises:
            TransientFailure: no process can be started.

        """
        for number in range(self._launcher.most):
            if not self._waiting:
                break
            process = self._launcher._started(number, self._store)  # noqa: SLF001 -- two halves of one class
            if process.shard is None:
                shard = self._waiting[0]
                if process.send(self._manifest.identifier, shard):
                    self._states[shard] = ShardState(Phase.RUNNING)
                    self._waiting.popleft()
        return dict(self._states)

    def statuses(self) -> Mapping[int, ShardStatus]:
        """Return the last status of each shard that its process has sent."""
        return dict(self._statuses)

    def wait(self) -> None:
        """Return at the next event of a process, or after a second."""
        try:
            event = self._launcher._events.get(timeout=WAIT_S)  # noqa: SLF001
            while True:
                self._apply(event)
                event = self._launcher._events.get_nowait()  # noqa: SLF001
        except Empty:
            self._kill_stalled()

    def __enter__(self) -> Self:
        """Return the workers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes that still work on a shard; idle ones are kept."""
        for process in self._launcher._processes.values():  # noqa: SLF001
            if process.shard is not None:
                process.end()
                process.shard = None

    def _apply(self, event: Event) -> None:
        process = self._launcher._processes.get(event["worker"])  # noqa: SLF001
        if process is None or process.popen.pid != event["pid"]:
            return  # of a process that is gone
        process.last_event_at = time.monotonic()
        shard, kind = process.shard, event["event"]
        if kind == "error":
            process.error = event["reason"]
        if shard is None:
            return
        if kind == "progress":
            self._statuses[shard] = _STATUS.validate_python(event["status"])
            return
        process.shard = None
        if kind == "done":
            self._states[shard] = ShardState(Phase.ENDED)
        elif kind == "error":
            phase = Phase.LOST if event["transient"] else Phase.REFUSED
            self._states[shard] = ShardState(phase, event["reason"])
        else:
            code = event["code"]
            self._states[shard] = exit_state(code if code >= 0 else 128 - code, process.error)

    def _kill_stalled(self) -> None:
        for process in self._launcher._processes.values():  # noqa: SLF001
            stall_s = STALL_S if self._launcher.stall_s is None else self._launcher.stall_s
            limit = stall_s if process.shard in self._statuses else START_S
            if process.shard is not None and time.monotonic() - process.last_event_at > limit:
                log.warning("worker %s made no progress for %.0f s: it is killed", process.popen.pid, limit)
                process.popen.kill()
                process.last_event_at = time.monotonic()


def _read(popen: "subprocess.Popen[str]", answers: IO[str], number: int, events: "Queue[Event]") -> None:
    """Pass the events of a worker's output on, and its end."""
    try:
        with answers:
            for line in answers:
                event = _event(line)
                if event is None:
                    log.info("worker %s: %s", number, line.rstrip())
                else:
                    events.put({**event, "worker": number, "pid": popen.pid})
    finally:
        events.put({"event": "ended", "code": popen.wait(), "worker": number, "pid": popen.pid})


def _event(line: str) -> Event | None:
    """Return the event of a line; None if a library printed it."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    fields = EVENTS.get(str(event.get("event"))) if isinstance(event, dict) else None
    return event if fields is not None and fields <= event.keys() else None


def _end_all(processes: "dict[int, _Process]") -> None:
    for process in processes.values():
        process.end()
    processes.clear()
