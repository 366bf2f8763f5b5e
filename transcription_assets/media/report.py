"""What ffmpeg's own words mean: the header of a recording, and whose fault a failure is.

They are its only report (the wheel imageio-ffmpeg ships no ffprobe). All pure: printed text in, values out.
"""

import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from transcription_assets.failures import NotFound, PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.media.process import MEMORY_BYTES, Ending
from transcription_assets.media.source import is_remote

_LEVEL = re.compile(r"^(?:\[[^\]\n]* @ 0x[0-9a-f]+\] ?)*\[(panic|fatal|error|warning|info|verbose)\] ?")
_URL = re.compile(rb"https?://\S*")
_PLACE = re.compile(r"^(?:https?://\S* |the file: |Error opening input: )")
_INPUT = re.compile(r"^\[info\] Input #0, (?P<format>.*?), from '", re.MULTILINE)
_AFTER_INPUT = re.compile(r"^\[info\] (?:Stream mapping:|Output #0)|^.*matches no streams", re.MULTILINE)
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_BYTES_READ = re.compile(r"Statistics: (\d+) bytes read")
_TAG = re.compile(r"^\[info\] {5}(title|creation_time|date) *: (.*)$", re.MULTILINE)
_STREAM = re.compile(r"^\[info\] +Stream #0:\d+\S*: (Audio|Video): (.*)$", re.MULTILINE)
_SIZE = re.compile(r", ([1-9]\d*)x([1-9]\d*)(?=[ ,\[]|$)")
_RATE = re.compile(r"(\d+) Hz(?:, ([^,]+))?")
_LINK_EXPIRED = re.compile(r"HTTP error 40[013]")
_HTTP_STATUS = re.compile(r"HTTP error (\d{3})")
_STORE_AWAY = re.compile(
    r"HTTP error (?:5\d\d|429|408)|Server returned 5XX|Connection (?:reset|refused|timed out|to \S+ failed)"
    r"|Operation timed out|Input/output error|I/O error|Stream ends prematurely|Unexpected offset"
    r"|Failed to resolve hostname|Broken pipe"
    r"|(?:Network|Host) is unreachable|No route to host",
    re.IGNORECASE,
)
# What ffmpeg says when it gives up reading; of what it got over it complains in other words.
_BROKEN_OFF = re.compile(
    r"(?:Error during demuxing: )?(?:Connection (?:reset|refused|timed out)|Operation timed out|Input/output error"
    r"|I/O error|Broken pipe|(?:Network|Host) is unreachable)"
)
_UNTRUSTED = re.compile(r"certificate verify failed|Peer certificate failed")
_DISK_AWAY = re.compile(r"Stale file handle|Transport endpoint is not connected|Remote I/O error|No space left")
_UNFIT = re.compile(r"Option \S+ not found|Unrecognized option|[Pp]rotocol not found")
_NOISE = re.compile(
    r"^(?:Error opening (?:input|output) file|Error while decoding stream|Error submitting packet"
    r"|Failed to compensate for timestamp delta|Conversion failed"
    r"|Picture size \d+x\d+ exceeds|Codec \(\w+\) not on whitelist)"  # of a picture that is not decoded, on purpose
)
# Containers whose timestamps or fixed frame sizes take a browser to the exact second. In the others (MP3, ADTS, MPEG
# streams) it estimates positions from the bit rate.
_TIMESTAMPED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "wav", "flac", "ogg"})
_START = re.compile(r"^\[info\] {3}Duration: [^,\n]*, start: (-?\d+\.\d+)", re.MULTILINE)
_SANITISED = bytes(63 if code < ord("\b") or ord("\r") < code < ord(" ") else code for code in range(256))
_FOREIGN = re.compile(r"(?:Format|Protocol \S+) not on whitelist")
_UNKNOWN_CODEC = re.compile(r"(?:Codec \((?=\w+\) not on whitelist)|no decoder found for: )(\w+)")
_OUT_OF_MEMORY = re.compile(r"Cannot allocate memory|Error code: -12\b")
_INTERRUPTED = 255  # ffmpeg's exit code after SIGTERM or SIGINT


