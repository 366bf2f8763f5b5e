"""Pages, playlists and channels, read by yt-dlp as a library (extra `links`), through the guarded HTTP client."""

import http.cookiejar
import io
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import httpx2

from transcription_assets.domain.urls import absolute, redacted, without_secrets
from transcription_assets.errors import PermanentFailure, TooLarge, TranscriptionError, TransientFailure
from transcription_assets.guarded_http import translate_http_errors
from transcription_assets.sources.download import MOST_DOCUMENT_BYTES, Client, Downloaded
from transcription_assets.sources.feeds import Item, line, possible_day

MOST_ENTRIES = 50
"""Entries of a playlist or channel that a listing reads at least: more are not published between two listings."""
MOST_FRAGMENT_BYTES = 256 << 20
"""Maximum size of a fragment: yt-dlp holds one in memory."""
FORMAT = "/".join(
    f"{choice}[protocol~='^(https?|m3u8_native|http_dash_segments)$']"
    for choice in ("best[height<=720]", "bestaudio", "best")
)
"""A format of one file: picture and sound together, or the sound alone. yt-dlp reads these protocols itself."""


@dataclass(slots=True)
class _Traffic:
    """How the requests of one YoutubeDL are made until a deadline, and the first error that explains its failure.

    `most_each` and `most_bytes` are the maximum bytes of one response and of all, `received` those that came.
    """

    client: Client
    deadline: float
    most_each: int = MOST_DOCUMENT_BYTES
    most_bytes: int = 10 * MOST_DOCUMENT_BYTES
    received: int = 0
    error: TranscriptionError | None = None


class LinkReader:
    """Lists and downloads what yt-dlp finds at a URL.

    Raises:
        PermanentFailure: yt-dlp is not installed.

    """

    def __init__(self, client: Client, most_bytes: int, limit_s: float) -> None:
        try:
            import yt_dlp  # noqa: F401
        except ImportError as error:
            hint = "install it with pip install '.[links]'"
            raise PermanentFailure(f"sources of kind `link` need yt-dlp; {hint}", hint=hint) from error
        self._client = client
        self._most = most_bytes
        self._limit_s = limit_s

    def entries(self, url: str, most: int, today: date) -> tuple[str, tuple[Item, ...]]:
        """Return the title, and the first `most` entries in their order (one, if it is a single recording).

        Longer lists are not read further. Entries without an address are left out.

        Raises:
            PermanentFailure: yt-dlp cannot read such a page, or an address is not public.
            TransientFailure: the site does not answer, or yt-dlp failed.

        """
        most = max(most, MOST_ENTRIES)
        options = {"extract_flat": "in_playlist", "lazy_playlist": True, "playlistend": most}
        with self._youtube_dl(url, options) as (ydl, _traffic):
            found = ydl.extract_info(url, download=False)
            listed = found.get("entries") if found.get("_type") in {"playlist", "multi_video"} else [found]
            entries = [entry for _, entry in zip(range(most), listed or (), strict=False) if entry]
        items = (_item(entry, url, today) for entry in entries)
        return line(found.get("title")), tuple(item for item in items if item.media_url)

    def download(self, item: Item, part: Path, today: date) -> tuple[Item, Downloaded]:
        """Download an entry; return it with what its page says, and the file, which is beside `part`.

        Raises:
            TooLarge: it exceeds the maximum size.
            PermanentFailure: yt-dlp cannot read the page, or an address is not public.
            TransientFailure: the site does not answer, or yt-dlp failed.

        """
        options = {
            "format": FORMAT,
            "outtmpl": {"default": f"{part.stem}.%(ext)s"},
            "paths": {"home": str(part.parent)},
            "max_filesize": self._most,
            "noplaylist": True,
            "playlistend": 1,
        }
        with self._youtube_dl(item.media_url, options) as (ydl, traffic):
            found = ydl.extract_info(item.media_url, download=False)
            is_one_file = found.get("protocol") in {"http", "https"}
            traffic.most_each = self._most if is_one_file else min(self._most, MOST_FRAGMENT_BYTES)
            traffic.most_bytes, traffic.received = self._most, 0
            made = ydl.process_ie_result(found, download=True)
        files = [Path(each["filepath"]) for each in made.get("requested_downloads", ()) if each.get("filepath")]
        if not files or not files[0].is_file() or files[0].stat().st_size > self._most:
            raise TooLarge(
                f"{without_secrets(item.media_url)}: no file within {self._most / 1e9:g} GB; see"
                " TRANSCRIPTION_SOURCE_MAX_GB",
                hint="raise TRANSCRIPTION_SOURCE_MAX_GB",
            )
        described = _item(made, item.media_url, today)
        known = replace(
            item,
            title=described.title or item.title,
            link=described.link or item.link,
            published=described.published or item.published,
            licence=described.licence or item.licence,
        )
        return known, Downloaded(files[0], item.media_url, "", files[0].stat().st_size)

    @contextmanager
    def _youtube_dl(self, url: str, options: dict[str, Any]) -> Iterator[tuple[Any, _Traffic]]:
        """Yield a YoutubeDL without configuration, cache, plugins and programs, and translate its errors."""
        import yt_dlp
        from yt_dlp.globals import plugin_dirs

        plugin_dirs.value = []
        traffic = _Traffic(self._client, time.monotonic() + self._limit_s)
        fixed = {
            "quiet": True,
            "no_warnings": True,
            "noprogress": True,
            "logger": _Silent(),
            "cachedir": False,
            "fixup": "never",
            "hls_prefer_native": True,
            "ffmpeg_location": f"{os.devnull}/ffmpeg",  # it would make requests of its own
            "socket_timeout": 60,
            "js_runtimes": {},
            "continuedl": False,  # it would join parts of two versions
            "retries": 3,
            "fragment_retries": 3,
            "skip_unavailable_fragments": False,  # else a recording with gaps would count as whole
        }
        try:
            with translate_http_errors(url), _guarded(yt_dlp.YoutubeDL, traffic)(fixed | options) as ydl:
                yield ydl, traffic
        except TranscriptionError:
            raise
        except Exception as error:  # extractors raise any exception for pages that they do not expect
            if traffic.error:
                raise traffic.error from error
            cause = error.exc_info[1] if isinstance(error, yt_dlp.utils.DownloadError) and error.exc_info else error
            name, reason = without_secrets(url), line(redacted(str(error).removeprefix("ERROR: ")))
            if isinstance(cause, yt_dlp.utils.UnsupportedError):
                raise PermanentFailure(f"{name}: yt-dlp finds no recording there") from error
            raise TransientFailure(f"{name}: {reason or type(error).__name__}; it is tried again later") from error


