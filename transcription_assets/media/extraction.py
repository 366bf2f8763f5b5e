"""Extract what people say in a recording as one FLAC on the clock of a player.

One pass decodes the tracks to local disk (`frames`, `timeline`, `spool`); then the choice of tracks (`tracks`) and of a
gain (`mixing`) is made on all of it, and a second ffmpeg encodes the result.
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

from transcription_assets import temporary
from transcription_assets.failures import PermanentFailure, TransientFailure
from transcription_assets.media import mixing, process, report
from transcription_assets.media.frames import decode
from transcription_assets.media.process import Ending
from transcription_assets.media.report import Probe, Track
from transcription_assets.media.source import SAMPLE_RATE, address, input_arguments, is_remote
from transcription_assets.media.spool import Spool, to_16_bits
from transcription_assets.media.tracks import Detector, with_speech
from transcription_assets.media.truncation import Truncation

LENGTH_TOLERANCE_S = 1.0
LONGEST_S = 48 * 3600.0
NO_AUDIO = "no audio stream, so there is nothing to transcribe"

_GAP_WORTH_A_WORD_S = 0.5
_ENCODE_S_PER_SECOND = 0.02  # 20 times what a busy core needs
_STREAMINFO = 26  # bytes from the start of a FLAC to its total samples


@dataclass(frozen=True, slots=True)
class Extraction:
    """How much speech was written (seconds), what a reader should know about it, and how many bytes were read.

    `level_db` is the loudness before `gain_db` was applied, None for digital silence; `tracks` are the numbers (from 0)
    of the audio tracks that were mixed. `continuous` is false where timestamps jump or run backwards, and `rescued_s`
    counts the seconds in which the channels cancelled each other. `truncation` is set where ffmpeg met the end of the
    file within a frame.
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
) -> Extraction:
    """Write the speech of `source` to `target` (on local disk) as 16 kHz FLAC of `channels`.

    Args:
        source: What ffmpeg opens.
        target: Where the FLAC goes; there is none after a failure.
        name: What messages call the recording.
        ffmpeg: Path of ffmpeg.
        limit_s: Time that decoding may take, and encoding once more.
        size: Bytes of an object that `probe` could open: a store whose answer ends earlier has failed.
        channels: 1, or 2 to keep two channels apart.
        tracks: Audio tracks to decode; the first one if empty.
        detector: Finds voices, to choose between several tracks; without one all of `tracks` are mixed.
        longest_s: Seconds that the recording may last.
        most_disk: Bytes that its tracks and the FLAC may take of the local disk together; None for no bound.

    Its times are the player's: a track that begins late begins with silence, and lost packets leave silence. What
    cannot be decoded is stepped over and told in `warnings`.

    Raises:
        PermanentFailure: Nothing can be decoded, or the recording is longer than `longest_s` or needs more than
            `most_disk`.
        TransientFailure: The store or the disk failed.

    """
    chosen = tuple(tracks) or (Track(0),)
    where = address(source)
    limits = _Limits(name, longest_s, most_disk)
    with temporary.folder() as folder, ExitStack() as held, ExitStack() as unfinished:
        unfinished.callback(target.unlink, missing_ok=True)
        spools = [_spool(folder, item, apart=channels > 1) for item in chosen]
        for spool in spools:
            held.callback(spool.close)
        command = [ffmpeg, *input_arguments(where, size=size)]
        ending = _decoded(command, chosen, spools, limits, limit_s=limit_s)
        said = report.text(ending.printed, where)
        header = _require_all_of_it(ending, said, where, name=name, limit_s=limit_s, size=size)
        languages = [item.language for item in chosen]
        used = with_speech(spools, languages, detector) if detector and len(spools) > 1 else list(range(len(spools)))
        for number in set(range(len(spools))) - set(used):
            spools[number].discard()
        gains = [mixing.gain_steps(mixing.loudness(spools[number].powers)) for number in used]
        length = max(spools[number].length for number in used)
        blocks = _bounded(_mixture([spools[number] for number in used], gains), spools, target, limits)
        _encode(blocks, target, length, channels=channels, name=name, ffmpeg=ffmpeg, limit_s=limit_s)
        limits.require_disk(spools, target.stat().st_size)
        unfinished.pop_all()
        return _described(
            [spools[number] for number in used], [chosen[number].number for number in used], gains, header, said
        )


