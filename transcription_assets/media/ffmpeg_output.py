"""Interpretation of ffmpeg's output: the header of a recording, and the cause of a failure.

The printed text is the only source, as the wheel imageio-ffmpeg ships no ffprobe. Nothing here runs ffmpeg.
"""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from transcription_assets.errors import NotFound, PermanentFailure, Refused, TranscriptionError, TransientFailure
from transcription_assets.media.ffmpeg_process import MEMORY_BYTES, ProcessResult, is_remote

_LEVEL = re.compile(r"^(?:\[[^\]\n]* @ 0x[0-9a-f]+\] ?)*\[(panic|fatal|error|warning|info|verbose)\] ?")
_URL = re.compile(rb"https?://\S*")
_ADDRESS = re.compile(r"^(?:https?://\S* |the file: |Error opening input: )")
_INPUT = re.compile(r"^\[info\] Input #0, (?P<format>.*?), from '", re.MULTILINE)
_AFTER_INPUT = re.compile(r"^\[info\] (?:Stream mapping:|Output #0)|^.*matches no streams", re.MULTILINE)
# ffmpeg indents its own facts by two spaces (four in a group of streams), tags by four or, after the duration, six.
_DURATION = re.compile(
    r"^\[info\] {3}Duration: (?:(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?)|N/A)"
    r"(?:, start: (?P<start>-?\d+\.\d+))?",
    re.MULTILINE,
)
_BYTES_READ = re.compile(r"^\[[^\]\n]* @ 0x[0-9a-f]+\] \[verbose\] Statistics: (\d+) bytes read", re.MULTILINE)
_TAG = re.compile(r"^\[info\] {5}(title|creation_time|date) *: (.*)$", re.MULTILINE)
_STREAM = re.compile(
    r"^\[info\] {3}(?:  )?Stream #0:\d+(?:\[0x[0-9a-f]+\])?(?:\((\w*)\))?: (Audio|Video): (.*)$", re.MULTILINE
)
_SIZE = re.compile(r", ([1-9]\d*)x([1-9]\d*)(?=[ ,\[]|$)")
_RATE = re.compile(r"(\d+) Hz(?:, ([^,]+))?")
# Only lines at level warning or worse are searched, and only at positions of ffmpeg's own text: an error of the system
# is at the end of a line; data of the file (tags, names of codecs and fonts) may be quoted within one.
_LINK_EXPIRED = re.compile(r"^HTTP error 40[013]", re.MULTILINE)
_HTTP_STATUS = re.compile(r"^HTTP error (\d{3})", re.MULTILINE)
_STORE_UNAVAILABLE = re.compile(
    r"^HTTP error (?:5\d\d|429|408)|Server returned 5XX[\w ]*$|^Connection (?:to|attempt to) \S+ (?:port \d+ )?failed"
    r"|^Stream ends prematurely|^Unexpected offset|^Failed to resolve hostname"
    r"|(?:^|: |=)(?:Connection (?:reset|refused|timed out)(?: by peer)?|Operation timed out|Input/output error"
    r"|I/O error|Broken pipe|(?:Network|Host) is unreachable|No route to host)\.?$",
    re.IGNORECASE | re.MULTILINE,
)
# Messages printed when ffmpeg gives up reading; errors from which it recovered have other messages.
_BROKEN_OFF = re.compile(
    r"(?:Error during demuxing: )?(?:Connection (?:reset|refused|timed out)|Operation timed out|Input/output error"
    r"|I/O error|Broken pipe|(?:Network|Host) is unreachable)"
)
# Messages for a Matroska file that ends within an element, and for an MP4 that ends within a packet.
_ENDS_EARLY = re.compile(r"File ended prematurely|stream \d+, offset 0x[0-9a-f]+: partial file")
_UNTRUSTED_CERTIFICATE = re.compile(r"certificate verify failed|Peer certificate failed")
_DISK_UNAVAILABLE = re.compile(
    r"(?:^|: )(?:Stale file handle|Transport endpoint is not connected|Remote I/O error|No space left on device)\.?$",
    re.MULTILINE,
)
_MISSING = re.compile(r"(?:^|: )No such file or directory\.?$", re.MULTILINE)
_DENIED = re.compile(r"(?:^|: )Permission denied\.?$", re.MULTILINE)
_GARBLED = re.compile(r"(?:^|: )Invalid data found when processing input\.?$", re.MULTILINE)
_UNSUPPORTED_OPTION = re.compile(
    r"^Option \S+ not found|^Unrecognized option|(?:^|: )Protocol not found\.?$", re.MULTILINE
)
_NOISE = re.compile(
    r"^(?:Error opening (?:input|output) file|Error while decoding stream|Error submitting packet"
    r"|Failed to compensate for timestamp delta|Conversion failed"
    r"|Picture size \d+x\d+ exceeds|Codec \(\w+\) not on whitelist)"  # of a picture, which is deliberately not decoded
)
# Containers whose timestamps or fixed frame sizes let a browser seek exactly. In the others (MP3, ADTS, MPEG streams)
# it estimates positions from the bit rate.
_MOV, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
_BARE = frozenset({"aac", "loas", "mp3", "ac3", "eac3", "dts", "amr", "amrnb", "amrwb"})
_ESTIMATED = "Estimating duration from bitrate"
_TIMESTAMPED = frozenset({_MOV, _MATROSKA, "wav", "flac", "ogg"})
_SANITISED = bytes(63 if code < ord("\b") or ord("\r") < code < ord(" ") else code for code in range(256))
_UNSUPPORTED_INPUT = re.compile(r"^(?:Format|Protocol \S+) not on whitelist", re.MULTILINE)
_UNKNOWN_CODEC = re.compile(r"(?:Codec \((?=\w+\) not on whitelist)|no decoder found for: )(\w+)")
_OUT_OF_MEMORY = re.compile(r"Cannot allocate memory|Error code: -12\b")
_INTERRUPTED = 255  # exit status of ffmpeg after SIGTERM or SIGINT, and if a file made it fail with code -1
_RECEIVED = re.compile(r"Exiting normally, received signal \d+")


