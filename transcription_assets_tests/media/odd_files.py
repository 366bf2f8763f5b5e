"""Generated recordings as unusual as those of cameras, recorders, broadcasts and joined files, by name.

Each contains bursts at known times of a player's clock, which begins at the earliest timestamp in the file.
`build` makes one; tests of the page may use those that a browser plays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transcription_assets_tests import recordings
from transcription_assets_tests.recordings import make

BURSTS = (0.4, 1.3, 2.4)
"""Starts of the tones of 0.3 s in the default audio of 3 s; uneven distances reveal any shift."""
SECONDS = 3.0
TONE = "0.5*sin(2*PI*500*t)*(" + "+".join(f"between(t,{at},{at + 0.3})" for at in BURSTS) + ")"
_PICTURE = ("-f", "lavfi", "-i", "testsrc=s=96x64:r=10:d={}")
_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10")
_VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")


@dataclass(frozen=True, slots=True)
class OddFile:
    """How to make a file and its properties; times are seconds of a player's clock.

    `browser_plays`: browsers decode its audio, on every channel. `exact`: the clock of a browser is accurate. `start`:
    the time of the container's clock at second 0. `tracks`: the audio tracks (from 1) that are used. `length`: the
    duration of the audio.
    """

    suffix: str
    make: Callable[[Path], Path]
    onsets: tuple[float, ...] = BURSTS
    length: float = SECONDS
    browser_plays: bool = False
    exact: bool = True
    start: float = 0.0
    tracks: tuple[int, ...] = (1,)
    cancels: bool = False
    quiet: bool = False
    tolerance_s: float = 0.03

    @property
    def plays_itself(self) -> bool:
        """Whether a browser plays the original at the right times."""
        return self.browser_plays and self.exact and self.start == 0.0


def build(name: str, folder: Path) -> Path:
    """Make the file with this name."""
    odd = ODD[name]
    return odd.make(folder / f"{name.replace(' ', '-')}.{odd.suffix}")


def detected_onsets(samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> list[float]:
    """Return the times in seconds at which audio begins after at least 0.1 s of silence."""
    frame = 80
    power = np.sqrt(np.mean(np.square(samples[: len(samples) // frame * frame].reshape(-1, frame)), axis=1))
    loud = power > max(float(power.max()) * 0.25, 1e-4)
    quiet_before = 20
    starts = [n for n in np.flatnonzero(loud) if not loud[max(n - quiet_before, 0) : n].any()]
    return [float(n) * frame / 16_000 for n in starts]


def _source(expression: str = TONE, seconds: float = SECONDS, rate: int = 48_000) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"aevalsrc='{expression}':s={rate}:d={seconds}")


def _plain(*options: str, expression: str = TONE, rate: int = 48_000) -> Callable[[Path], Path]:
    return lambda path: make(path, *_source(expression, rate=rate), *options)


def _film(*options: str, before: tuple[str, ...] = (), seconds: float = SECONDS) -> Callable[[Path], Path]:
    picture = tuple(item.format(seconds) for item in _PICTURE)
    return lambda path: make(path, *picture, *before, *_source(), *options)


def _joined(first: tuple[str, ...], second: tuple[str, ...], suffix: str) -> Callable[[Path], Path]:
    """Return a maker of two concatenated files of the same codec, as by `cat`."""

    def made(path: Path) -> Path:
        parts = [
            make(path.with_name(f"{path.stem}.{number}.{suffix}"), *_source(), *options)
            for number, options in enumerate((first, second))
        ]
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        return path

    return made


def _tracks(expressions: tuple[str, ...], *options: str) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        inputs = [item for expression in expressions for item in _source(expression)]
        maps = [item for number in range(len(expressions)) for item in ("-map", f"{number}:a")]
        return make(path, *inputs, *maps, *options)

    return made


def _cut_fragments(path: Path) -> Path:
    """Make a fragmented MP4 that begins in the middle of a stream, at 2 s."""
    whole = path.with_name("whole.mp4")
    flags = ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-c:a", "aac")
    picture = tuple(item.format(2 + SECONDS) for item in _PICTURE)
    make(whole, *picture, *_source(TONE.replace("(t,", "(t-2,"), 2 + SECONDS), *_H264, "-bf", "0", *flags)
    boxes = _boxes(whole.read_bytes())
    fragments = [number for number, box in enumerate(boxes) if box[4:8] == b"moof"]
    path.write_bytes(b"".join(boxes[: fragments[0]] + boxes[fragments[2] :]))
    return path


def _boxes(data: bytes) -> list[bytes]:
    boxes = []
    while data:
        size = int.from_bytes(data[:4], "big")
        boxes.append(data[:size])
        data = data[size:]
    return boxes


def _nine(path: Path) -> Path:
    """Make nine channels without a layout, with a voice on the eighth."""
    voice = recordings.make(path.with_name("voice.raw"), *_source(), "-ar", "16000", "-f", "s16le")
    samples = np.zeros((len(np.fromfile(voice, "<i2")), 9), "<i2")
    samples[:, 7] = np.fromfile(voice, "<i2")
    raw = path.with_name("nine.raw")
    samples.tofile(raw)
    return make(path, "-f", "s16le", "-ar", "16000", "-ac", "9", "-i", str(raw), "-c:a", "pcm_s16le")


def _paused(gap_s: float) -> Callable[[Path], Path]:
    """Return a maker of a paused recording whose timestamps include the pause."""

    def made(path: Path) -> Path:
        jump = f"asetpts='PTS+gt(T,1)*{gap_s}/TB'"
        return make(path, *_source(), "-af", jump, "-c:a", "flac")

    return made


_LATE = tuple(at + 1.5 for at in BURSTS)
_TWICE = (*BURSTS, *(at + SECONDS for at in BURSTS))
_JOINED = {"length": 2 * SECONDS, "onsets": _TWICE, "exact": False, "tolerance_s": 0.1}
_MP3 = ("-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0")
_INVERTED = ("-af", "pan=stereo|c0=c0|c1=-1*c0")

ODD: dict[str, OddFile] = {
    # common containers and codecs
    "wav 16 bits": OddFile("wav", _plain(), browser_plays=True),
    "wav 24 bits": OddFile("wav", _plain("-c:a", "pcm_s24le"), browser_plays=True),
    "wav float": OddFile("wav", _plain("-c:a", "pcm_f32le"), browser_plays=True),
    "wav telephone": OddFile("wav", _plain("-c:a", "pcm_mulaw", rate=8_000), browser_plays=True),
    "flac": OddFile("flac", _plain(), browser_plays=True),
    "mp3 constant rate": OddFile("mp3", _plain("-b:a", "64k"), browser_plays=True, exact=False),
    "mp3 variable rate": OddFile("mp3", _plain("-q:a", "5"), browser_plays=True, exact=False),
    "mp3 without index": OddFile("mp3", _plain("-q:a", "5", "-write_xing", "0"), exact=False, tolerance_s=0.06),
    "m4a": OddFile("m4a", _plain(), browser_plays=True),
    "adts": OddFile("aac", _plain(), browser_plays=True, exact=False, tolerance_s=0.05),
    "opus": OddFile("opus", _plain(), browser_plays=True),
    "vorbis": OddFile("ogg", _plain(), browser_plays=True),
    "webm opus": OddFile("webm", _film("-c:a", "libopus", *_VP8), browser_plays=True),
    "mp4": OddFile("mp4", _film(*_H264), browser_plays=True),
    "mp4 fragmented": OddFile("mp4", _film(*_H264, "-movflags", "frag_keyframe+empty_moov"), browser_plays=True),
    "mov pcm": OddFile("mov", _film(*_H264, "-c:a", "pcm_s16le")),
    "ac3": OddFile("ac3", _plain(), exact=False, tolerance_s=0.05),
    "mkv ac3": OddFile("mkv", _film(*_H264, "-c:a", "ac3")),
    "wma": OddFile("wma", _plain(), exact=False, tolerance_s=0.08),
    "avi mp3": OddFile("avi", _film("-c:a", "libmp3lame"), exact=False, tolerance_s=0.06),
    "flv": OddFile("flv", _film("-c:a", "aac", "-c:v", "flv"), exact=False, tolerance_s=0.06),
    "mpeg ts": OddFile("ts", _film("-c:v", "mpeg2video", "-c:a", "mp2"), exact=False, start=1.4, tolerance_s=0.06),
    "mxf": OddFile("mxf", _film("-c:v", "mpeg2video", "-r", "25", "-c:a", "pcm_s16le"), exact=False),
    # timestamps
    "mp4 late sound": OddFile(
        "mp4", _film(*_H264, before=("-itsoffset", "1.5"), seconds=5), _LATE, 4.5, browser_plays=True, tolerance_s=0.05
    ),
    "webm late sound": OddFile(
        "webm",
        _film(*_VP8, "-c:a", "libopus", before=("-itsoffset", "45"), seconds=48),
        tuple(at + 45 for at in BURSTS),
        48.0,
        browser_plays=True,
    ),
    "webm clock at 10": OddFile(
        "webm", _film(*_VP8, "-c:a", "libopus", "-output_ts_offset", "10"), browser_plays=True, start=10.0
    ),
    "mkv clock at 3600": OddFile("mkv", _film(*_H264, "-output_ts_offset", "3600"), start=3600.0, tolerance_s=0.05),
    "mp4 cut out of a stream": OddFile("mp4", _cut_fragments, browser_plays=True, start=2.0, tolerance_s=0.25),
    "mka paused": OddFile("mka", _paused(20.0), (0.4, 21.3, 22.4), 23.0, exact=False),
    # parameters that change in the file
    "mp3 mono then stereo": OddFile(
        "mp3", _joined(("-ac", "1", *_MP3), ("-ac", "2", *_MP3), "mp3"), browser_plays=True, **_JOINED
    ),
    "mp3 rate changes": OddFile("mp3", _joined(("-ar", "44100", *_MP3), ("-ar", "32000", *_MP3), "mp3"), **_JOINED),
    "adts mono then stereo": OddFile("aac", _joined(("-ac", "1"), ("-ac", "2"), "aac"), **_JOINED),
    "adts rate changes": OddFile("aac", _joined(("-ar", "44100"), ("-ar", "24000"), "aac"), **_JOINED),
    "ts layout changes": OddFile(
        "ts", _joined(("-ac", "1", "-c:a", "mp2"), ("-ac", "2", "-c:a", "mp2"), "ts"), start=1.4, **_JOINED
    ),
    # channels
    "stereo inverted": OddFile("wav", _plain(*_INVERTED), browser_plays=True, cancels=True),
    "stereo inverted mp3": OddFile("mp3", _plain(*_INVERTED), browser_plays=True, exact=False, cancels=True),
    "recorder voice on 4 of 6": OddFile("wav", _plain("-af", "pan=6c|c3=c0")),
    "nine channels": OddFile("wav", _nine),
    "surround centre": OddFile("mka", _plain("-af", "pan=5.1|c2=c0", "-c:a", "ac3")),
    # tracks
    "empty first track": OddFile("mkv", _tracks(("0", TONE), "-c:a", "flac"), exact=False, tracks=(2,)),
    "empty second track": OddFile("mp4", _tracks((TONE, "0"), "-c:a", "aac"), browser_plays=True),
    # loudness
    "quiet 48 dB": OddFile("wav", _plain("-af", "volume=-48dB"), browser_plays=True, quiet=True),
    "quiet 60 dB": OddFile("m4a", _plain("-af", "volume=-60dB"), browser_plays=True, quiet=True),
}
