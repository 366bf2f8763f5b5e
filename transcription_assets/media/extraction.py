"""Extraction of the speech of a recording as one FLAC with the timestamps of a player.

One pass decodes the tracks to local disk (`frames`, `spool`). Tracks (`tracks`) and gain (`mixing`) are
then chosen from the complete tracks, and a second ffmpeg process encodes the result.
"""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.media import ffmpeg_output, ffmpeg_process, mixing
from transcription_assets.media.ffmpeg_output import Probe, Track
from transcription_assets.media.ffmpeg_process import SAMPLE_RATE, ProcessResult, address, input_arguments, is_remote
from transcription_assets.media.frames import decode
from transcription_assets.media.spool import Spool, to_16_bits
from transcription_assets.media.tracks import Detector, with_speech
from transcription_assets.media.truncation import Truncation
from transcription_assets.storage import temporary

LENGTH_TOLERANCE_S = 1.0
LONGEST_S = 48 * 3600.0
NO_AUDIO = "no audio stream, nothing to transcribe"

_GAP_WORTH_A_WORD_S = 0.5
_ENCODE_S_PER_SECOND = 0.02  # 20 times what a busy core needs
_STREAMINFO = 26  # bytes of a FLAC up to and including its number of samples


@dataclass(frozen=True, slots=True)
class Extraction:
    """Result of an extraction: seconds written, warnings for users, and the number of bytes read.

    `level_db` is the loudness before `gain_db` was applied, None for digital silence; `tracks` are the numbers (from 0)
    of the audio tracks that were mixed. `continuous` is False if timestamps jump or run backwards, and `rescued_s` is
    the number of seconds in which an ordinary mix would have cancelled the channels. `truncation` is set if the file
    ends within a frame.
    """

    duration: float
    warnings: tuple[str, ...]
    bytes_read: int = field(default=0, compare=False)
    level_db: float | None = None
    gain_db: float = 0.0
    tracks: tuple[int, ...] = (0,)
    continuous: bool = True
    rescued_s: float = 0.0
    truncation: Truncation | None = None


def extract_speech(
    source: str,
    target: Path,
    *,
    name: str,
    ffmpeg: str,
    limit_s: float,
    size: int | None = None,
    channels: int = 1,
    tracks: Sequence[Track] = (),
    detector: Detector | None = None,
    longest_s: float = LONGEST_S,
    most_disk: int | None = None,
    dither: bool = False,
) -> Extraction:
    """Write the speech of `source` to `target` (on local disk) as 16 kHz FLAC of `channels`.

    Timestamps are those of a player: a track that begins late begins with silence, and lost packets become silence.
    Data that cannot be decoded is skipped and reported in `warnings`.

    Args:
        source: Input of ffmpeg.
        target: Path of the FLAC; it does not exist after a failure.
        name: Name of the recording in messages.
        ffmpeg: Path of ffmpeg.
        limit_s: Seconds that decoding may take; encoding has a limit of its own, see `encode_limit`.
        size: Bytes of an object that `probe` could open; a shorter response is then a failure of the store.
        channels: 1, or 2 for two separate channels.
        tracks: Audio tracks to decode; the first one if empty.
        detector: Voice activity detector that chooses between several tracks; without it all `tracks` are mixed.
        longest_s: Maximum duration of the recording in seconds.
        most_disk: Maximum bytes of local disk for tracks and FLAC together; None for no limit.
        dither: Change each sample by -1, 0 or 1 of 32768. Samples that are the bytes of another FLAC are stored as they
            are, and decoders take its frames for those of the file; the change makes their checksums invalid.

    Raises:
        PermanentFailure: nothing can be decoded, the recording is longer than `longest_s` or needs more than
            `most_disk`, or ffmpeg cannot be executed.
        NotFound: the recording does not exist.
        TransientFailure: the store or the disk fails, or no process can be started.
        OSError: the temporary files cannot be created or read.

    """
    chosen = tuple(tracks) or (Track(0),)
    url = address(source)
    limits = _Limits(name, longest_s, most_disk)
    with temporary.folder() as folder, ExitStack() as stack, ExitStack() as unfinished:
        unfinished.callback(target.unlink, missing_ok=True)
        spools = [_spool(folder, item, apart=channels > 1) for item in chosen]
        for spool in spools:
            stack.callback(spool.close)
        command = [ffmpeg, *input_arguments(url, size=size)]
        result = _decoded(command, chosen, spools, limits, limit_s=limit_s)
        output = ffmpeg_output.text(result.printed, url)
        header = _require_complete(result, output, url, name=name, limit_s=limit_s, size=size)
        languages = [item.language for item in chosen]
        used = with_speech(spools, languages, detector) if detector and len(spools) > 1 else list(range(len(spools)))
        for number in set(range(len(spools))) - set(used):
            spools[number].discard()
        gains = [mixing.gain_steps(mixing.loudness(spools[number].powers)) for number in used]
        length = max(spools[number].length for number in used)
        blocks = _bounded(_mixture([spools[number] for number in used], gains), spools, target, limits)
        if dither:
            blocks = _dithered(blocks)
        _encode(blocks, target, length, channels=channels, name=name, ffmpeg=ffmpeg, limit_s=limit_s)
        limits.require_disk(spools, target.stat().st_size)
        unfinished.pop_all()
        return _described(
            [spools[number] for number in used], [chosen[number].number for number in used], gains, header, output
        )


