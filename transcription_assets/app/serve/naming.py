"""What people read and click in place of keys."""

import re
from urllib.parse import quote

from transcription_assets import keys
from transcription_assets.words import printable


def title(key: str) -> str:
    """`video/talks/the-last_train.mp4` as `The last train`; a name that is no name stays as it is."""
    name = printable(keys.decode(key).rpartition("/")[2])
    stem = name.rpartition(".")[0]
    words = re.sub(r"[-_\s]+", " ", stem).strip() if " " not in stem else stem.strip()
    return f"{words[:1].upper()}{words[1:]}" if words else name


def folder(key: str) -> str:
    """The folder below the inbox: `talks` of `video/talks/a.mp4`."""
    return printable(keys.decode(key).partition("/")[2].rpartition("/")[0])


def path(*parts: str) -> str:
    """The address of something here; a key keeps its slashes."""
    return "/".join(quote(part, safe="/", errors="surrogatepass") for part in parts)


def watch(key: str, second: float | None = None) -> str:
    """The page that plays a recording, from a second on if one is given."""
    return path("/watch", key) + ("" if second is None else f"?t={second:.2f}")