def _spool(folder: Path, track: Track, *, apart: bool) -> Spool:
    return Spool(folder / f"{track.number}.raw", layout=track.declared_layout, apart=apart, timed=track.timed)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What one recording may take; `name` is what messages call it."""

    name: str
    longest_s: float
    most_disk: int | None

    def require_length(self, samples: int) -> None:
        if samples > self.longest_s * SAMPLE_RATE:
            raise PermanentFailure(
                f"{self.name}: it lasts, or its timestamps jump, beyond {self.longest_s / 3600:.0f} h. Cut it into"
                " parts, or repair its timestamps"
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
    """Yield the blocks as long as what has become of them fits on the disk."""
    for block in blocks:
        if limits.most_disk is not None and target.exists():
            limits.require_disk(spools, target.stat().st_size)
        yield block


def _decoded(
    command: list[str], tracks: Sequence[Track], spools: Sequence[Spool], limits: _Limits, *, limit_s: float
) -> Ending:
    """Fill the spools; returns how ffmpeg ended."""
    frames = decode(command, [track.number for track in tracks], limit_s=limit_s)
    with closing(frames):
        while True:
            try:
                frame = next(frames)
            except StopIteration as stop:
                ending: Ending = stop.value
                break
            spool = spools[frame.track]
            limits.require_length(max(frame.at, spool.length))
            limits.require_disk(spools)
            with _local_disk(limits.name):
                spool.add(frame.at, frame.samples)
    with _local_disk(limits.name):
        for spool in spools:
            spool.finish()
    return replace(ending, decoded_s=max(spool.length for spool in spools) / SAMPLE_RATE)


@contextmanager
def _local_disk(name: str) -> Iterator[None]:
    """Turn an error of the temporary folder into a failure that a retry may mend."""
    try:
        yield
    except OSError as error:
        raise TransientFailure(
            f"{name}: its sound cannot be written to the temporary folder ({error.strerror}). Free some space there",
            key=name,
            step="audio",
            hint="free some space in the temporary folder",
        ) from error


def _require_all_of_it(ending: Ending, said: str, where: str, *, name: str, limit_s: float, size: int | None) -> Probe:
    """Return the header, unless nothing was decoded or a store gave less than it has."""
    header = report.header(said)
    if header is not None and not header.audio_tracks and report.ended(ending):
        raise PermanentFailure(f"{name}: {NO_AUDIO}")
    usable = report.ended(ending) and ending.decoded_s > 0
    cut_off = header is not None and is_cut_off(ending.decoded_s, header.promised_s, said, where)
    if header is None or not usable or cut_off or _is_unread(header, said, where, size):
        what = f"decoding stopped after {ending.decoded_s:.1f} s"
        if header is None and size and is_remote(where) and report.is_garbled(said):
            raise TransientFailure(f"{name}: it could be opened before, what the store gives now cannot: {what}")
        raise report.failure(ending, what, name=name, where=where, limit_s=limit_s)
    return header


def is_cut_off(decoded_s: float, stated_s: float | None, said: str, where: str) -> bool:
    """Return whether more would come another time: ffmpeg ends with code 0 when the connection breaks half-way."""
    short = stated_s is None or decoded_s < stated_s - LENGTH_TOLERANCE_S
    return report.disk_away(said) or (short and is_remote(where) and report.store_away(said))


def _is_unread(header: Probe, said: str, where: str, size: int | None) -> bool:
    """Return whether the store withheld a second or more: formats without an index take its end for theirs."""
    if not size or not is_remote(where) or not report.store_away(said):
        return False
    return report.broken_off(said) or header.bytes_read < size - size / max(header.duration or 0.0, 1.0)


def _mixture(spools: Sequence[Spool], gains: Sequence[int]) -> Iterator[NDArray[np.int16]]:
    """Yield the blocks of the mix: the mean of the tracks, each with its gain, as long as the longest."""
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


def encode_limit(limit_s: float, length: int) -> float:
    """Return the seconds that encoding `length` samples may take.

    `limit_s` follows from the length that the container states, and a gap in the timestamps may be hours of silence.
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
    # Bitexact: the same sound always gives the same bytes, which name it.
    pcm = f"-nostdin -v error -f s16le -ar {SAMPLE_RATE} -ac {channels} -i pipe:0"
    flac = "-c:a flac -sample_fmt s16 -map_metadata -1 -bitexact -f flac -y"
    command = [ffmpeg, *pcm.split(), *flac.split(), address(target)]
    with process.started(command, stdin=subprocess.PIPE) as running:
        watchdog = threading.Timer(encode_limit(limit_s, length), running.kill)
        watchdog.start()
        try:
            with suppress(BrokenPipeError):
                for block in blocks:
                    _write(running, block.tobytes())
            _, complaint = running.communicate()
        finally:
            watchdog.cancel()
    written = _flac_samples(target)
    if running.returncode or written != length:
        said = complaint.decode(errors="replace").strip()[-300:]
        raise TransientFailure(
            f"{name}: its sound could not be written to local disk ({written} of {length} samples,"
            f" {said or 'no message'}). Free some space, then retry"
        )


def _write(running: "subprocess.Popen[bytes]", data: bytes) -> None:
    """Write all of it: a pipe without a buffer may take a part."""
    view = memoryview(data)
    while view and running.stdin:
        view = view[running.stdin.write(view) or 0 :]


def _flac_samples(path: Path) -> int:
    """Return the number of samples that the header of a FLAC states, 0 where there is none."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_STREAMINFO)
        if len(head) == _STREAMINFO:
            return int.from_bytes(head[-5:], "big") & (1 << 36) - 1
    return 0


def _described(
    spools: Sequence[Spool], tracks: Sequence[int], gains: Sequence[int], header: Probe, said: str
) -> Extraction:
    seconds = max(spool.length for spool in spools) / SAMPLE_RATE
    level = max(mixing.loudness(spool.powers) for spool in spools)
    jumps = any(
        spool.timeline.is_set_back or spool.timeline.gap > _GAP_WORTH_A_WORD_S * SAMPLE_RATE for spool in spools
    )
    return Extraction(
        seconds,
        _warnings(seconds, header, said),
        header.bytes_read,
        level_db=round(level, 1) if level > mixing.SILENT_DB else None,
        gain_db=mixing.decibels(max(gains)),
        tracks=tuple(tracks),
        continuous=not jumps,
        rescued_s=round(max(spool.rescued for spool in spools) / SAMPLE_RATE, 1),
        truncation=Truncation("the file ends within a frame", certain=False) if report.ends_early(said) else None,
    )


def _warnings(decoded_s: float, header: Probe, said: str) -> tuple[str, ...]:
    warnings = []
    if quote := report.quoted(said):
        warnings.append(f"stepped over what could not be decoded: {quote}")
    if header.promised_s is not None and abs(decoded_s - header.promised_s) > LENGTH_TOLERANCE_S:
        warnings.append(f"decoded {decoded_s:.1f} s of audio, the container states {header.promised_s:.1f} s")
    return tuple(warnings)
