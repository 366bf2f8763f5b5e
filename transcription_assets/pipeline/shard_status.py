"""The status of a shard in the store (`work/<id>/shard-<n>.json`): what a process decodes now, and what is done.

The process that decodes a shard writes it, the coordinator reads it. A process that is killed leaves its status behind,
which tells the recordings that it died of.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from transcription_assets.costs import timing
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.pipeline import records
from transcription_assets.speech.recognition import WindowJob
from transcription_assets.storage import Store

VERSION = "1"
HEARTBEAT_S = 30.0
"""Seconds after which an unchanged status is written again."""
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

    `current` are the windows that are being decoded, of which `share` (0 to 1) is done. `versions` are those of the
    recordings of `current`, see `DecodeRequest`. `failed` are recordings by media key.
    """

    owner: str
    host: str
    pid: int
    beat: float
    current: tuple[WindowRef, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    share: float = 0.0
    done: tuple[WindowRef, ...] = ()
    failed: dict[str, RecordingFailure] = field(default_factory=dict)
    load_s: float = 0.0
    """Seconds for which weights were loaded by its process so far."""
    version: str = VERSION

    def is_alive(self, owner: str) -> bool:
        """Return whether its process may still be running. The steps of one run (`owner`) never run at once."""
        if self.host == socket.gethostname():
            return process_exists(self.pid) and self.pid != os.getpid()
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
    """Writes the status of a shard: at once when a group begins or a recording fails, else every `interval_s`.

    An error of the store is logged only, as the status is not part of the result.
    """

    def __init__(self, store: Store, place: str, owner: str, interval_s: float = HEARTBEAT_S) -> None:
        self._store = store
        self._place = place
        self._interval_s = interval_s
        self._written = 0.0
        self.status = ShardStatus(owner, socket.gethostname(), os.getpid(), time.time())

    def begin(self, group: Sequence[WindowJob], versions: dict[str, str]) -> None:
        """Note the windows that are decoded next."""
        current = tuple(map(reference, group))
        self._change(replace(self.status, current=current, versions=versions, share=0.0), now=True)

    def progress(self, share: float) -> None:
        """Note the share of the current windows that is done."""
        self._change(replace(self.status, share=share))

    def finish(self, job: WindowJob, error: Exception | None) -> None:
        """Note a window that is done, or the failure of its recording."""
        if error is not None:
            self.fail(job.recording, error)
            return
        self._change(replace(self.status, done=(*self.status.done, reference(job))))

    def fail(self, key: str, error: Exception) -> None:
        """Note the failure of a recording."""
        self._change(replace(self.status, failed=self.status.failed | {key: RecordingFailure.of(error)}), now=True)

    def end(self) -> None:
        """Note that nothing is being decoded any more."""
        self._change(replace(self.status, current=(), versions={}, share=0.0), now=True)

    def remove(self) -> None:
        """Delete the status with its folder."""
        try:
            self._store.delete_below(f"{self._place.rpartition('/')[0]}/")
        except TranscriptionError as error:
            log.warning("the status %s cannot be deleted: %s", self._place, error)

    def _change(self, status: ShardStatus, *, now: bool = False) -> None:
        self.status = status
        if not now and time.monotonic() - self._written < self._interval_s:
            return
        self.status = replace(status, beat=time.time(), load_s=timing.weights.seconds)
        try:
            self._store.write(self._place, json.dumps(asdict(self.status)).encode())
            self._written = time.monotonic()
        except TranscriptionError as error:
            log.warning("the status %s cannot be written: %s", self._place, error)


def reference(job: WindowJob) -> WindowRef:
    """Return the window of a job."""
    return job.recording, job.channel, job.number


def process_exists(pid: int) -> bool:
    """Return whether a process of this machine runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()  # without /proc (macOS) the signal is all that is known