@dataclass(frozen=True, slots=True)
class Probe:
    """What the header of a recording says; `duration` in seconds, None where the container does not state it.

    `channels` is ffmpeg's name of the layout (`mono`, `stereo`, `5.1`); `width` and `height` are in pixels.
    `has_picture` is true for a video track and for an embedded cover; the video fields tell of a track only.
    `title` and `created` are the container's tags as they stand there, empty where there are none.
    `bytes_read` is what it cost to find all this out. `start` is the earliest timestamp in the container (seconds).
    """

    duration: float | None
    format: str
    audio_codec: str
    sample_rate: int
    channels: str
    video_codec: str | None
    width: int | None
    height: int | None
    has_picture: bool
    audio_tracks: int = 1
    title: str = ""
    created: str = ""
    bytes_read: int = field(default=0, compare=False)
    start: float = 0.0

    @property
    def seeks_exactly(self) -> bool:
        """Return whether players find a second by timestamps and not by guessing from the size of the file."""
        return self.format in _TIMESTAMPED


def text(printed: bytes, where: str) -> str:
    """What was printed, without the address (a name may hold line breaks) and without the secrets of URLs."""
    if not is_remote(where):
        printed = printed.replace(os.fsencode(where).translate(_SANITISED), b"the file")
    return _URL.sub(lambda match: _without_secrets(match[0]), printed).decode(errors="replace")


def shown(where: str) -> str:
    """The address as a message may show it."""
    if is_remote(where):
        return _without_secrets(where.encode()).decode(errors="replace")
    return os.fsencode(where).decode(errors="replace").removeprefix("file:")


def _without_secrets(url: bytes) -> bytes:
    """A URL without its query and its user: they are what a presigned URL must not tell."""
    scheme, _, rest = url.partition(b"?")[0].partition(b"://")
    host, slash, path = rest.partition(b"/")
    return scheme + b"://" + host.rpartition(b"@")[2] + slash + path


def header(said: str) -> Probe | None:
    """The facts about the input; None where ffmpeg could not open it. Without audio, `audio_tracks` is 0."""
    opened = _INPUT.search(said)
    if not opened:
        return None
    end = _AFTER_INPUT.search(said, opened.start())
    about = said[opened.start() : end.start() if end else None]
    streams: list[tuple[str, str]] = _STREAM.findall(about)
    audio = [facts for kind, facts in streams if kind == "Audio"]
    pictures = [facts for kind, facts in streams if kind == "Video"]
    video = [facts for facts in pictures if "(attached pic)" not in facts]
    rate = _RATE.search(audio[0]) if audio else None
    size = _SIZE.search(video[0]) if video else None
    tags = {tag: value.strip() for tag, value in _TAG.findall(about.partition("Duration: ")[0])}
    return Probe(
        duration=_duration(about),
        format=opened["format"],
        audio_codec=_codec(audio[0]) if audio else "",
        sample_rate=int(rate[1]) if rate else 0,
        channels=(rate[2] or "").strip() if rate else "",
        video_codec=_codec(video[0]) if video else None,
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        has_picture=bool(pictures),
        audio_tracks=len(audio),
        title=tags.get("title", ""),
        created=tags.get("creation_time") or tags.get("date", ""),
        bytes_read=bytes_read(said),
        start=float(start[1]) if (start := _START.search(about)) else 0.0,
    )


def bytes_read(said: str) -> int:
    """How much ffmpeg took in, by its own account; from a store a little more may have been under way."""
    return sum(map(int, _BYTES_READ.findall(said)))


def _duration(about: str) -> float | None:
    match = _DURATION.search(about)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None


def _codec(facts: str) -> str:
    return re.split(r"[ ,]", facts, maxsplit=1)[0]


def complaints(said: str) -> list[str]:
    """What ffmpeg complained about (errors and worse), each once, without places and generalities."""
    found: dict[str, None] = {}
    for line in said.splitlines():
        match = _LEVEL.match(line)
        if match and match[1] in ("error", "fatal", "panic"):
            message = _PLACE.sub("", line[match.end() :]).strip()
            if message and not _NOISE.match(message):
                found[message] = None
    return list(found)


def quoted(said: str) -> str:
    """The first complaints, as a message quotes them."""
    all_of_them = complaints(said)
    more = f"; and {len(all_of_them) - 3} more complaints" if len(all_of_them) > 3 else ""  # noqa: PLR2004
    return "; ".join(all_of_them[:3]) + more


def ended(ending: Ending) -> bool:
    """Whether ffmpeg came to an end of its own, well or not: neither killed nor crashed."""
    return ending.code is not None and 0 <= ending.code < _INTERRUPTED


def disk_away(said: str) -> bool:
    """Whether a disk was full or not there."""
    return _DISK_AWAY.search(said) is not None


