"""Probing, posters, thumbnails and decoding of samples with ffmpeg."""

import shutil
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.media import ffmpeg_output, ffmpeg_process
from transcription_assets.media.extraction import NO_AUDIO, is_cut_off
from transcription_assets.media.ffmpeg_output import Probe
from transcription_assets.media.ffmpeg_process import SAMPLE_RATE, address, input_arguments

_BLOCK_S = 10
_BLOCK_BYTES = _BLOCK_S * SAMPLE_RATE * 2
SEEK_LEAD_S = 2.0
"""Several frames of FLAC, which have at most 0.3 s at 16 kHz."""
_STALL_S = 120.0
MOST_TRACKS = 8
"""Maximum number of audio tracks that are examined; recordings of people do not have more."""
LOWEST_RATE = 2_000
"""Lowest accepted sample rate in Hz; telephones use 8000. At 1 Hz, a file of some KB would last for hours."""
_PROBED_FRAMES = 20
_SLOWEST_BYTES_PER_S = 4_000  # 32 kbit/s, for files that do not state their duration
_FASTEST_BYTES_PER_S = 1_000_000  # 8 Mbit/s: reading takes time too, and a stated duration may be far too short
_POSTER = ("-nostdin", "-hide_banner", "-v", "error", "-f", "mjpeg", "-i")  # our own output needs no restrictions
_THUMBNAILS = ((160, 40), (160, 20), (160, 8), (128, 4), (96, 2), (64, 1))  # width and quality, best first

_log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Poster:
    """Result of `poster`: whether a picture was written, and the number of bytes read from the source."""

    taken: bool
    bytes_read: int


def find_ffmpeg(configured: str = "") -> str:
    """Return the path of ffmpeg: the configured one, else from PATH, else from the wheel imageio-ffmpeg.

    Raises:
        PermanentFailure: the configured program does not exist, or there is no ffmpeg at all.

    """
    found = shutil.which(configured or "ffmpeg")
    if found:
        return found
    if configured:
        hint = "correct TRANSCRIPTION_FFMPEG, or leave it empty"
        raise PermanentFailure(f"no program {configured}: {hint}", hint=hint)
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        hint = "apt install ffmpeg, brew install ffmpeg, or pip install imageio-ffmpeg"
        raise PermanentFailure(f"ffmpeg is not installed: {hint}", hint=hint) from error


def decode_limit(duration: float | None, size: int, *, floor_s: float, per_second: float) -> float:
    """Return the wall time (seconds) that decoding may take: `floor_s` plus `per_second` for each second of audio.

    The duration is estimated from `size` (bytes) if the container does not state it, or states one far too short.
    """
    if duration is None:
        return floor_s + per_second * size / _SLOWEST_BYTES_PER_S
    return floor_s + per_second * max(duration, size / _FASTEST_BYTES_PER_S)


def probe(source: str, name: str, *, ffmpeg: str, limit_s: float) -> Probe:
    """Open `source`, decode its first audio frames, and return its header; messages call it `name`.

    Raises:
        PermanentFailure: it is empty, truncated, not a recording or without audio, its sample rate is below
            LOWEST_RATE, or ffmpeg hangs, crashes or cannot be executed. The message quotes ffmpeg.
        NotFound: it does not exist.
        TransientFailure: the store answers 5xx or too slowly, or drops the connection; or no process can be started.

    """
    url = address(source)
    result, header = _first_frames(url, ["0:a:0"], ffmpeg, limit_s)
    if header is not None and ffmpeg_output.exited(result) and not result.decoded_s and header.audio_tracks > 1:
        # The first track may be empty or have a codec that ffmpeg lacks, such as the spatial audio of phones.
        others = [f"0:a:{track.number}" for track in header.tracks[1:MOST_TRACKS] if track.codec != "none"]
        result, header = _first_frames(url, others, ffmpeg, limit_s) if others else (result, header)
    if header is None or not ffmpeg_output.exited(result):
        raise ffmpeg_output.failure(result, "it cannot be opened", name=name, url=url, limit_s=limit_s)
    if not header.audio_tracks:
        raise PermanentFailure(f"{name}: {NO_AUDIO}")
    if not result.decoded_s:
        raise ffmpeg_output.failure(result, "none of its audio can be decoded", name=name, url=url, limit_s=limit_s)
    if header.sample_rate < LOWEST_RATE:
        raise PermanentFailure(f"{name}: the sample rate of {header.sample_rate} Hz is too low for speech")
    return header


