"""Names in the inbox for recordings of a source, and for uploads. Pure."""

import re
from collections.abc import Iterable
from itertools import islice
from mimetypes import guess_extension
from pathlib import PurePosixPath
from urllib.parse import unquote

from transcription_assets.domain.media_keys import AUDIO_SUFFIXES, SUFFIXES
from transcription_assets.domain.text import printable
from transcription_assets.sources.feeds import Item, url_path

LONGEST_TITLE = 120
"""Bytes of a title in a name; file systems allow 255 for the whole name and its longest suffix."""
UPLOADS = "uploads"
"""Folder of uploads in both inboxes, by which a search can be limited to them."""
LONGEST_UPLOADED_TITLE = 300
LONGEST_FOLDER = 300
"""Bytes of the folder of an upload; object stores allow 1024 for a whole name."""
MOST_FOLDERS = 8
_TYPES = {
    "audio/mpeg": ".mp3",
    "audio/mp3": ".mp3",
    "audio/mp4": ".m4a",
    "audio/m4a": ".m4a",
    "audio/x-m4a": ".m4a",
    "audio/aac": ".aac",
    "audio/ogg": ".ogg",
    "application/ogg": ".ogg",
    "audio/opus": ".opus",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/vnd.wave": ".wav",
    "audio/webm": ".weba",
    "video/mp4": ".mp4",
    "video/x-m4v": ".m4v",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "video/ogg": ".ogv",
    "video/mp2t": ".ts",
    "video/x-matroska": ".mkv",
}
_UNFIT = re.compile(r"""[^\w .,;!()&+=@~#'’–-]+""")


def suffix(item: Item, final_url: str, content_type: str) -> str:
    """Return the media suffix of a downloaded file, "" if nothing tells it.

    The suffix in its address counts before that of the address after redirects, then the types that the server and the
    source state.
    """
    addresses = (unquote(url_path(address)) for address in (item.media_url, final_url))
    return _suffix(addresses, (content_type, item.media_type))


def _suffix(paths: Iterable[str], types: Iterable[str]) -> str:
    """Return the first media suffix of these paths, else of these media types, else ""."""
    for path in paths:
        found = PurePosixPath(path).suffix.lower()
        if found in SUFFIXES:
            return found
    for stated in types:
        kind = stated.partition(";")[0].strip().lower()
        found = _TYPES.get(kind) or guess_extension(kind) or ""
        if found in SUFFIXES:
            return found
    return ""


def name(source: str, item: Item, media_suffix: str) -> str:
    """Return the name of a recording: `audio/history/2024-05-17 The last train 3f2a9b1c.mp3`.

    The digest of the item makes it unique; a title cannot lead out of the folder.
    """
    known = item.title or PurePosixPath(unquote(url_path(item.media_url))).stem
    day = item.published.isoformat() if item.published else ""
    stem = " ".join(filter(None, (day, _plain(known, LONGEST_TITLE), item.identity[:8])))
    return f"{_inbox(media_suffix)}/{source}/{stem}{media_suffix}"


def uploaded(filename: str, content_type: str, folder: str, identity: str) -> str:
    """Return the name of an uploaded recording: `video/uploads/talks/a talk 3f2a9b1c.mp4`; "" if it is no recording.

    `filename` and `folder` are those of the client and can have any content; `identity` makes the name unique.
    """
    last = _last(filename)
    media_suffix = _suffix((last,), (content_type,))
    if not media_suffix:
        return ""
    within = folder.encode(errors="ignore")[:LONGEST_FOLDER].decode(errors="ignore")
    folders = filter(None, (_plain(part, LONGEST_TITLE) for part in within.replace("\\", "/").split("/")))
    stem = " ".join(filter(None, (_plain(_stem(last), LONGEST_TITLE), identity)))
    return "/".join([_inbox(media_suffix), UPLOADS, *islice(folders, MOST_FOLDERS), f"{stem}{media_suffix}"])


def uploaded_title(filename: str) -> str:
    """Return the title of an uploaded recording: the printable part of its file name, without a media suffix."""
    return " ".join(printable(_stem(_last(filename))).split())[:LONGEST_UPLOADED_TITLE]


def _last(filename: str) -> str:
    """Return the last segment of the path that a client sends, of any system."""
    return filename.replace("\\", "/").rpartition("/")[2]


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name


def _plain(text: str, most_bytes: int) -> str:
    """Return a text as part of a name: letters, digits and plain punctuation, in at most so many bytes."""
    fit = " ".join(_UNFIT.sub(" ", text).replace("...", " ").split()).strip(" .")
    return fit.encode()[:most_bytes].decode(errors="ignore").strip(" .")


def _inbox(media_suffix: str) -> str:
    return "audio" if media_suffix in AUDIO_SUFFIXES else "video"
