"""Decoding of audio tracks in one pass of ffmpeg, each frame with its timestamp.

ffmpeg writes each track twice: its samples to one pipe, a line for each frame (`framecrc`) to another. So timestamps
come from the container and not from counting samples, also when the layout or the sample rate changes and at gaps.
"""

import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from transcription_assets.media import ffmpeg_process
from transcription_assets.media.ffmpeg_process import SAMPLE_RATE
from transcription_assets.media.mixing import Samples

_READ_BYTES = 256 << 10
_LOUDEST = np.float32(1_000)  # 60 dB above full scale: a larger float is damaged, and its square overflows


class Frame(NamedTuple):
    """Samples of one track, shape (samples, channels), and the timestamp `at` of the first one, in samples."""

    track: int
    at: int
    samples: Samples


_Take = Callable[[bytes], Generator[Frame]]


@dataclass(slots=True)
class _Track:
    """Samples and frame lines of one track that were received and not yet yielded."""

    data: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)
    lines: deque[tuple[int, int, int]] = field(default_factory=deque)

    def feed(self, text: bytes) -> None:
        """Parse lines `stream, dts, pts, duration, size, checksum`; the last one may be incomplete."""
        *whole, rest = (self.text + text).split(b"\n")
        self.text = bytearray(rest)
        for line in whole:
            if not line.startswith(b"#"):
                _, _, at, samples, size, *_ = line.split(b",")
                self.lines.append((int(at), int(samples), int(size)))

    def runs(self) -> Generator[tuple[int, Samples]]:
        """Yield the complete frames with their timestamps; consecutive frames without a gap are joined."""
        at = count = size = used = 0
        while self.lines and used + size + self.lines[0][2] <= len(self.data):
            start, samples, length = self.lines.popleft()
            if count and start != at + count:
                yield at, self._samples(used, size, count)
                used, count, size = used + size, 0, 0
            at = at if count else start
            count += samples
            size += length
        if count:
            yield at, self._samples(used, size, count)
        del self.data[: used + size]

    def _samples(self, offset: int, size: int, count: int) -> Samples:
        part = np.frombuffer(bytes(self.data[offset : offset + size]), np.float32)
        return np.clip(np.nan_to_num(part.reshape(count, -1), posinf=1.0, neginf=-1.0), -_LOUDEST, _LOUDEST)


class _Outputs:
    """Two pipes for each track, and the selector for everything that ffmpeg writes."""

    def __init__(self, tracks: Sequence[int], stack: ExitStack) -> None:
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.printed = ffmpeg_process.Printed()
        self.write_ends: list[int] = []
        self.arguments: list[str] = []
        for number, track in enumerate(tracks):
            state = _Track()
            samples = self._pipe(stack, partial(self._take_samples, number, state))
            lines = self._pipe(stack, partial(self._take_lines, number, state))
            self.arguments += ["-map", f"0:a:{track}", "-af", f"aresample={SAMPLE_RATE}", "-c:a", "pcm_f32le"]
            self.arguments += ["-bitexact", "-f", "tee", f"[f=f32le]pipe:{samples}|[f=framecrc]pipe:{lines}"]

    def _pipe(self, stack: ExitStack, take: _Take) -> int:
        """Create a pipe whose data goes to `take`, and return the file descriptor that ffmpeg writes to."""
        read_end, write_end = os.pipe()
        stack.callback(os.close, read_end)
        self.write_ends.append(write_end)
        self.selector.register(read_end, selectors.EVENT_READ, take)
        return write_end

    def listen(self, running: "subprocess.Popen[bytes]") -> None:
        """Read ffmpeg's messages as well."""
        for pipe in (running.stdout, running.stderr):
            if pipe is not None:
                self.selector.register(pipe, selectors.EVENT_READ, self._take_words)

    def read(self, wait_s: float) -> Generator[Frame]:
        """Yield the frames that are complete after the next output.

        Raises:
            subprocess.TimeoutExpired: there was no output for `wait_s` seconds.

        """
        ready = self.selector.select(wait_s) if wait_s > 0 else []
        if not ready:
            raise subprocess.TimeoutExpired("ffmpeg", wait_s)
        for key, _ in ready:
            data = os.read(key.fd, _READ_BYTES)
            if not data:
                self.selector.unregister(key.fileobj)
            yield from key.data(data)

    def _take_words(self, data: bytes) -> Generator[Frame]:
        self.printed.feed(data)
        yield from ()

    @staticmethod
    def _take_samples(number: int, state: _Track, data: bytes) -> Generator[Frame]:
        state.data += data
        return (Frame(number, at, block) for at, block in state.runs())

    @staticmethod
    def _take_lines(number: int, state: _Track, data: bytes) -> Generator[Frame]:
        state.feed(data)
        return (Frame(number, at, block) for at, block in state.runs())


def decode(
    command: Sequence[str], tracks: Sequence[int], *, limit_s: float
) -> Generator[Frame, None, ffmpeg_process.ProcessResult]:
    """Yield the frames of the audio tracks with these numbers at 16 kHz, with all channels, in ffmpeg's order.

    `command` is the ffmpeg command up to and including its input. ffmpeg is killed after `limit_s` seconds; the return
    value of the generator is the result of the run.

    Raises:
        PermanentFailure: ffmpeg does not exist or may not be executed.
        TransientFailure: the system cannot start a process now.

    """
    deadline = time.monotonic() + limit_s
    code: int | None = None
    with ExitStack() as stack:
        outputs = _Outputs(tracks, stack)
        try:
            running = stack.enter_context(
                ffmpeg_process.started([*command, *outputs.arguments], pass_fds=outputs.write_ends)
            )
        finally:
            for pipe in outputs.write_ends:
                os.close(pipe)
        outputs.listen(running)
        with suppress(subprocess.TimeoutExpired):
            while outputs.selector.get_map():
                yield from outputs.read(deadline - time.monotonic())
            code = running.wait(max(deadline - time.monotonic(), 0.0))
    return ffmpeg_process.ProcessResult(code, bytes(outputs.printed))