LONGEST_STATED_S = 30 * 86_400.0
"""Longest credible duration: a container that states a longer one is damaged, and counts as stating none."""


@dataclass(frozen=True, slots=True)
class Track:
    """One audio track: its number among them, from 0; `layout` as ffmpeg names it, `language` empty if not stated.

    `timed` is False for raw frames without a container, whose timestamps are counted by ffmpeg.
    """

    number: int
    codec: str = ""
    layout: str = ""
    language: str = ""
    timed: bool = True

    @property
    def declared_layout(self) -> str:
        """Layout, empty for PCM, where it is a guess: recorders write PCM channels in any order."""
        return "" if self.codec.startswith("pcm_") else self.layout


@dataclass(frozen=True, slots=True)
class Probe:
    """Header of a recording; `duration` is in seconds, None if the container does not state it.

    `channels` is ffmpeg's name of the layout (`mono`, `stereo`, `5.1`); `width` and `height` are in pixels.
    `has_picture` is True for a video track and for an embedded cover; the other video fields describe a track only.
    `title` and `created` are the unparsed tags of the container, empty if there are none. `bytes_read` is the number of
    bytes that probing read. `start` is the earliest timestamp in the container (seconds).
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
    tracks: tuple[Track, ...] = ()
    is_estimate: bool = False
    """True if ffmpeg estimated `duration` from the file size and the bit rate."""

    @property
    def promised_s(self) -> float | None:
        """Stated playing time in seconds, None if there is none or it is an estimate.

        Some containers state their last timestamp instead, and their first one may be above 0.
        """
        if self.duration is None or self.is_estimate:
            return None
        if self.format not in {_MOV, _MATROSKA}:
            return self.duration
        return max(self.duration - max(self.start, 0.0), 0.0)

    @property
    def seeks_exactly(self) -> bool:
        """True if players seek by timestamps, False if they estimate positions from the file size."""
        return self.format in _TIMESTAMPED


def text(printed: bytes, url: str) -> str:
    """Return the printed text without the address (a name may contain line breaks) and without secrets of URLs."""
    if not is_remote(url):
        printed = printed.replace(os.fsencode(url).translate(_SANITISED), b"the file")
    return _URL.sub(lambda match: _without_secrets(match[0]), printed).decode(errors="replace")


def display_url(url: str) -> str:
    """Return the address in the form for messages, without secrets."""
    if is_remote(url):
        return _without_secrets(url.encode()).decode(errors="replace")
    return os.fsencode(url).decode(errors="replace").removeprefix("file:")


def _without_secrets(url: bytes) -> bytes:
    """Return a URL without its query and user info, which are the secrets of a presigned URL."""
    scheme, _, rest = url.partition(b"?")[0].partition(b"://")
    host, slash, path = rest.partition(b"/")
    return scheme + b"://" + host.rpartition(b"@")[2] + slash + path


def header(output: str) -> Probe | None:
    """Return the facts about the input, None if ffmpeg could not open it. Without audio, `audio_tracks` is 0."""
    opened = _INPUT.search(output)
    if not opened:
        return None
    end = _AFTER_INPUT.search(output, opened.start())
    section = output[opened.start() : end.start() if end else None]
    stated = _DURATION.search(section)
    tags = {tag: value.strip() for tag, value in _TAG.findall(section[: stated.start()] if stated else section)}
    streams: list[tuple[str, str, str]] = _STREAM.findall(section[stated.end() :] if stated else section)
    audio = [(language, facts) for language, kind, facts in streams if kind == "Audio"]
    pictures = [facts for _, kind, facts in streams if kind == "Video"]
    video = [facts for facts in pictures if "(attached pic)" not in facts]
    tracks = tuple(_track(number, *item, timed=opened["format"] not in _BARE) for number, item in enumerate(audio))
    rate = _RATE.search(audio[0][1]) if audio else None
    size = _SIZE.search(video[0]) if video else None
    return Probe(
        duration=_duration(stated),
        format=opened["format"],
        audio_codec=tracks[0].codec if tracks else "",
        sample_rate=int(rate[1]) if rate else 0,
        channels=tracks[0].layout if tracks else "",
        video_codec=_codec(video[0]) if video else None,
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        has_picture=bool(pictures),
        audio_tracks=len(tracks),
        title=tags.get("title", ""),
        created=tags.get("creation_time") or tags.get("date", ""),
        bytes_read=bytes_read(output),
        start=float(stated["start"] or 0.0) if stated else 0.0,
        tracks=tracks,
        is_estimate=any(text.startswith(_ESTIMATED) for text in _messages(output, "warning")),
    )


def bytes_read(output: str) -> int:
    """Return the number of bytes that ffmpeg reports to have read; a store may have sent slightly more."""
    return sum(map(int, _BYTES_READ.findall(output)))


def _duration(stated: re.Match[str] | None) -> float | None:
    if stated is None or stated["hours"] is None:
        return None
    seconds = int(stated["hours"]) * 3600 + int(stated["minutes"]) * 60 + float(stated["seconds"])
    return seconds if seconds <= LONGEST_STATED_S else None


def _track(number: int, language: str, facts: str, *, timed: bool) -> Track:
    rate = _RATE.search(facts)
    layout = (rate[2] or "").strip() if rate else ""
    return Track(number, _codec(facts), layout, "" if language == "und" else language, timed)


def _codec(facts: str) -> str:
    return re.split(r"[ ,]", facts, maxsplit=1)[0]


def _messages(output: str, *levels: str) -> Iterator[str]:
    """Yield ffmpeg's messages at these levels, without addresses; lines of a multi-line tag are not messages."""
    for line in output.split("\n"):
        match = _LEVEL.match(line)
        if match and match[1] in levels:
            yield _ADDRESS.sub("", line[match.end() :]).strip()