def _first_frames(
    url: str, streams: Sequence[str], ffmpeg: str, limit_s: float
) -> tuple[ffmpeg_process.ProcessResult, Probe | None]:
    """Decode some frames of any timestamp: with a time limit, ffmpeg would stop before a track that begins late."""
    maps = [argument for stream in streams for argument in ("-map", stream)]
    output = f"-frames:a {_PROBED_FRAMES} -progress pipe:1 -f null -"
    result = ffmpeg_process.run([ffmpeg, *input_arguments(url), *maps, *output.split()], limit_s)
    return result, ffmpeg_output.header(ffmpeg_output.text(result.printed, url))


def poster(source: str, target: Path, *, ffmpeg: str, limit_s: float, at: float, width: int) -> Poster:
    """Write a JPEG, at most `width` pixels wide, of a typical frame near `at` seconds or of the cover to `target`.

    `taken` is False if there is no picture or none can be decoded: a missing poster never fails a recording.

    Raises:
        OSError: a file at `target` cannot be removed.

    """
    target.unlink(missing_ok=True)
    deadline = time.monotonic() + limit_s
    read = 0
    # A seek may end after the last frame: the second attempt is the beginning, the third an embedded cover.
    for stream, start in dict.fromkeys([("0:V:0", max(at, 0.0)), ("0:V:0", 0.0), ("0:v:0", 0.0)]):
        remaining_s = deadline - time.monotonic()
        arguments = ["-map", stream, "-frames:v", "1", "-vf", _picture_filter(width)]
        header = _picture(address(source), target, arguments, start=start, ffmpeg=ffmpeg, limit_s=remaining_s)
        read += header.bytes_read if header else 0
        if target.is_file() and target.stat().st_size:
            return Poster(taken=True, bytes_read=read)
        if header is None or not header.has_picture:
            break
    target.unlink(missing_ok=True)
    return Poster(taken=False, bytes_read=read)


def _picture_filter(width: int) -> str:
    """Return a filter for the most typical of some frames, in square pixels; scaled first, as 4K frames are large."""
    scale = f"scale='max(2,2*trunc(min({width},iw*sar)/2))':'max(2,2*trunc(ow/dar/2))',setsar=1"
    return f"{scale},thumbnail=24,setpts=0,format=yuvj420p"  # the timestamp of a cover is before the start


def _picture(
    url: str, target: Path, arguments: list[str], *, start: float, ffmpeg: str, limit_s: float
) -> Probe | None:
    """Try to write the picture; return the header, or None if further attempts cannot succeed."""
    seek = ("-noaccurate_seek", "-ss", f"{start:.3f}", "-t", "20")
    jpeg = "-c:v mjpeg -q:v 4 -map_metadata -1 -bitexact -f mjpeg -y"
    command = [ffmpeg, *input_arguments(url, *seek), *arguments, *jpeg.split(), address(target)]
    try:
        result = ffmpeg_process.run(command, limit_s)
    except TranscriptionError as error:
        _log.warning("no poster: %s", error)
        return None
    if not ffmpeg_output.exited(result):
        target.unlink(missing_ok=True)
        _log.warning("no poster of %s: ffmpeg was killed or crashed", ffmpeg_output.display_url(url))
        return None
    return ffmpeg_output.header(ffmpeg_output.text(result.printed, url))


