"""Names in the inbox for recordings of a source. Pure."""

import re
from mimetypes import guess_extension
from pathlib import PurePosixPath
from urllib.parse import unquote

from transcription_assets.domain.media_keys import AUDIO_SUFFIXES, SUFFIXES
from transcription_assets.sources.feeds import Item, url_path

LONGEST_TITLE = 120
"""Bytes of a title in a name; file systems allow 255 for the whole name and its longest suffix."""
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
    for address in (item.media_url, final_url):
        found = PurePosixPath(unquote(url_path(address))).suffix.lower()
        if found in SUFFIXES:
            return found
    for stated in (content_type, item.media_type):
        kind = stated.partition(";")[0].strip().lower()
        found = _TYPES.get(kind) or guess_extension(kind) or ""
        if found in SUFFIXES:
            return found
    return ""


def name(source: str, item: Item, media_suffix: str) -> str:
    """Return the name of a recording: `audio/history/2024-05-17 The last train 3f2a9b1c.mp3`.

    The digest of the item makes it unique; a title cannot lead out of the folder.
    """
    inbox = "audio" if media_suffix in AUDIO_SUFFIXES else "video"
    known = item.title or PurePosixPath(unquote(url_path(item.media_url))).stem
    title = " ".join(_UNFIT.sub(" ", known).replace("...", " ").split()).strip(" .")
    short = title.encode()[:LONGEST_TITLE].decode(errors="ignore").strip(" .")
    day = item.published.isoformat() if item.published else ""
    return f"{inbox}/{source}/{' '.join(filter(None, (day, short, item.identity[:8])))}{media_suffix}"