def _spool(folder: Path, track: Track, *, apart: bool) -> Spool:
    return Spool(folder / f"{track.number}.raw", layout=track.declared_layout, apart=apart, timed=track.timed)


@dataclass(frozen=True, slots=True)
class _Limits:
    """Limits for one recording; messages call it `name`."""

    name: str
    longest_s: float
    most_disk: int | None

    def require_length(self, samples: int) -> None:
        if samples > self.longest_s * SAMPLE_RATE:
            raise PermanentFailure(
                f"{self.name}: its duration or its timestamps exceed {self.longest_s / 3600:.0f} h. Cut it into parts,"
                " or repair its timestamps",
                key=self.name,
                step="audio",
                hint="cut it into parts, or repair its timestamps",
            )

    def require_disk(self, spools: Sequence[Spool], written: int = 0) -> None:
        if self.most_disk is not None and sum(spool.size for spool in spools) + written > self.most_disk:
            seconds = max(spool.length for spool in spools) / SAMPLE_RATE
            raise PermanentFailure(
                f"{self.name}: {seconds / 3600:.1f} h of {len(spools)} audio tracks need more than"
                f" {self.most_disk / (1 << 30):.1f} GiB of temporary disk. Cut it into parts, choose one track"
                " (TRANSCRIPTION_AUDIO_TRACKS), or give pods more (TRANSCRIPTION_K8S_SCALE)",
                key=self.name,
                step="audio",
                hint="cut it into parts, or set TRANSCRIPTION_AUDIO_TRACKS or TRANSCRIPTION_K8S_SCALE",
            )


def _bounded(
    blocks: Iterator[NDArray[np.int16]], spools: Sequence[Spool], target: Path, limits: _Limits
) -> Iterator[NDArray[np.int16]]:
    """Yield the blocks, and fail when the spools and the FLAC written so far exceed the limit on disk space."""
    for block in blocks:
        if limits.most_disk is not None and target.exists():
            limits.require_disk(spools, target.stat().st_size)
        yield block


def _decoded(
    command: list[str], tracks: Sequence[Track], spools: Sequence[Spool], limits: _Limits, *, limit_s: float
) -> ProcessResult:
    """Fill the spools, and return the result of the ffmpeg run."""
    frames = decode(command, [track.number for track in tracks], limit_s=limit_s)
    with closing(frames):
        while True:
            try:
                frame = next(frames)
            except StopIteration as stop:
                result: ProcessResult = stop.value
                break
            spool = spools[frame.track]
            limits.require_length(max(frame.at, spool.length))
            limits.require_disk(spools)
            with _local_disk(limits.name):
                spool.add(frame.at, frame.samples)
    with _local_disk(limits.name):
        for spool in spools:
            spool.finish()
    return replace(result, decoded_s=max(spool.length for spool in spools) / SAMPLE_RATE)


@contextmanager
def _local_disk(name: str) -> Iterator[None]:
    """Convert an OSError of the temporary folder into a TransientFailure."""
    try:
        yield
    except OSError as error:
        raise TransientFailure(
            f"{name}: the decoded audio cannot be written to the temporary folder ({error.strerror}). Free some space"
            " there",
            key=name,
            step="audio",
            hint="free some space in the temporary folder",
        ) from error


def _require_complete(
    result: ProcessResult, output: str, url: str, *, name: str, limit_s: float, size: int | None
) -> Probe:
    """Return the header; fail if nothing was decoded or the store sent less than the whole object."""
    header = ffmpeg_output.header(output)
    if header is not None and not header.audio_tracks and ffmpeg_output.exited(result):
        raise PermanentFailure(f"{name}: {NO_AUDIO}")
    usable = ffmpeg_output.exited(result) and result.decoded_s > 0
    cut_off = header is not None and is_cut_off(result.decoded_s, header.promised_s, output, url)
    if header is None or not usable or cut_off or _is_unread(header, output, url, size):
        problem = f"decoding stopped after {result.decoded_s:.1f} s"
        if header is None and size and is_remote(url) and ffmpeg_output.is_garbled(output):
            raise TransientFailure(
                f"{name}: {problem}: the store returned other data than to the probe. Try again", hint="try again"
            )
        raise ffmpeg_output.failure(result, problem, name=name, url=url, limit_s=limit_s)
    return header


def is_cut_off(decoded_s: float, stated_s: float | None, output: str, url: str) -> bool:
    """Return whether a retry may decode more: ffmpeg exits with status 0 if the connection breaks half-way."""
    is_short = stated_s is None or decoded_s < stated_s - LENGTH_TOLERANCE_S
    return ffmpeg_output.is_disk_unavailable(output) or (
        is_short and is_remote(url) and ffmpeg_output.is_store_unavailable(output)
    )


