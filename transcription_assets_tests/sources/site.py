"""A real HTTP server on a loopback port: files with ETags and ranges, feeds, redirects, and failures."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape, quoteattr

from transcription_assets_tests.serving import answering


@dataclass
class Page:
    """A response; `cuts` are the lengths after which the next requests are broken off. `etag` "" sends none."""

    data: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    cuts: list[int] = field(default_factory=list)
    with_length: bool = True
    ranges: bool = True
    ignores_if_range: bool = False

    @property
    def tag(self) -> str:
        return f'"{sha256(self.data).hexdigest()[:16]}"' if self.etag is None else self.etag


@dataclass
class Site:
    """Pages by path, and the requests that came (path and headers)."""

    address: str = ""
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str) -> str:
        return self.address + path

    def asked(self, path: str) -> list[dict[str, str]]:
        return [headers for place, headers in self.requests if place == path]

    def audio(self, path: str, data: bytes, **fields: object) -> Page:
        page = self.pages[path] = Page(data, "audio/wav", **fields)  # type: ignore[arg-type]
        return page


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.site.lock:
            self.site.requests.append((self.path, headers))
        page = self.site.pages.get(self.path)
        if page is None:
            self._answer(Page(b"no", "text/plain", 404), headers)
        else:
            self._answer(page, headers)

    def _answer(self, page: Page, asked: Mapping[str, str]) -> None:
        if page.tag and asked.get("if-none-match") == page.tag:
            self.send_response(304)
            self.end_headers()
            return
        start, status = 0, page.status
        wanted = asked.get("range", "")
        is_same = page.ignores_if_range or asked.get("if-range", page.tag) == page.tag
        if page.ranges and wanted and is_same and status == 200:
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(page.data):
                self.send_response(416)
                self.send_header("content-range", f"bytes */{len(page.data)}")
                self.send_header("content-length", "0")
                self.end_headers()
                return
        self.send_response(status)
        if page.content_type:
            self.send_header("content-type", page.content_type)
        if page.tag:
            self.send_header("etag", page.tag)
        if status == 206:
            self.send_header("content-range", f"bytes {start}-{len(page.data) - 1}/{len(page.data)}")
        for name, value in page.headers.items():
            self.send_header(name, value)
        if page.with_length:
            self.send_header("content-length", str(len(page.data) - start))
        else:
            self.send_header("connection", "close")
        self.end_headers()
        with self.site.lock:
            cut = page.cuts.pop(0) if page.cuts else None
        if cut is None:
            self.wfile.write(page.data[start:])
            self.close_connection = not page.with_length
        else:
            self.wfile.write(page.data[start : start + cut])
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the base class
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Drop the error: clients that give up early are expected."""


@contextmanager
def site() -> Iterator[Site]:
    """Run a site until the block ends."""
    made = Site()
    handler = type("Handler", (_Handler,), {"site": made})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with answering(server) as address:
        made.address = address
        yield made


def episode(  # noqa: PLR0917 -- fields of an item
    guid: str, url: str, title: str = "", day: str = "", link: str = "", kind: str = "audio/wav"
) -> str:
    """Return an item of an RSS feed; `day` is an RFC 822 date."""
    return (
        f"<item><guid>{escape(guid)}</guid><title>{escape(title or guid)}</title>"
        + (f"<pubDate>{escape(day)}</pubDate>" if day else "")
        + (f"<link>{escape(link)}</link>" if link else "")
        + f"<enclosure url={quoteattr(url)} length='0' type={quoteattr(kind)}/></item>"
    )


def rss(*items: str, title: str = "A podcast", head: str = "") -> bytes:
    """Return an RSS document."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}<rss version="2.0"><channel><title>{escape(title)}</title>'
        f"<link>https://example.com/</link>{''.join(items)}</channel></rss>"
    ).encode()


def days_ago(days: int) -> str:
    """Return a date as RSS writes it."""
    return format_datetime(datetime.now(UTC) - timedelta(days=days))