def store_away(said: str) -> bool:
    """Whether the store failed, the connection broke or the signed link expired, at least for a moment."""
    return _STORE_AWAY.search(said) is not None or _LINK_EXPIRED.search(said) is not None


def broken_off(said: str) -> bool:
    """Whether reading ended with an error and not with the end of the recording."""
    return any(_BROKEN_OFF.match(complaint) for complaint in complaints(said))


def is_garbled(said: str) -> bool:
    """Whether the source answered, but with nothing that can be opened."""
    return "Invalid data found" in said and not _HTTP_STATUS.search(said) and not _FOREIGN.search(said)


def failure(ending: Ending, what: str, *, name: str, where: str, limit_s: float) -> TranscriptionError:
    """Return the exception for a call that cannot be used: what went wrong, whose fault it is, and what to do."""
    said = text(ending.printed, where)
    if not ended(ending):
        return _killed(ending.code, quoted(said), name=name, remote=is_remote(where), limit_s=limit_s)
    if refusal := _refusal(said):
        return PermanentFailure(f"{name}: {what}: {refusal}")
    why = f"{what}: {quoted(said) or f'ffmpeg ended with code {ending.code} and no word'}"
    if is_remote(where):
        return _remote(said, why, name)
    return _local(said, why, name, Path(where.removeprefix("file:")))


def _refusal(said: str) -> str:
    """Return why this ffmpeg, with our limits, never decodes such a file, and what to do; empty if it may."""
    if _UNFIT.search(said):
        return f"ffmpeg is older than 4.4 or knows no https ({quoted(said)}). Install another"
    if _FOREIGN.search(said):
        return "it is a playlist, a picture or text, not a recording"
    if _OUT_OF_MEMORY.search(said):
        return f"it needs more than {MEMORY_BYTES >> 30} GiB of memory to decode. Convert the file"
    if codec := _UNKNOWN_CODEC.search(said):
        return f"codec {codec[1]} is not decoded here. Convert the file"
    return ""


def _killed(code: int | None, quote: str, *, name: str, remote: bool, limit_s: float) -> TranscriptionError:
    said = f" ({quote})" if quote else ""
    if code is None:
        late = f"{name}: stopped after its time limit of {limit_s:.0f} s"
        if remote:
            return TransientFailure(f"{late}: the store is too slow, or the decoder hangs on this file{said}")
        return PermanentFailure(f"{late}: the decoder hangs on it. Convert the file, or raise the limit{said}")
    number = signal.SIGTERM if code == _INTERRUPTED else -code
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        return TransientFailure(f"{name}: decoding was killed from outside: out of memory, or a shutdown{said}")
    return PermanentFailure(f"{name}: the decoder crashed on it ({_signal(number)}). Convert the file{said}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _local(said: str, why: str, name: str, path: Path) -> TranscriptionError:
    if disk_away(said):
        return TransientFailure(f"{name}: {why}. Free some space or mount the store again, then retry")
    if "No such file or directory" in said and not path.exists():
        return NotFound(f"{name}: it is not there (any more)")
    if "Permission denied" in said:
        return PermanentFailure(f"{name}: permission denied. Give the user of this process the right to read it")
    with suppress(OSError):
        if not path.stat().st_size:
            return PermanentFailure(f"{name}: the file is empty (0 bytes). Copy it again ({why})")
    return PermanentFailure(f"{name}: {why}. The file is broken or incomplete: copy it again")


def _remote(said: str, why: str, name: str) -> TranscriptionError:
    if _UNTRUSTED.search(said):
        return PermanentFailure(f"{name}: {why}. Let SSL_CERT_FILE name the certificates of the store's authority")
    if _STORE_AWAY.search(said):
        return TransientFailure(f"{name}: the store failed while it was read: {why}")
    statuses = _HTTP_STATUS.findall(said)
    if "404" in statuses:
        return NotFound(f"{name}: it is not in the store (any more)")
    if "416" in statuses and not _INPUT.search(said):
        return PermanentFailure(f"{name}: the object is empty (0 bytes). Upload it again")
    if "401" in statuses or "403" in statuses:
        return _refused(said, why, name)
    return PermanentFailure(f"{name}: {why}. The object is broken or incomplete: upload it again")


def _refused(said: str, why: str, name: str) -> TranscriptionError:
    if _INPUT.search(said):
        return TransientFailure(f"{name}: the signed link expired while it was read: {why}")
    return PermanentFailure(f"{name}: the store refuses to have it read: {why}. Check credentials and policies")
