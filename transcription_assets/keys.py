"""Names: how a recording is called everywhere, and where its artefacts lie.

A *media key* is the object's name below the store root (`video/talks/a.mp4`), written so that it is at once
a Dagster partition key, a legal path in every store, and readable. Plain names stay as they are; only what
breaks something is percent-encoded, and `decode` gives the very name back.
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
"""Before an inbox's name: where a recording goes after its last step, if that is turned on. Its key stays."""

_BREAKS = re.compile(
    r"""
      [%,"'*\\\[\]{}<>]                 # Dagster's range syntax, shells, markup, and the escape itself
    | [\x00-\x1f\x7f-\x9f\u2028\u2029]  # control characters and line separators: refused, or not shown
    | [\udc80-\udcff]                   # bytes that are not UTF-8, as os.fsdecode gives them
    | \.{3,}                            # Dagster's range operator
    | (?<![^/])[\s.\ufeff/]             # starts a path segment: trimmed by UIs; `.`, `..` and empty segments
    | [\s.\ufeff](?![^/])               # ends one
    | /\Z
    """,
    re.VERBOSE,
)
_LONGEST_SUFFIX = ".small.webp#1"  # of an artefact while it is being written
_LONGEST_SEGMENT = 255 - len(_LONGEST_SUFFIX)
_DIGEST = 16
_ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")


def encode(name: str) -> str:
    """The media key of an object.

    `name` is relative to the store root, parts joined by `/`, bytes that are not UTF-8 as `os.fsdecode` gives
    them. Reversible, so two names never share a key.
    """
    return _BREAKS.sub(lambda match: _percent(match[0]), name)


def decode(key: str) -> str:
    """The object's name: the inverse of `encode`."""
    return _ESCAPES.sub(lambda match: _bytes(match[0]).decode("utf-8", "surrogateescape"), key)


def is_media(name: str) -> bool:
    """Whether a file of this name is taken for a recording: by its suffix, in any case.

    The `._a.mp4` that macOS puts beside `a.mp4` on foreign disks is not a recording.
    """
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return bool(stem) and not stem.startswith("._") and (dot + suffix).lower() in SUFFIXES


def bounded(key: str) -> str:
    """Return the key as the names of artefacts hold it.

    Itself, except that a segment which leaves no room for the longest suffix of an artefact (a file system allows
    255 bytes) ends in a digest of the whole segment.
    """
    return "/".join(map(_bounded, key.split("/")))


def _bounded(segment: str) -> str:
    name = segment.encode()
    if len(name) <= _LONGEST_SEGMENT:
        return segment
    head = name[: _LONGEST_SEGMENT - _DIGEST - 1].decode(errors="ignore")
    return f"{re.sub('%[0-9A-F]?$', '', head)}-{sha256(name).hexdigest()[:_DIGEST]}"


def flac(key: str) -> str:
    """16 kHz mono speech."""
    return f"extracted/{bounded(key)}.flac"


def audio_record(key: str) -> str:
    """What is known of the extracted speech (JSON): which object it was made from, lengths, warnings."""
    return f"extracted/{bounded(key)}.json"


def video_record(key: str) -> str:
    """What the probe saw (JSON)."""
    return f"posters/{bounded(key)}.json"


def poster(key: str) -> str:
    """A representative picture (JPEG)."""
    return f"posters/{bounded(key)}.jpg"


def thumbnail(key: str) -> str:
    """The picture in very small, as it is shown in the Dagster UI (WebP)."""
    return f"posters/{bounded(key)}.small.webp"


def transcript(key: str, suffix: str = ".json") -> str:
    """The transcript; `suffix` is one of `.json`, `.txt`, `.srt`, `.vtt`."""
    return f"transcripts/{bounded(key)}{suffix}"


def passages(key: str) -> str:
    """Passages with their vectors (Parquet)."""
    return f"embeddings/{bounded(key)}.parquet"


def moved(key: str) -> str:
    """Which object of the inbox the one below `DONE_` was (JSON): its ETag may have changed on the way."""
    return f"moved/{bounded(key)}.json"


def heard(digest: str) -> str:
    """Which recording with this sound was transcribed by this model already (JSON)."""
    return f"heard/{digest}.json"


def failure(key: str) -> str:
    """What went wrong with the recording last (JSON)."""
    return f"failures/{bounded(key)}.json"


def checkpoints(key: str) -> str:
    """The folder of the windows of a long recording that are transcribed already; gone once it is done."""
    return f"checkpoints/{bounded(key)}/"


def checkpoint(key: str, digest: str, channel: int, number: int) -> str:
    """One window (JSON), under the digest of version, model and options."""
    return f"{checkpoints(key)}{digest}/{channel}-{number:05}.json"


def vocabularies(key: str) -> list[str]:
    """Where a vocabulary for this recording may lie: beside it, then in each folder above it up to its inbox.

    Folders whose names have to be escaped are left out.
    """
    folders = key.split("/")[:-1]
    places = ["/".join([*folders[:depth], "vocabulary.txt"]) for depth in range(len(folders), 0, -1)]
    return [place for place in places if "%" not in place]


def artefacts(key: str) -> list[str]:
    """Everything that is made from one recording."""
    texts = [transcript(key, suffix) for suffix in (".json", ".txt", ".srt", ".vtt")]
    return [
        video_record(key),
        poster(key),
        thumbnail(key),
        audio_record(key),
        flac(key),
        *texts,
        passages(key),
        failure(key),
    ]


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def _bytes(escapes: str) -> bytes:
    return bytes.fromhex(escapes.replace("%", ""))