def _is_unread(header: Probe, output: str, url: str, size: int | None) -> bool:
    """Return whether a second or more was not received: formats without an index take that for the end of the file."""
    if not size or not is_remote(url) or not ffmpeg_output.is_store_unavailable(output):
        return False
    return ffmpeg_output.is_broken_off(output) or header.bytes_read < size - size / max(header.duration or 0.0, 1.0)


def _mixture(spools: Sequence[Spool], gains: Sequence[int]) -> Iterator[NDArray[np.int16]]:
    """Yield the blocks of the mix: the mean of the tracks, each with its gain, as long as the longest track."""
    share = np.float32(1 / len(spools))
    for blocks in zip_longest(*(spool.blocks() for spool in spools)):
        if len(spools) == 1:
            yield to_16_bits(blocks[0], gains[0])
            continue
        longest = max((block for block in blocks if block is not None), key=len)
        total = np.zeros_like(longest)
        for block, gain in zip(blocks, gains, strict=True):
            if block is not None:
                total[: len(block)] += block * (share * np.float32(2**gain))
        yield to_16_bits(total, 0)


def _dithered(blocks: Iterator[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
    """Yield the blocks with the same noise each time, so that the FLAC has the same bytes."""
    noise = np.random.default_rng(0)
    for block in blocks:
        louder = block.astype(np.int32) + noise.integers(-1, 1, block.shape, endpoint=True)
        yield np.clip(louder, -32_768, 32_767).astype(np.int16)


def encode_limit(limit_s: float, length: int) -> float:
    """Return the seconds that encoding `length` samples may take.

    `limit_s` depends on the stated duration, which does not include gaps in the timestamps (hours of silence).
    """
    return limit_s + length / SAMPLE_RATE * _ENCODE_S_PER_SECOND


def _encode(
    blocks: Iterator[NDArray[np.int16]],
    target: Path,
    length: int,
    *,
    channels: int,
    name: str,
    ffmpeg: str,
    limit_s: float,
) -> None:
    """Write a FLAC of exactly `length` samples."""
    # -bitexact: the same sound always gives the same bytes, and their hash identifies it.
    pcm = f"-nostdin -v error -f s16le -ar {SAMPLE_RATE} -ac {channels} -i pipe:0"
    flac = "-c:a flac -sample_fmt s16 -map_metadata -1 -bitexact -f flac -y"
    command = [ffmpeg, *pcm.split(), *flac.split(), address(target)]
    with ffmpeg_process.started(command, stdin=subprocess.PIPE) as running:
        watchdog = threading.Timer(encode_limit(limit_s, length), running.kill)
        watchdog.daemon = True  # a signal may interrupt `start` before the block that cancels it
        try:
            watchdog.start()
            with suppress(BrokenPipeError):
                for block in blocks:
                    _write(running, block.tobytes())
            _, complaint = running.communicate()
        finally:
            watchdog.cancel()
    written = _flac_samples(target)
    if running.returncode or written != length:
        output = complaint.decode(errors="replace").strip()[-300:]
        raise TransientFailure(
            f"{name}: the FLAC could not be written to local disk ({written} of {length} samples,"
            f" {output or 'no message'}). Free some space, then retry",
            hint="free some space, then retry",
        )


def _write(running: "subprocess.Popen[bytes]", data: bytes) -> None:
    """Write all of `data`: an unbuffered pipe may accept only a part."""
    view = memoryview(data)
    while view and running.stdin:
        view = view[running.stdin.write(view) or 0 :]


def _flac_samples(path: Path) -> int:
    """Return the number of samples that the header of a FLAC states, 0 if there is none."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_STREAMINFO)
        if len(head) == _STREAMINFO:
            return int.from_bytes(head[-5:], "big") & (1 << 36) - 1
    return 0


def _described(
    spools: Sequence[Spool], tracks: Sequence[int], gains: Sequence[int], header: Probe, output: str
) -> Extraction:
    seconds = max(spool.length for spool in spools) / SAMPLE_RATE
    level = max(mixing.loudness(spool.powers) for spool in spools)
    jumps = any(
        spool.timeline.is_set_back or spool.timeline.gap > _GAP_WORTH_A_WORD_S * SAMPLE_RATE for spool in spools
    )
    return Extraction(
        seconds,
        _warnings(output),
        header.bytes_read,
        level_db=round(level, 1) if level > mixing.SILENT_DB else None,
        gain_db=mixing.decibels(max(gains)),
        tracks=tuple(tracks),
        continuous=not jumps,
        rescued_s=round(max(spool.rescued for spool in spools) / SAMPLE_RATE, 1),
        truncation=Truncation("the file ends within a frame", certain=False)
        if ffmpeg_output.ends_early(output)
        else None,
    )


def _warnings(output: str) -> tuple[str, ...]:
    quote = ffmpeg_output.quoted(output)
    return (f"skipped data that cannot be decoded: {quote}",) if quote else ()
