"""Pictures of a recording at a low frame rate, each with its timestamp, in one pass of ffmpeg.

ffmpeg writes the raw pictures to one pipe, and a line for each (`framecrc`) to another: timestamps come from the
container, as in `frames`. Key frames alone take a hundredth of the time of all frames, as no other is decoded.
"""

import os
import re
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcription_assets.errors import TranscriptionError, TransientFailure
from transcription_assets.media import ffmpeg_output, ffmpeg_process
from transcription_assets.media.ffmpeg_process import ProcessResult, address, input_arguments

SIDE = 1280
"""Longer side of a picture in pixels: enough for text of a 25th of the height; larger pictures cost more time only."""
STALL_S = 120.0
"""Seconds without any output after which ffmpeg counts as hung."""

SPARSE_S = 12.0
"""Where key frames are further apart, the pictures between them are decoded, too: encoders place one at least every ten
seconds, and recorders of screens and calls do not."""
TIMING_S = 0.2
"""Distance of the pictures by which a change between two key frames is timed."""

_READ_BYTES = 1 << 20
_BASE = re.compile(rb"#tb 0: (\d+)/(\d+)")
_SIZE = re.compile(rb"#dimensions 0: (\d+)x(\d+)")

Pixels = NDArray[np.uint8]
"""A picture: RGB, shape (height, width, 3)."""


class Picture(NamedTuple):
    """A decoded picture, `at` seconds from the start of the recording."""

    at: float
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class PictureRange:
    """What to decode: from `start` to `end` (seconds, None = to the end), pictures at least `every_s` seconds apart."""

    every_s: float
    start: float = 0.0
    end: float | None = None
    only_key_frames: bool = False


@dataclass(slots=True)
class _Reader:
    """Bytes and lines that were received and do not make a whole picture yet."""

    start: float
    data: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)
    lines: deque[tuple[float, int]] = field(default_factory=deque)
    second: float = 0.0
    shape: tuple[int, int, int] = (0, 0, 3)

    def take_pixels(self, data: bytes) -> None:
        self.data += data

    def take_lines(self, data: bytes) -> None:
        """Parse the header, and lines `stream, dts, pts, duration, size, checksum`; the last one may be incomplete."""
        *whole, rest = (self.text + data).split(b"\n")
        self.text = bytearray(rest)
        for line in whole:
            if base := _BASE.match(line):
                self.second = int(base[1]) / int(base[2])
            elif size := _SIZE.match(line):
                self.shape = (int(size[2]), int(size[1]), 3)
            elif not line.startswith(b"#"):
                _, _, at, _, length, *_ = line.split(b",")
                self.lines.append((self.start + int(at) * self.second, int(length)))

    def pictures(self) -> Generator[Picture]:
        """Yield the whole pictures. One of another shape, after a change within the file, is left out."""
        while self.lines and self.lines[0][1] <= len(self.data):
            at, length = self.lines.popleft()
            pixels = np.frombuffer(bytes(self.data[:length]), np.uint8)
            del self.data[:length]
            if length == np.prod(self.shape):
                yield Picture(at, pixels.reshape(self.shape))


def read_pictures(
    source: str, wanted: PictureRange, *, ffmpeg: str, limit_s: float
) -> Generator[Picture, None, ProcessResult]:
    """Yield pictures of the video track, SIDE pixels on the longer side; covers are not pictures of a recording.

    ffmpeg is killed when it was waited for `limit_s` seconds in all or STALL_S seconds at once, and when the generator
    is closed. The time of the consumer does not count. The return value of the generator is the result of the run.

    Raises:
        PermanentFailure: ffmpeg does not exist or may not be executed.
        TransientFailure: the system cannot start a process now.

    """
    remaining_s = limit_s
    printed, reader = ffmpeg_process.Printed(), _Reader(wanted.start)
    code: int | None = None
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        ends: list[int] = []
        for take in (reader.take_pixels, reader.take_lines):
            read_end, write_end = os.pipe()
            stack.callback(os.close, read_end)
            ends.append(write_end)
            selector.register(read_end, selectors.EVENT_READ, take)
        try:
            command = _command(ffmpeg, address(source), wanted, ends[0], ends[1])
            running = stack.enter_context(ffmpeg_process.started(command, pass_fds=ends))
        finally:
            for end in ends:
                os.close(end)
        for pipe in (running.stdout, running.stderr):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, printed.feed)
        with suppress(subprocess.TimeoutExpired):
            while selector.get_map():
                began = time.monotonic()
                _receive(selector, min(remaining_s, STALL_S))
                remaining_s -= time.monotonic() - began
                yield from reader.pictures()
            code = running.wait(max(remaining_s, 1.0))
    return ProcessResult(code, bytes(printed))


def _receive(selector: selectors.BaseSelector, wait_s: float) -> None:
    """Pass the next output to its callback.

    Raises:
        subprocess.TimeoutExpired: there was none for `wait_s` seconds.

    """
    ready = selector.select(wait_s) if wait_s > 0 else []
    if not ready:
        raise subprocess.TimeoutExpired("ffmpeg", wait_s)
    for key, _ in ready:
        data = os.read(key.fd, _READ_BYTES)
        if not data:
            selector.unregister(key.fileobj)
        take: Callable[[bytes], None] = key.data
        take(data)