def thumbnail(picture: Path, target: Path, *, ffmpeg: str, limit_s: float, max_bytes: int) -> bool:
    """Write the picture as WebP of at most `max_bytes`; return False if this ffmpeg cannot make it that small.

    Raises:
        OSError: the files beside `target` cannot be renamed or removed.

    """
    command = [ffmpeg, *_POSTER, address(picture)]
    tries = [target.with_name(f"{target.name}.{number}") for number in range(len(_THUMBNAILS))]
    # One process for all sizes: starting ffmpeg takes longer than encoding six thumbnails.
    for (width, quality), path in zip(_THUMBNAILS, tries, strict=True):
        webp = f"-vf scale={width}:-2 -c:v libwebp -compression_level 6 -quality {quality} -map_metadata -1 -f webp -y"
        command += [*webp.split(), address(path)]
    try:
        result = ffmpeg_process.run(command, limit_s)
    except TranscriptionError as error:
        _log.warning("no thumbnail: %s", error)
        return False
    small = [path for path in tries if result.code == 0 and path.stat().st_size <= max_bytes]
    if small:
        small[0].replace(target)
    for path in tries:
        path.unlink(missing_ok=True)
    return bool(small)


def read_samples(
    path: Path | str,
    *,
    ffmpeg: str,
    start: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield mono 16 kHz samples of `path` from `start` (seconds) on, for `duration` seconds or to the end.

    Blocks are float32 in [-1, 1) of shape (samples,) and at most 10 s long; memory use is constant. All
    channels are mixed unless `channel` (from 0) selects one. The process ends when the iterator ends or is closed.

    Raises:
        PermanentFailure: it cannot be decoded, or ffmpeg cannot be executed.
        NotFound: it does not exist.
        TransientFailure: the store fails, the disk is not available, or no process can be started.

    """
    url = address(path)
    # ffmpeg 9 finds no frame in the last fraction of a second of a FLAC: read from earlier on, and drop the rest.
    lead = min(start, SEEK_LEAD_S)
    begin, length = start - lead, None if duration is None else duration + lead
    span = ["-ss", f"{begin:.6f}"] + ([] if length is None else ["-t", f"{length:.6f}"])
    one = "-ac 1" if channel is None else f"-af pan=mono|c0=c{channel}"
    raw = f"-map 0:a:0 {one} -ar {SAMPLE_RATE} -f s16le -"
    command = [ffmpeg, *input_arguments(url, *span), *raw.split()]
    return _without_first(_blocks(command, url, begin, length), round(lead * SAMPLE_RATE))


def _without_first(blocks: Generator[NDArray[np.float32]], count: int) -> Generator[NDArray[np.float32]]:
    """Yield the blocks without their first `count` samples."""
    with closing(blocks):
        for block in blocks:
            if len(block) > count:
                yield block[count:]
            count = max(0, count - len(block))


def _blocks(command: list[str], url: str, start: float, duration: float | None) -> Generator[NDArray[np.float32]]:
    printed = ffmpeg_process.Printed()
    pending = bytearray()
    received = 0
    code: int | None = None
    with ffmpeg_process.started(command) as running, suppress(subprocess.TimeoutExpired):
        for data in ffmpeg_process.output(running, printed, lambda: _STALL_S):
            pending += data
            received += len(data)
            while len(pending) >= _BLOCK_BYTES:
                yield _samples(pending[:_BLOCK_BYTES])
                del pending[:_BLOCK_BYTES]
        code = running.wait(_STALL_S)
    if len(pending) > 1:
        yield _samples(pending[: len(pending) // 2 * 2])
    output = ffmpeg_output.text(bytes(printed), url)
    received_s = received / 2 / SAMPLE_RATE
    if code != 0 or is_cut_off(received_s, _expected(ffmpeg_output.header(output), start, duration), output, url):
        result = ffmpeg_process.ProcessResult(code, bytes(printed))
        problem = f"decoding stopped after {received_s:.1f} s"
        raise ffmpeg_output.failure(result, problem, name=ffmpeg_output.display_url(url), url=url, limit_s=_STALL_S)


def _expected(header: Probe | None, start: float, duration: float | None) -> float | None:
    """Return the expected seconds of samples, None if the container does not state its duration."""
    rest = None if header is None or header.duration is None else max(header.duration - start, 0.0)
    return rest if duration is None or rest is None else min(rest, duration)


def _samples(data: bytearray) -> NDArray[np.float32]:
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(32_768)