class _Silent:
    """Logger of yt-dlp that drops its messages; failures are raised as well."""

    def debug(self, _message: str) -> None:
        pass

    warning = error = info = debug


class _Body(io.RawIOBase):
    """Body of a response as a file within the limits of the traffic, which closes the client at its end."""

    def __init__(self, response: httpx2.Response, asking: httpx2.Client, traffic: _Traffic) -> None:
        self._response = response
        self._client = asking
        self._traffic = traffic
        self._blocks = response.iter_bytes()
        self._rest = b""
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if (block := next(self._blocks, None)) is None:
                return 0
            self._rest = block
            self._received += len(block)
            self._traffic.received += len(block)
            if self._received > self._traffic.most_each or self._traffic.received > self._traffic.most_bytes:
                self._traffic.error = TooLarge(f"{without_secrets(str(self._response.url))}: the answer is too large")
                raise self._traffic.error
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._response.close()
            self._client.close()
        super().close()


def _guarded(youtube_dl: type[Any], traffic: _Traffic) -> type[Any]:
    """Return a YoutubeDL all of whose requests go through the guarded client."""
    from yt_dlp.networking import RequestHandler, Response
    from yt_dlp.networking.exceptions import HTTPError, TransportError

    class GuardedRH(RequestHandler):  # type: ignore[misc]  # yt-dlp requires this suffix
        _SUPPORTED_URL_SCHEMES = ("http", "https")
        _SUPPORTED_PROXY_SCHEMES = None
        _SUPPORTED_FEATURES = None

        def _check_extensions(self, extensions: dict[str, Any]) -> None:
            super()._check_extensions(extensions)
            for name in ("cookiejar", "timeout", "legacy_ssl", "keep_header_casing", "impersonate"):
                extensions.pop(name, None)

        def _send(self, request: Any) -> Any:
            headers = self._get_headers(request) | {"accept-encoding": "identity"}
            cookies = self._get_cookiejar(request)
            if sent := cookies.get_cookie_header(request.url):
                headers["cookie"] = sent
            asking = traffic.client(traffic.deadline - time.monotonic())
            try:
                with translate_http_errors(request.url):
                    made = asking.build_request(request.method, request.url, headers=headers, content=request.data)
                    response = asking.send(made, stream=True)
            except TranscriptionError as error:
                asking.close()
                traffic.error = traffic.error or (None if error.transient else error)
                raise TransportError(cause=error) from error
            body = io.BufferedReader(_Body(response, asking, traffic))
            answer = Response(body, str(response.url), dict(response.headers), response.status_code)
            _remember(cookies, answer)
            if not response.is_success:
                raise HTTPError(answer)
            return answer

    class Guarded(youtube_dl):  # type: ignore[misc]
        def build_request_director(self, _handlers: Any, _preferences: Any = None) -> Any:
            return super().build_request_director([GuardedRH])

    return Guarded


def _remember(cookies: http.cookiejar.CookieJar, answer: Any) -> None:
    reply = SimpleNamespace(info=lambda: answer.headers)
    cookies.extract_cookies(cast("Any", reply), urllib.request.Request(answer.url))  # noqa: S310 -- opens nothing


def _item(entry: dict[str, Any], base: str, today: date) -> Item:
    address = entry.get("webpage_url") or entry.get("original_url") or entry.get("url")
    page = absolute(base, address)
    return Item(
        guid=line(f"{entry.get('ie_key') or entry.get('extractor_key') or ''} {entry.get('id') or page}"),
        media_url=absolute(base, entry.get("url")) if entry.get("_type") in {"url", "url_transparent"} else page,
        title=line(entry.get("title")),
        link=_link(entry, page),
        published=_day(entry, today),
        licence=line(entry.get("license")),
    )


def _link(entry: dict[str, Any], page: str) -> str:
    """Return the page to link to.

    Sites that yt-dlp knows name their recordings in the query (`?v=`). The query of other pages may be a token.
    """
    if not page or (entry.get("ie_key") or entry.get("extractor_key") or "Generic") == "Generic":
        return without_secrets(page) if page else ""
    return urlunsplit(urlsplit(page)._replace(netloc=urlsplit(page).netloc.rpartition("@")[2]))


def _day(entry: dict[str, Any], today: date) -> date | None:
    try:
        if timestamp := entry.get("timestamp"):
            return possible_day(datetime.fromtimestamp(float(timestamp), UTC).timetuple(), today)
        return possible_day(datetime.strptime(str(entry.get("upload_date")), "%Y%m%d").timetuple(), today)  # noqa: DTZ007
    except (TypeError, ValueError, OverflowError, OSError):
        return None
