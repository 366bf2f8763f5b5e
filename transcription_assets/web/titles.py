"""Titles, folders and URLs of recordings, derived from their media keys."""

import re
from urllib.parse import quote

from transcription_assets.domain import media_keys
from transcription_assets.domain.text import printable


def title(key: str) -> str:
    """Return a title: `The last train` for `video/talks/the-last_train.mp4`; a name without words is not changed."""
    name = printable(media_keys.decode(key).rpartition("/")[2])
    stem = name.rpartition(".")[0]
    words = re.sub(r"[-_\s]+", " ", stem).strip() if " " not in stem else stem.strip()
    return f"{words[:1].upper()}{words[1:]}" if words else name


def folder(key: str) -> str:
    """Return the folder below the inbox: `talks` for `video/talks/a.mp4`."""
    return printable(media_keys.decode(key).partition("/")[2].rpartition("/")[0])


def path(*parts: str) -> str:
    """Return the percent-encoded URL path of these parts, joined by slashes; slashes in a part are preserved."""
    return "/".join(quote(part, safe="/", errors="surrogatepass") for part in parts)


def watch(key: str, second: float | None = None) -> str:
    """Return the URL path of the page that plays a recording, from `second` on if it is given."""
    return path("/watch", key) + ("" if second is None else f"?t={second:.2f}")
