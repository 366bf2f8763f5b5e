"""Decode audio tracks in one pass of ffmpeg, each frame with its timestamp.

ffmpeg writes each track twice: its samples to one pipe, a line for each frame (`framecrc`) to another. So times come
from the container and not from counting, whatever changes on the way: layout, sample rate, gaps.
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

from transcription_assets.media import process
from transcription_assets.media.mixing import Samples
from transcription_assets.media.source import SAMPLE_RATE

_READ_BYTES = 256 << 10
_LOUDEST = np.float32(1_000)  # 60 dB above full scale: a float that is larger is damage, and its square no number


class Frame(NamedTuple):
    """Samples of shape (samples, channels) of one track, and the timestamp of the first in samples."""

    track: int
    at: int
    samples: Samples


_Take = Callable[[bytes], Generator[Frame]]


@dataclass(slots=True)
class _Track:
    """What came of one track and is not handed on yet."""

    data: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)
    lines: deque[tuple[int, int, int]] = field(default_factory=deque)

    def feed(self, text: bytes) -> None:
        """Take lines `stream, dts, pts, duration, size, checksum`."""
        *whole, rest = (self.text + text).split(b"\n")
        self.text = bytearray(rest)
        for line in whole:
            if not line.startswith(b"#"):
                _, _, at, samples, size, *_ = line.split(b",")
                self.lines.append((int(at), int(samples), int(size)))

    def runs(self) -> Generator[tuple[int, Samples]]:
        """Yield what is complete; frames that follow each other exactly are handed on together."""
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
    """The two pipes of each track, and the selector that waits for all that ffmpeg writes."""

    def __init__(self, tracks: Sequence[int], held: ExitStack) -> None:
        self.selector = held.enter_context(selectors.DefaultSelector())
        self.printed = process.Printed()
        self.theirs: list[int] = []
        self.arguments: list[str] = []
        for number, track in enumerate(tracks):
            state = _Track()
            samples = self._pipe(held, partial(self._take_samples, number, state))
            lines = self._pipe(held, partial(self._take_lines, number, state))
            self.arguments += ["-map", f"0:a:{track}", "-af", f"aresample={SAMPLE_RATE}", "-c:a", "pcm_f32le"]
            self.arguments += ["-bitexact", "-f", "tee", f"[f=f32le]pipe:{samples}|[f=framecrc]pipe:{lines}"]

    def _pipe(self, held: ExitStack, take: _Take) -> int:
        """Return the end that ffmpeg writes to."""
        reading, writing = os.pipe()
        held.callback(os.close, reading)
        self.theirs.append(writing)
        self.selector.register(reading, selectors.EVENT_READ, take)
        return writing

    def listen(self, running: "subprocess.Popen[bytes]") -> None:
        """Take what ffmpeg says too."""
        for pipe in (running.stdout, running.stderr):
            if pipe is not None:
                self.selector.register(pipe, selectors.EVENT_READ, self._take_words)

    def read(self, wait_s: float) -> Generator[Frame]:
        """Yield what came; subprocess.TimeoutExpired where nothing did."""
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


def decode(command: Sequence[str], tracks: Sequence[int], *, limit_s: float) -> Generator[Frame, None, process.Ending]:
    """Yield the frames of the audio tracks with these numbers, at 16 kHz, all channels, as ffmpeg gives them.

    `command` is ffmpeg's up to and with its input. Returns how ffmpeg ended; its time is up after `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    code: int | None = None
    with ExitStack() as held:
        outputs = _Outputs(tracks, held)
        try:
            running = held.enter_context(process.started([*command, *outputs.arguments], pass_fds=outputs.theirs))
        finally:
            for pipe in outputs.theirs:
                os.close(pipe)
        outputs.listen(running)
        with suppress(subprocess.TimeoutExpired):
            while outputs.selector.get_map():
                yield from outputs.read(deadline - time.monotonic())
            code = running.wait(max(deadline - time.monotonic(), 0.0))
    return process.Ending(code, bytes(outputs.printed))
