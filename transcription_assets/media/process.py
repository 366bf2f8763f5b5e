"""Running ffmpeg: a time limit that holds, memory that stays flat, no process left behind."""

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from transcription_assets.failures import PermanentFailure, TransientFailure

_HEAD_BYTES = 1 << 20  # the header comes first; an audio book's chapters are thousands of lines of it
_TAIL_BYTES = 64 << 10
_READ_BYTES = 64 << 10


@dataclass(slots=True)
class Printed:
    """What ffmpeg printed: the beginning and the end, so that a million complaints take no memory."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """Keep `data` as long as there is room, then only the latest."""
        room = _HEAD_BYTES - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        del self.tail[:-_TAIL_BYTES]

    def __bytes__(self) -> bytes:
        return bytes(self.head + self.tail)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended: `code` is None where its time was up, negative where a signal ended it."""

    code: int | None
    printed: bytes
    decoded_s: float = 0.0


def run(command: list[str], limit_s: float) -> Ending:
    """Run ffmpeg to its end, for `limit_s` seconds at most; it prints `-progress` to its standard output."""
    deadline = time.monotonic() + limit_s
    printed = Printed()
    progress = b""
    code: int | None = None
    with started(command) as process, suppress(subprocess.TimeoutExpired):
        for data in output(process, printed, lambda: deadline - time.monotonic()):
            progress = (progress + data)[-4_096:]
        code = process.wait(max(deadline - time.monotonic(), 0.0))
    return Ending(code, bytes(printed), _position(progress))


def _position(progress: bytes) -> float:
    """The last position told, in seconds; 0.0 where nothing was written."""
    times = re.findall(rb"out_time_us=(\d+)", progress)
    return int(times[-1]) / 1e6 if times else 0.0


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own; the whole group is gone when the block is left, however it is left."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdin=null, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise PermanentFailure(f"cannot start {command[0]}: {error.strerror}. Correct the path of ffmpeg") from error
    except OSError as error:
        raise TransientFailure(f"cannot start {command[0]}: {error.strerror}") from error
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def output(process: subprocess.Popen[bytes], printed: Printed, patience: Callable[[], float]) -> Generator[bytes]:
    """Yield standard output as it comes, and feed standard error to `printed`.

    `patience` tells how many seconds to wait for more; subprocess.TimeoutExpired when they have passed.
    """
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            wait = patience()
            ready = selector.select(wait) if wait > 0 else []
            if not ready:
                raise subprocess.TimeoutExpired(process.args, wait)
            for key, _ in ready:
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    printed.feed(data)
                else:
                    yield data
