"""The status of a shard in the store (`work/<id>/shard-<n>.json`): what a process works on now, and what is done.

The process that works on a shard writes it, the coordinator reads it. A process that is killed leaves its status
behind, which tells the recordings that it died of.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transcription_assets.costs import timing
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.pipeline import records
from transcription_assets.speech.recognition import WindowJob
from transcription_assets.storage import Store

VERSION = "1"
HEARTBEAT_S = 30.0
"""Seconds between two writes of a status, also of one that does not change."""
SILENT_S = 300.0
"""Seconds without a heartbeat after which a process on another machine counts as dead: more than clocks differ."""

WindowRef = tuple[str, int, int]
"""Media key, channel, and number of a window."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordingFailure:
    """Failure of one recording, as it can be stored."""

    reason: str
    transient: bool

    @classmethod
    def of(cls, error: Exception) -> "RecordingFailure":
        """Return the failure for an exception; one that this library did not raise is permanent."""
        if isinstance(error, TranscriptionError):
            return cls(str(error), error.transient)
        return cls(f"{type(error).__name__}: {error}", transient=False)

    @property
    def error(self) -> TranscriptionError:
        """The failure as an exception."""
        return (TransientFailure if self.transient else PermanentFailure)(self.reason)


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """State of a shard; `owner` identifies the run that it belongs to, `beat` is the time of writing (Unix, seconds).

    `started` tells the process from others with the same number (`pid`) on the same `host`. `step` is the asset that it
    works for; a step that cannot be divided has the window 0-0 for each recording.

    `current` are the windows that are being worked on, of which `share` (0 to 1) is done. `versions` are those of the
    recordings of `current`, see `DecodeRequest`. `failed` are recordings by media key.
    """

    owner: str
    host: str
    pid: int
    started: str
    beat: float
    current: tuple[WindowRef, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    share: float = 0.0
    done: tuple[WindowRef, ...] = ()
    failed: dict[str, RecordingFailure] = field(default_factory=dict)
    load_s: float = 0.0
    """Seconds for which weights were loaded by its process so far."""
    step: str = "transcript"
    version: str = VERSION

    def is_alive(self, owner: str) -> bool:
        """Return whether its process may still be running. The steps of one run (`owner`) never run at once."""
        if self.host == socket.gethostname():
            return process_start(self.pid) == self.started and self.pid != os.getpid()
        return self.owner != owner and time.time() - self.beat < SILENT_S


def load(store: Store, path: str) -> ShardStatus | None:
    """Return the status; None if there is none that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return records.load(store, path, ShardStatus, VERSION)


def path(identifier: str, shard: int) -> str:
    """Return the path of the status of a shard."""
    return f"{media_keys.work(identifier)}shard-{shard:05}.json"


class StatusWriter:
    """Writes the status of a shard: when a group begins, when a recording fails, at the end, and every HEARTBEAT_S.

    An error of the store is logged only, as the status is not part of the result. Leaving its context ends the
    heartbeat, and removes the status unless `keep` is set. `changed` is called after each change, also of the progress.
    """

    def __init__(
        self,
        store: Store,
        place: str,
        owner: str,
        *,
        keep: bool,
        step: str = "transcript",
        changed: Callable[[ShardStatus], None] = lambda _status: None,
    ) -> None:
        self._store = store
        self._changed = changed
        self._place = place
        self._keep = keep
        self._lock = threading.Lock()
        self._ended = threading.Event()
        pid = os.getpid()
        self.status = ShardStatus(owner, socket.gethostname(), pid, process_start(pid), time.time(), step=step)
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Start the heartbeat."""
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the heartbeat; this is not reached by a process that is killed, whose status then tells what it did."""
        self._ended.set()
        self._heart.join()
        if self._keep:
            self.leave()
        else:
            remove(self._store, self._place.rpartition("/")[0])

    def begin(self, windows: Sequence[WindowRef], versions: dict[str, str]) -> None:
        """Note the windows that are worked on next."""
        self._change(current=tuple(windows), versions=versions, share=0.0, now=True)

    def leave(self) -> None:
        """Note that nothing is worked on, so that no recording is blamed for the end of this process."""
        self._change(current=(), versions={}, share=0.0, now=True)

    def progress(self, share: float) -> None:
        """Note the share of the current windows that is done."""
        self._change(share=share)

    def finish(self, *windows: WindowRef) -> None:
        """Note windows that are done."""
        self._change(done=(*self.status.done, *windows))

    def fail(self, key: str, error: Exception) -> None:
        """Note the failure of a recording."""
        self._change(failed=self.status.failed | {key: RecordingFailure.of(error)}, now=True)

    def _change(self, *, now: bool = False, **changes: Any) -> None:
        self.status = replace(self.status, load_s=timing.weights.seconds, **changes)
        self._changed(self.status)
        if now:
            self._write()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            self._write()

    def _write(self) -> None:
        with self._lock:
            status = replace(self.status, beat=time.time())
            try:
                self._store.write(self._place, json.dumps(asdict(status)).encode())
            except TranscriptionError as error:
                log.warning("the status %s cannot be written: %s", self._place, error)


def remove(store: Store, folder: str) -> None:
    """Delete a folder of statuses; an error of the store is logged only, as what is left is deleted later."""
    try:
        store.delete_below(f"{folder.rstrip('/')}/")
    except TranscriptionError as error:
        log.warning("%s cannot be deleted: %s", folder, error)


def reference(job: WindowJob) -> WindowRef:
    """Return the window of a job."""
    return job.recording, job.channel, job.number


def process_start(pid: int) -> str:
    """Return the start of a process of this machine, in ticks after boot; empty if it does not run.

    Without /proc (macOS) it is the same for all processes that run.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() else "running"
    return "" if fields[0] == "Z" else fields[19]  # a zombie has ended
