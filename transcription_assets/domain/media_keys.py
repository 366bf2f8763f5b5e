"""Media keys, which identify recordings, and the paths of their artefacts.

A *media key* is the object's name relative to the store root (`video/talks/a.mp4`), encoded so that it is a Dagster
partition key, a legal path in every store, and readable. Only characters that are not allowed in one of these are
percent-encoded, and `decode` restores the exact name.
"""

import re
from hashlib import sha256

# fmt: off
VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v",
        ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".rm",
        ".rmvb", ".ts", ".vob", ".webm", ".wmv",
    }
)
AUDIO_SUFFIXES = frozenset(
    {
        ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".awb", ".caf", ".dss",
        ".dts", ".eac3", ".flac", ".m4a", ".m4b", ".mka", ".mp2", ".mp3", ".mpga", ".oga", ".ogg",
        ".opus", ".ra", ".spx", ".w64", ".wav", ".weba", ".wma", ".wv",
    }
)
# fmt: on
SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES

INBOXES = ("video/", "audio/")
DONE = "DONE_"
"""Prefix of an inbox's name: where recordings go after the last step if that is enabled. Their keys do not change."""

_BREAKS = re.compile(
    r"""
      [%,"'*\\\[\]{}<>]                 # Dagster's range syntax, shells, markup, and the escape character
    | [\x00-\x1f\x7f-\x9f\u2028\u2029]  # control characters and line separators: rejected or invisible
    | [\udc80-\udcff]                   # bytes that are not UTF-8, as os.fsdecode returns them
    | \.{3,}                            # Dagster's range operator
    | (?<![^/])[\s.\ufeff/]             # at the start of a segment: trimmed by UIs; `.`, `..`, empty segments
    | [\s.\ufeff](?![^/])               # at the end of a segment
    | /\Z
    """,
    re.VERBOSE,
)
_LONGEST_SUFFIX = ".small.webp#1"  # longest suffix of an artefact's temporary file
_LONGEST_NAME = 255
_LONGEST_SEGMENT = _LONGEST_NAME - len(_LONGEST_SUFFIX)
_DIGEST = 16
_ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")


def encode(name: str) -> str:
    """Return the media key of an object.

    `name` is relative to the store root, separated by `/`, with bytes that are not UTF-8 as `os.fsdecode` returns
    them. The encoding is reversible, so two names never share a key.
    """
    return _BREAKS.sub(lambda match: _percent(match[0]), name)


def decode(key: str) -> str:
    """Return the object's name, the inverse of `encode`."""
    return _ESCAPES.sub(lambda match: _bytes(match[0]).decode("utf-8", "surrogateescape"), key)


def is_media(name: str) -> bool:
    """Return whether a file name has a media suffix, in upper or lower case.

    The `._a.mp4` that macOS writes beside `a.mp4` on foreign file systems is not a recording.
    """
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return bool(stem) and not stem.startswith("._") and (dot + suffix).lower() in SUFFIXES


def ignored_files(count: int) -> str:
    """Describe files that `is_media` leaves out; "" if there are none."""
    return f"ignored {count} file{'s'[: count != 1]} (unsupported extension)" if count else ""


def bounded(key: str) -> str:
    """Return the key with its segments shortened for the names of artefacts.

    A segment that leaves no room for the longest suffix of an artefact (file systems allow 255 bytes) ends in a digest
    of the whole segment.
    """
    return "/".join(map(_bounded, key.split("/")))


def _bounded(segment: str) -> str:
    name = segment.encode()
    if len(name) <= _LONGEST_SEGMENT:
        return segment
    head = name[: _LONGEST_SEGMENT - _DIGEST - 1].decode(errors="ignore")
    return f"{re.sub('%[0-9A-F]?$', '', head)}-{sha256(name).hexdigest()[:_DIGEST]}"


def flac(key: str) -> str:
    """Return the path of the extracted audio (FLAC, 16 kHz, mono)."""
    return f"extracted/{bounded(key)}.flac"


def audio_record(key: str) -> str:
    """Return the path of the record of the extracted audio (JSON): source ETag, durations, warnings."""
    return f"extracted/{bounded(key)}.json"


def window_plan(key: str) -> str:
    """Return the path of the windows of the extracted audio, with their voiced regions (JSON)."""
    return f"extracted/{bounded(key)}.plan.json"


def video_record(key: str) -> str:
    """Return the path of the probe's record (JSON)."""
    return f"posters/{bounded(key)}.json"


def poster(key: str) -> str:
    """Return the path of the poster frame (JPEG)."""
    return f"posters/{bounded(key)}.jpg"