def _problems(output: str) -> str:
    """Return ffmpeg's warnings and errors, from which causes are derived."""
    return "\n".join(_messages(output, "warning", "error", "fatal", "panic"))


def error_messages(output: str) -> list[str]:
    """Return the distinct messages at level error or worse, without addresses and without generic messages."""
    messages = _messages(output, "error", "fatal", "panic")
    return list(dict.fromkeys(message for message in messages if message and not _NOISE.match(message)))


def quoted(output: str) -> str:
    """Return the first three error messages and the number of the others, for use in a message."""
    messages = error_messages(output)
    more = f"; and {len(messages) - 3} more errors" if len(messages) > 3 else ""  # noqa: PLR2004
    return "; ".join(messages[:3]) + more


def exited(result: ProcessResult) -> bool:
    """Return whether ffmpeg exited by itself, with any status: it was not killed and did not crash."""
    return result.code is not None and result.code >= 0 and not _is_interrupted(result)


def _is_interrupted(result: ProcessResult) -> bool:
    if result.code != _INTERRUPTED:
        return False
    output = result.printed.decode(errors="replace")
    return any(_RECEIVED.match(message) for message in _messages(output, "info"))


def is_disk_unavailable(output: str) -> bool:
    """Return whether a disk was full or not available."""
    return _DISK_UNAVAILABLE.search(_problems(output)) is not None


def is_store_unavailable(output: str) -> bool:
    """Return whether the store failed, the connection broke or the signed link expired, even temporarily."""
    words = _problems(output)
    return _STORE_UNAVAILABLE.search(words) is not None or _LINK_EXPIRED.search(words) is not None


def is_broken_off(output: str) -> bool:
    """Return whether reading ended with an error instead of the end of the recording."""
    return any(_BROKEN_OFF.match(message) for message in error_messages(output))


def ends_early(output: str) -> bool:
    """Return whether the file ends within an element or a packet."""
    return any(_ENDS_EARLY.match(message) for message in error_messages(output))


def is_garbled(output: str) -> bool:
    """Return whether the source responded, but with data that cannot be opened."""
    words = _problems(output)
    return bool(_GARBLED.search(words)) and not _HTTP_STATUS.search(words) and not _UNSUPPORTED_INPUT.search(words)


