"""Recordings made on demand with the ffmpeg of the imageio-ffmpeg wheel, which has every encoder needed."""

import subprocess
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import imageio_ffmpeg

# A voice-like signal: harmonics of 140 Hz, four syllables a second, a pause of half a second every two seconds.
SPEECH_LIKE = (
    "0.25*(sin(2*PI*140*t)+0.7*sin(2*PI*280*t)+0.5*sin(2*PI*560*t)+0.3*sin(2*PI*1120*t))"
    "*pow(sin(PI*4*t),2)*lt(mod(t,2),1.5)"
)
_CHORD = "0.2*(sin(2*PI*220*t)+sin(2*PI*277.18*t)+sin(2*PI*329.63*t))*(0.6+0.4*sin(2*PI*2*t))"


@cache
def wheel_ffmpeg() -> str:
    """Return the path of the ffmpeg in the wheel."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def make(path: Path, *arguments: str) -> Path:
    """Run ffmpeg with `arguments` and `path` as its output; synthesised content is made once per process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = arguments.count("-i")
    if "%" not in path.name and inputs == arguments.count("lavfi") > 0:
        path.write_bytes(_synthesised(path.suffix, arguments))
    else:
        _run(path, arguments)
    return path


@lru_cache(maxsize=200)
def _synthesised(suffix: str, arguments: tuple[str, ...]) -> bytes:
    """Return the content of a recording that depends only on its arguments."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        _run(path, arguments)
        return path.read_bytes()


def _run(path: Path, arguments: Sequence[str]) -> None:
    command = [wheel_ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments, f"file:{path.absolute()}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def sound(path: Path, expression: str, seconds: float, *options: str, rate: int = 44_100, layout: str = "") -> Path:
    """Audio from expressions of `t` (one per channel, separated by `|`); the suffix selects the codec."""
    layout = f":c={layout}" if layout else ""
    source = f"aevalsrc='{expression}':s={rate}:d={seconds}{layout}"
    return make(path, "-f", "lavfi", "-i", source, *options)


def tone(path: Path, seconds: float = 2.0, *, rate: int = 44_100, frequency: float = 440.0) -> Path:
    """A sine at half of full scale."""
    return sound(path, f"0.5*sin(2*PI*{frequency}*t)", seconds, rate=rate)


def silence(path: Path, seconds: float = 2.0) -> Path:
    """Digital silence."""
    return sound(path, "0", seconds)


def noise(path: Path, seconds: float = 2.0) -> Path:
    """White noise, identical at each call."""
    return make(path, "-f", "lavfi", "-i", f"anoisesrc=d={seconds}:seed=7:a=0.3")


def music(path: Path, seconds: float = 2.0) -> Path:
    """A chord with a beat, in stereo."""
    return sound(path, f"{_CHORD}|{_CHORD}", seconds)


def speech_like(path: Path, seconds: float = 4.0, *options: str, rate: int = 44_100) -> Path:
    """Mono, the rhythm and spectrum of a voice; no recogniser hears words in it."""
    return sound(path, SPEECH_LIKE, seconds, *options, rate=rate)


def surround_with_centre_only(path: Path, seconds: float = 3.0) -> Path:
    """5.1 audio as in films: the voice in the centre channel, silence in the other five."""
    return sound(path, f"0|0|{SPEECH_LIKE}|0|0|0", seconds, layout="5.1")


def video(path: Path, seconds: float = 4.0, *options: str, size: str = "320x240") -> Path:
    """A moving test picture with a voice-like sound; `options` go to the output (`-movflags +faststart`)."""
    picture = f"testsrc=s={size}:r=25:d={seconds}"
    voice = f"aevalsrc='{SPEECH_LIKE}':s=44100:d={seconds}"
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-g", "25")
    return make(path, "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", voice, *codecs, *options)


def video_without_audio(path: Path, seconds: float = 2.0) -> Path:
    """A video without an audio track."""
    picture = ("-f", "lavfi", "-i", f"testsrc=s=320x240:r=25:d={seconds}")
    return make(path, *picture, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def mp3_with_cover(path: Path, seconds: float = 2.0) -> Path:
    """An mp3 with an embedded 200 x 200 cover and a title."""
    audio = ("-f", "lavfi", "-i", f"aevalsrc='{_CHORD}':s=44100:d={seconds}")
    cover = ("-f", "lavfi", "-i", "color=c=red:s=200x200:d=1:r=1")
    tags = ("-metadata", "title=Der große Abend: Teil 1", "-metadata", "date=2024")
    return make(
        path, *audio, *cover, "-map", "0:a", "-map", "1:v", "-disposition:v", "attached_pic", "-c:v", "png", *tags
    )


def cut(source: Path, target: Path, share: float) -> Path:
    """The first `share` of the bytes of `source`, as an interrupted copy leaves them."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def damage(source: Path, target: Path, *, at: float, share: float) -> Path:
    """A copy in which a `share` of the bytes, starting at the fraction `at`, is overwritten with a fixed pattern."""
    data = bytearray(source.read_bytes())
    start, length = int(len(data) * at), int(len(data) * share)
    data[start : start + length] = bytes((index * 97 + 31) % 256 for index in range(length))
    target.write_bytes(data)
    return target
