"""Execution of ffmpeg with limits on time and memory, without our secrets and without processes left behind."""

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from transcription_assets.errors import PermanentFailure, TransientFailure

_HEAD_BYTES = 1 << 20  # the header comes first; the chapters of an audio book take thousands of lines
_TAIL_BYTES = 64 << 10
_READ_BYTES = 64 << 10

MEMORY_BYTES = 4 << 30
"""Limit of the address space of one ffmpeg. A poster of an 8K video, our largest call, needs less than 2 GiB."""

_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SYSTEMROOT"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
"""Variables that ffmpeg or its libraries read, in upper case. All others may hold secrets and are not passed on."""


@dataclass(slots=True)
class Printed:
    """Output of ffmpeg: only its beginning and its end, so that a million messages take constant memory."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """Append `data`; once the beginning is full, only the latest bytes are stored."""
        room = _HEAD_BYTES - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        del self.tail[:-_TAIL_BYTES]

    def __bytes__(self) -> bytes:
        return bytes(self.head + self.tail)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Result of a run: `code` is the exit status, None after a timeout, negative if a signal ended the process.

    `decoded_s` is the last position in the output (seconds).
    """

    code: int | None
    printed: bytes
    decoded_s: float = 0.0


def run(command: list[str], limit_s: float) -> ProcessResult:
    """Run ffmpeg for at most `limit_s` seconds; with `-progress pipe:1`, its position is part of the result.

    Raises:
        PermanentFailure: the program does not exist or may not be executed.
        TransientFailure: the system cannot start a process now.

    """
    deadline = time.monotonic() + limit_s
    printed = Printed()
    progress = b""
    if shutil.which(command[0]) is None:  # with a prefix before it, starting it would not fail
        raise PermanentFailure(
            f"cannot start {command[0]}: it is not there or may not be executed. Correct the path of ffmpeg"
        )
    code: int | None = None
    with started([*bound_to_parent(), *command]) as process, suppress(subprocess.TimeoutExpired):
        for data in output(process, printed, lambda: deadline - time.monotonic()):
            progress = (progress + data)[-4_096:]
        code = process.wait(max(deadline - time.monotonic(), 0.0))
    return ProcessResult(code, bytes(printed), _position(progress))


def _position(progress: bytes) -> float:
    """Return the last reported position in seconds, 0.0 if nothing was written."""
    times = re.findall(rb"out_time_us=(\d+)", progress)
    return int(times[-1]) / 1e6 if times else 0.0


@contextmanager
def started(
    command: list[str], *, stdin: int = subprocess.DEVNULL, pass_fds: Collection[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a process group of its own, which is killed when the block is left, also by an exception.

    On Linux its address space is limited to MEMORY_BYTES. Its environment holds only the variables that ffmpeg reads.
    `pass_fds` are additional file descriptors that it inherits.

    Raises:
        PermanentFailure: the program does not exist or may not be executed.
        TransientFailure: the system cannot start a process now.

    """
    pipe = subprocess.PIPE
    kept = {name: value for name, value in os.environ.items() if name.upper() in _ENVIRONMENT}
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,
            env=kept,
            pass_fds=pass_fds,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise PermanentFailure(f"cannot start {command[0]}: {error.strerror}. Correct the path of ffmpeg") from error
    except OSError as error:
        raise TransientFailure(f"cannot start {command[0]}: {error.strerror}") from error
    with process:
        _limit_memory(process.pid)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _limit_memory(pid: int) -> None:
    """Limit the address space of a running process; only Linux can do that from outside."""
    if sys.platform != "linux":
        return
    import resource

    with suppress(ProcessLookupError):  # it has ended already
        _, most = resource.prlimit(pid, resource.RLIMIT_AS)
        limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def bound_to_parent() -> list[str]:
    """Return a command prefix that kills the process when the calling thread ends, empty if there is no `setpriv`.

    ffmpeg ignores a broken pipe of `-progress`: without the prefix it would decode to the end after its parent was
    killed. Only for calls that wait in the thread that started them. BusyBox's setpriv lacks the option.
    """
    found = shutil.which("setpriv") if sys.platform == "linux" else None
    return [found, "--pdeathsig", "KILL", "--"] if found and Path(found).resolve().name == "setpriv" else []


def output(process: subprocess.Popen[bytes], printed: Printed, patience: Callable[[], float]) -> Generator[bytes]:
    """Yield standard output as it arrives, and feed standard error to `printed`.

    `patience` returns how many seconds to wait for more.

    Raises:
        subprocess.TimeoutExpired: these seconds have passed without any output.

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