def _command(ffmpeg: str, url: str, wanted: PictureRange, pixels: int, lines: int) -> list[str]:
    span = [] if wanted.end is None else ["-t", f"{max(wanted.end - wanted.start, 0.0):.3f}"]
    seek = ["-ss", f"{wanted.start:.3f}"] if wanted.start else []
    sparse = ["-skip_frame", "nokey"] if wanted.only_key_frames else []
    # Pictures of any size become equally large, so that a stream whose size changes does not change ours.
    scale = (
        f"scale=w='if(gt(dar,1),{SIDE},max(32,2*trunc({SIDE}*dar/2)))'"
        f":h='if(gt(dar,1),max(32,2*trunc({SIDE}/dar/2)),{SIDE})',setsar=1"
    )
    chosen = f"select='isnan(prev_selected_t)+gte(t-prev_selected_t\\,{wanted.every_s:.3f})'"
    output = f"-map 0:V:0 -an -sn -dn -vf {chosen},{scale} -fps_mode passthrough -c:v rawvideo -pix_fmt rgb24 -bitexact"
    tee = ["-f", "tee", f"[f=rawvideo]pipe:{pixels}|[f=framecrc]pipe:{lines}"]
    return [ffmpeg, *input_arguments(url, *sparse, *seek, *span), *output.split(" "), *tee]


@dataclass(slots=True)
class PictureStream:
    """The pictures of one recording: key frames, and what is between them where that matters.

    `source` returns ffmpeg's input, and is called before each run, as signed URLs expire. A failure after the first
    picture is a `problem`, whatever its kind: a repetition would lose those before it.

    `name` is the recording's in messages; `limit_s` is the time that all calls together may wait for ffmpeg, and
    `duration` that of the recording, in seconds, None if it is not known. `problem` says why pictures are missing, and
    is empty if none are.
    """

    source: Callable[[], str]
    name: str
    ffmpeg: str
    limit_s: float
    every_s: float
    duration: float | None
    problem: str = ""
    _waited: float = 0.0
    _last: float = 0.0
    _count: int = 0

    def pictures(self) -> Generator[Picture]:
        """Yield pictures in order, at least `every_s` seconds apart, and at most SPARSE_S if there are any.

        Raises:
            PermanentFailure: ffmpeg does not exist or may not be executed.
            TransientFailure: the store fails, or the system cannot start a process now.

        """
        key_frames = self._read(PictureRange(self.every_s, only_key_frames=True))
        with closing(key_frames):
            for picture in key_frames:
                if picture.at - self._last > SPARSE_S:
                    yield from self._filled(picture.at)
                yield self._noted(picture)
        if not self.problem:  # the last slide may have begun after the last key frame
            yield from self._filled(self.duration)

    def between(self, start: float, end: float) -> Generator[Picture]:
        """Yield closely spaced pictures from `start` to `end`.

        Raises:
            PermanentFailure: ffmpeg does not exist or may not be executed.
            TransientFailure: the store fails, or the system cannot start a process now.

        """
        yield from self._read(PictureRange(TIMING_S, start, end))

    def _filled(self, end: float | None) -> Generator[Picture]:
        start = self._last + self.every_s if self._count else 0.0
        if end is not None and end - start < self.every_s:
            return
        for picture in self._read(PictureRange(self.every_s, start, end)):
            yield self._noted(picture)

    def _noted(self, picture: Picture) -> Picture:
        self._last, self._count = picture.at, self._count + 1
        return picture

    def _read(self, wanted: PictureRange) -> Generator[Picture]:
        """Yield the pictures of one run of ffmpeg, and record what went wrong.

        Raises:
            PermanentFailure: ffmpeg does not exist or may not be executed.
            TransientFailure: the store fails before the first picture, or the system cannot start a process now.

        """
        try:
            source = self.source()
        except TranscriptionError as error:
            self._fail(error)
            return
        reading = read_pictures(source, wanted, ffmpeg=self.ffmpeg, limit_s=self.limit_s - self._waited)
        result = yield from self._timed(reading)
        url = address(source)
        output = ffmpeg_output.text(result.printed, url)
        if result.code == 0 and not ffmpeg_output.is_broken_off(output):
            return
        reason = f"its pictures were decoded until {self._last:.0f} s only"
        if result.code is None:
            self.problem = f"{self.name}: {reason}, as that took longer than {self.limit_s:.0f} s"
            return
        self._fail(ffmpeg_output.failure(result, reason, name=self.name, url=url, limit_s=self.limit_s))

    def _fail(self, error: TranscriptionError) -> None:
        """Record an error; one that a retry may help is raised as long as there are no pictures to lose.

        Raises:
            TransientFailure: it is the error, and there has been no picture.

        """
        if isinstance(error, TransientFailure) and not self._count:
            raise error
        self.problem = str(error)

    def _timed(self, reading: Generator[Picture, None, ProcessResult]) -> Generator[Picture, None, ProcessResult]:
        """Yield the same pictures, and add up the time until each is there."""
        with closing(reading):
            while True:
                began = time.monotonic()
                try:
                    picture = next(reading)
                except StopIteration as end:
                    result: ProcessResult = end.value
                    return result
                finally:
                    self._waited += time.monotonic() - began
                yield picture