def thumbnail(key: str) -> str:
    """Return the path of the thumbnail for the Dagster UI (WebP)."""
    return f"posters/{bounded(key)}.small.webp"


def transcript(key: str, suffix: str = ".json") -> str:
    """Return the path of the transcript; `suffix` is one of `.json`, `.txt`, `.srt`, `.vtt`."""
    return f"transcripts/{bounded(key)}{suffix}"


def speakers(key: str) -> str:
    """Return the path of the turns and voiceprints of the speakers (JSON)."""
    return f"speakers/{bounded(key)}.json"


def slides(key: str) -> str:
    """Return the path of the slides with their texts and times (JSON)."""
    return f"slides/{bounded(key)}.json"


def slide_pictures(key: str) -> str:
    """Return the folder of the thumbnails of a recording's slides."""
    return f"slides/{bounded(key)}/"


def slide_picture(key: str, number: int) -> str:
    """Return the path of the thumbnail of a slide (WebP); `number` counts from 1."""
    return f"{slide_pictures(key)}{number}.webp"


def identities(key: str) -> str:
    """Return the path of the people whom the speakers of a recording are, as its texts name them (JSON)."""
    return f"identities/{bounded(key)}.json"


def statements(key: str = "") -> str:
    """Return the folder of what users said about the speakers of a recording, or of all of them (JSON each)."""
    return f"statements/{bounded(key)}/" if key else "statements/"


def people(person: str = "") -> str:
    """Return the folder of the names of a person, or of all people (JSON each, the last one counts)."""
    return f"people/{person}/" if person else "people/"


def passages(key: str) -> str:
    """Return the path of the passages with their vectors (Parquet)."""
    return f"embeddings/{bounded(key)}.parquet"


def moved(key: str) -> str:
    """Return the path of the ETags of a recording before and after it was moved below `DONE_` (JSON)."""
    return f"moved/{bounded(key)}.json"


def transcribed_audio(digest: str) -> str:
    """Return the path of the name of the recording that has this audio and was transcribed with this model (JSON)."""
    return f"heard/{digest}.json"


def origin(key: str) -> str:
    """Return the path of what a source knows about the recording: title, day, page, licence (JSON)."""
    return f"origins/{bounded(key)}.json"


def failure(key: str) -> str:
    """Return the path of the recording's last failure (JSON)."""
    return f"failures/{bounded(key)}.json"


def checkpoints(key: str) -> str:
    """Return the folder of the decoded windows of a recording; deleted when its transcript is complete."""
    return f"checkpoints/{bounded(key)}/"


def checkpoint(key: str, digest: str, channel: int, number: int) -> str:
    """Return the path of one window (JSON); `digest` is that of version, model and options."""
    return f"{checkpoints(key)}{digest}/{channel}-{number:05}.json"


def work(identifier: str = "") -> str:
    """Return the folder of a manifest and the status of its shards, or of all of them; deleted when they end."""
    return f"work/{identifier}/" if identifier else "work/"


def deaths(key: str) -> str:
    """Return the path of the record of processes that died while they decoded this recording (JSON)."""
    return f"deaths/{bounded(key)}.json"


def vocabularies(key: str) -> list[str]:
    """Return the possible paths of the recording's vocabulary: beside it, then in each parent folder up to its inbox.

    Folders whose names need escapes are left out.
    """
    folders = key.split("/")[:-1]
    places = ["/".join([*folders[:depth], "vocabulary.txt"]) for depth in range(len(folders), 0, -1)]
    return [place for place in places if "%" not in place]


def speaker_bounds(key: str) -> str | None:
    """Return the name of the file beside the recording with the bounds of its speakers (JSON); None if it is too long.

    It is an object's name, as users write it, not an encoded one.
    """
    name = f"{decode(key)}.speakers.json"
    longest = len(name.rpartition("/")[2].encode("utf-8", "surrogateescape"))
    return name if longest <= _LONGEST_NAME else None


def artefacts(key: str) -> list[str]:
    """Return the paths of the artefacts that the steps derive from one recording."""
    texts = [transcript(key, suffix) for suffix in (".json", ".txt", ".srt", ".vtt")]
    return [
        video_record(key),
        poster(key),
        thumbnail(key),
        audio_record(key),
        window_plan(key),
        deaths(key),
        flac(key),
        speakers(key),
        slides(key),
        identities(key),
        *texts,
        passages(key),
        origin(key),
        failure(key),
    ]


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def _bytes(escapes: str) -> bytes:
    return bytes.fromhex(escapes.replace("%", ""))
