"""Parsing of podcast feeds (RSS, Atom) with feedparser: items with their recordings, newest first. No I/O."""

import codecs
import io
import re
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import urlsplit
from xml.parsers import expat

from transcription_assets.domain.media_keys import is_media
from transcription_assets.domain.text import printable
from transcription_assets.domain.urls import absolute, digest, redacted, without_secrets
from transcription_assets.errors import PermanentFailure

MOST_ITEMS = 10_000
MOST_REPAIRED = 4 << 20
"""Bytes of a damaged feed that is read all the same: feedparser's tolerant parser is slow, and slower on purpose."""
MOST_TEXT = 500
EARLIEST = date(1900, 1, 1)
_ROOTS = frozenset({"rss", "feed", "rdf", "channel"})
# Possessive and atomic: a hostile head must not make the expression try all ways to split it.
_ROOT = re.compile(
    rb"\s*+(?>(?>(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[[^\]]*\])?>))\s*+)*+<([A-Za-z_][\w.:-]*)",
    re.DOTALL | re.IGNORECASE,
)
_ENCODINGS = frozenset({"utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso8859-1", "cp1252", "ascii"})
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.IGNORECASE)
_ENCODING = re.compile(rb"encoding\s*=\s*[\"']([^\"']*)", re.IGNORECASE)
_MARKUP = re.compile(r"<[^<>]{0,1000}>")


@dataclass(frozen=True, slots=True)
class Item:
    """A recording that a source offers.

    `guid` is its name at the source, `media_url` the address of the file, `link` that of a page about it (http or
    https, or ""). `published` is None if the source gives no day, or an impossible one.
    """

    guid: str
    media_url: str
    title: str = ""
    link: str = ""
    published: date | None = None
    media_type: str = ""
    licence: str = ""

    @property
    def shown(self) -> str:
        """Name of the item in messages: its title, else its GUID, without secrets of a URL."""
        return self.title or redacted(self.guid)

    @property
    def identity(self) -> str:
        """Digest of GUID and file: the same GUID with another file is another recording.

        The query of the file's address is left out: it often holds a token or a time, and differs at each request.
        """
        file = self.media_url.partition("#")[0].partition("?")[0]
        return digest(f"{self.guid}\n{file}")


@dataclass(frozen=True, slots=True)
class Feed:
    """A parsed feed, with its items in the order in which they are fetched."""

    title: str
    items: tuple[Item, ...]


def parse(data: bytes, url: str, content_type: str, today: date) -> Feed:
    """Parse a feed; items without a recording are left out, and relative addresses are resolved against `url`.

    Raises:
        PermanentFailure: it is not a feed (an HTML page, for example), or it declares entities, with which a small
            document expands to gigabytes.

    """
    import feedparser

    head = data[:200_000].replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe")
    root = _ROOT.match(head.removeprefix(b"\xfe\xff"))
    name = root[1].decode("ascii", "replace").rpartition(":")[2].lower() if root else ""
    if name not in _ROOTS:
        what = "an HTML page" if name == "html" or "html" in content_type else "not RSS or Atom"
        raise PermanentFailure(f"not a feed ({what}); take the address of the feed itself")
    _require_encoding(root[0] if root else b"", content_type)
    if b"<!entity" in data.replace(b"\0", b"").lower():
        raise PermanentFailure("the feed declares XML entities, which are not allowed")
    if len(data) > MOST_REPAIRED and not _is_well_formed(data):
        raise PermanentFailure(f"the feed is damaged XML of more than {MOST_REPAIRED >> 20} MB")
    # A stream: feedparser would take text for a URL or a path. Texts are reduced to plain lines, not sanitised.
    # Without the address of the feed: it would change the GUIDs, and they must not depend on a redirect.
    headers = {"content-type": content_type}
    parsed = feedparser.parse(
        io.BytesIO(data), response_headers=headers, sanitize_html=False, resolve_relative_uris=False
    )
    # Relative addresses must not take user name, password and token of the feed's address along.
    return Feed(line(parsed.feed.get("title")), _ordered(_items(parsed, without_secrets(url), today)))


def _require_encoding(head: bytes, content_type: str) -> None:
    """Check that markup has its own bytes in the stated encodings, so that a search for entity declarations finds them.

    Raises:
        PermanentFailure: another encoding is stated, such as UTF-7.

    """
    stated = _CHARSET.findall(content_type) + [name.decode("latin-1") for name in _ENCODING.findall(head)]
    for name in stated:
        try:
            known = codecs.lookup(name).name
        except (LookupError, ValueError):
            known = ""
        if known not in _ENCODINGS:
            raise PermanentFailure(f"the feed has the encoding {line(name)}, expected UTF-8")


def _is_well_formed(data: bytes) -> bool:
    try:
        expat.ParserCreate().Parse(data, True)  # noqa: FBT003 -- expat takes no keywords
    except (expat.ExpatError, ValueError, LookupError):
        return False
    return True


def _items(parsed: Any, url: str, today: date) -> Iterable[Item]:
    for entry in parsed.entries[:MOST_ITEMS]:
        enclosure = _recording(entry)
        file = (enclosure.get("href") or enclosure.get("url")) if enclosure else ""
        media_url = absolute(url, file) if file else ""
        if enclosure and media_url:
            yield Item(
                guid=line(entry.get("id")) or line(entry.get("link")) or media_url,
                media_url=media_url,
                title=line(entry.get("title")),
                link=_page(entry, url),
                published=possible_day(entry.get("published_parsed") or entry.get("updated_parsed"), today),
                media_type=line(enclosure.get("type")),
                licence=_licence(entry) or _licence(parsed.feed),
            )


def _page(entry: Mapping[str, Any], url: str) -> str:
    """Return the page about an item; feedparser takes the GUID for it where there is none."""
    link = entry.get("link")
    return absolute("" if link == entry.get("id") else url, link) if link else ""


def _recording(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first enclosure, or else the first `media:content`, that is audio or video."""
    for found in (*entry.get("enclosures", ()), *entry.get("media_content", ())):
        kind = line(found.get("type")).lower()
        path = url_path(found.get("href") or found.get("url"))
        if kind.startswith(("audio/", "video/")) or (not kind.startswith(("image/", "text/")) and is_media(path)):
            return dict(found)
    return None


def _licence(node: Mapping[str, Any]) -> str:
    links = [link.get("href") for link in node.get("links", ()) if link.get("rel") == "license"]
    return line(next(iter(links), None) or node.get("license") or node.get("rights"))


def _ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return each recording once, newest first; in the order of the feed if a day is missing."""
    by_identity: dict[str, Item] = {}
    for item in items:
        by_identity.setdefault(item.identity, item)
    unique = list(by_identity.values())
    if all(item.published for item in unique):
        unique.sort(key=lambda item: item.published or EARLIEST, reverse=True)
    return tuple(unique)


def possible_day(parsed: Any, today: date) -> date | None:
    """Return the day of a parsed time (UTC); None if it is before 1900, in the future or invalid."""
    try:
        day = datetime.fromtimestamp(timegm(parsed), UTC).date()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return day if EARLIEST <= day <= today + timedelta(days=1) else None


def url_path(address: object) -> str:
    """Return the path of a URL, "" if it is invalid."""
    try:
        return urlsplit(str(address or "")).path
    except ValueError:
        return ""


def line(text: object) -> str:
    """Return text of a stranger as one printable line without markup."""
    plain = unescape(_MARKUP.sub(" ", str(text or "")[: 4 * MOST_TEXT]))
    return " ".join(printable(" ".join(plain.split())).split())[:MOST_TEXT]