def failure(result: ProcessResult, problem: str, *, name: str, url: str, limit_s: float) -> TranscriptionError:
    """Return the exception for a failed run: what failed, why, and what to do. It is transient if a retry may help."""
    output = text(result.printed, url)
    if not exited(result):
        return _killed(result.code, quoted(output), name=name, remote=is_remote(url), limit_s=limit_s)
    if refusal := _refusal(output):
        cause, hint = refusal
        return _explained(PermanentFailure, name, f"{problem}: {cause}", hint)
    reason = f"{problem}: {quoted(output) or f'ffmpeg exited with status {result.code} without a message'}"
    if is_remote(url):
        return _remote(output, reason, name)
    return _local(output, reason, name, Path(url.removeprefix("file:")))


def _explained(kind: type[TranscriptionError], name: str, reason: str, hint: str) -> TranscriptionError:
    """Return an error whose message ends with the hint."""
    return kind(f"{name}: {reason}. {hint[:1].upper()}{hint[1:]}", hint=hint)


def _refusal(output: str) -> tuple[str, str] | None:
    """Return why this ffmpeg with our limits can never decode such a file, and what to do; None if it might."""
    words = _problems(output)
    if _UNSUPPORTED_OPTION.search(words):
        return f"ffmpeg is older than 4.4 or has no https support ({quoted(output)})", "install another ffmpeg"
    if _UNSUPPORTED_INPUT.search(words):
        return "not a recording, but a playlist, a picture or text", "remove it from the inbox"
    if _OUT_OF_MEMORY.search(words):
        return f"decoding needs more than {MEMORY_BYTES >> 30} GiB of memory", "convert the file"
    if codec := _UNKNOWN_CODEC.search(words):
        return f"unsupported codec {codec[1]}", "convert the file"
    return None


def _killed(code: int | None, quote: str, *, name: str, remote: bool, limit_s: float) -> TranscriptionError:
    output = f" ({quote})" if quote else ""
    if code is None:
        late = f"ffmpeg exceeded its time limit of {limit_s:.0f} s{output}"
        if remote:
            hint = "try again; if it repeats, the store is too slow, or the decoder hangs on this file"
            return _explained(TransientFailure, name, late, hint)
        return _explained(PermanentFailure, name, late, "convert the file, or raise TRANSCRIPTION_DECODE_FLOOR_S")
    number = signal.SIGTERM if code == _INTERRUPTED else -code
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        reason = f"ffmpeg was killed by {_signal(number)} (out of memory, or a shutdown){output}"
        return _explained(TransientFailure, name, reason, "try again")
    return _explained(PermanentFailure, name, f"ffmpeg crashed ({_signal(number)}){output}", "convert the file")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _local(output: str, reason: str, name: str, path: Path) -> TranscriptionError:
    if is_disk_unavailable(output):
        return _explained(TransientFailure, name, reason, "free some space or mount the store again, then retry")
    words = _problems(output)
    if _MISSING.search(words) and not path.exists():
        return NotFound(f"{name}: the file does not exist (any more)")
    if _DENIED.search(words):
        return _explained(PermanentFailure, name, "permission denied", "let the user of this process read the file")
    with suppress(OSError):
        if not path.stat().st_size:
            return _explained(PermanentFailure, name, f"the file is empty (0 bytes; {reason})", "copy it again")
    return _explained(PermanentFailure, name, f"{reason} (damaged or incomplete file)", "copy it again")


def _remote(output: str, reason: str, name: str) -> TranscriptionError:
    words = _problems(output)
    if _UNTRUSTED_CERTIFICATE.search(words):
        hint = "set SSL_CERT_FILE to the certificates of the store's authority"
        return _explained(PermanentFailure, name, reason, hint)
    if _STORE_UNAVAILABLE.search(words):
        return _explained(TransientFailure, name, f"the store failed during reading: {reason}", "try again")
    statuses = _HTTP_STATUS.findall(words)
    if "404" in statuses:
        return NotFound(f"{name}: the object does not exist (any more)")
    if "416" in statuses and not _INPUT.search(output):
        return _explained(PermanentFailure, name, "the object is empty (0 bytes)", "upload it again")
    if "401" in statuses or "403" in statuses:
        return _refused(output, reason, name)
    return _explained(PermanentFailure, name, f"{reason} (damaged or incomplete object)", "upload it again")


def _refused(output: str, reason: str, name: str) -> TranscriptionError:
    if _INPUT.search(output):
        return _explained(TransientFailure, name, f"the signed URL expired during reading: {reason}", "try again")
    return _explained(Refused, name, f"the store denies access: {reason}", "check credentials and policies")
