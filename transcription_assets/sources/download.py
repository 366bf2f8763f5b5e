"""Documents and recordings over HTTP: bounded, and resumed where a connection broke off."""

import json
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2

from transcription_assets.domain.urls import digest, without_secrets
from transcription_assets.errors import PermanentFailure, TooLarge, TransientFailure
from transcription_assets.guarded_http import require_success, translate_http_errors

MOST_DOCUMENT_BYTES = 50 << 20
"""Maximum size of a feed, after decompression."""
ATTEMPTS = 4
"""Attempts of one download in a row that receive nothing."""
_BLOCK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
_NO_MEDIA = re.compile(
    r"text/|image/|font/|application/(?:json|xml|xhtml|pdf|zip|[\w.-]+\+(?:xml|json))", re.IGNORECASE
)

Client = Callable[[float], httpx2.Client]
"""Makes a client whose time limit, in seconds, begins now."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document; `url` is that after redirects, `etag` and `last_modified` are sent with the next request."""

    url: str
    data: bytes
    content_type: str
    etag: str
    last_modified: str


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A complete file; `size` in bytes, `resumed` is the number of bytes that an earlier attempt had received."""

    path: Path
    url: str
    content_type: str
    size: int
    resumed: int = 0


def get_document(
    client: Client, url: str, limit_s: float, *, etag: str = "", last_modified: str = ""
) -> Document | None:
    """Return the document at `url`; None if it has not changed since it had this ETag or modification time.

    The request ends within `limit_s` seconds.

    Raises:
        TooLarge: it exceeds MOST_DOCUMENT_BYTES, of which no more were held in memory.
        TranscriptionError: as `guarded_http.translate_http_errors` and `guarded_http.require_success` raise.

    """
    conditions = {"if-none-match": etag, "if-modified-since": last_modified}
    headers = {"accept-encoding": "gzip, deflate"} | {name: value for name, value in conditions.items() if value}
    with translate_http_errors(url), client(limit_s) as asking, asking.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx2.codes.NOT_MODIFIED and (etag or last_modified):
            return None
        require_success(response, url)
        return Document(
            str(response.url),
            _bounded(response, url),
            response.headers.get("content-type", ""),
            _sendable(response.headers.get("etag", "")),
            _sendable(response.headers.get("last-modified", "")),
        )


def _bounded(response: httpx2.Response, url: str) -> bytes:
    data = bytearray()
    for block in _decoded(response, url):
        data += block
        if len(data) > MOST_DOCUMENT_BYTES:
            raise TooLarge(f"{without_secrets(url)}: larger than {MOST_DOCUMENT_BYTES >> 20} MB, which no feed needs")
    return bytes(data)


def _decoded(response: httpx2.Response, url: str) -> Iterator[bytes]:
    """Yield the content in blocks of bounded size: a small compressed block may expand to gigabytes."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in {"", "identity"}:
        yield from response.iter_raw()
        return
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise PermanentFailure(f"{without_secrets(url)}: unexpected content encoding {coding}")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
    try:
        for block in response.iter_raw():
            waiting = block
            while waiting:
                yield inflater.decompress(waiting, _BLOCK)
                waiting = inflater.unconsumed_tail
        yield inflater.flush()
    except zlib.error as error:
        raise TransientFailure(f"{without_secrets(url)}: damaged compression ({error})") from error


@dataclass(frozen=True, slots=True)
class _Partial:
    """What an incomplete file holds: the version (`validator` for `If-Range`) of which URL (a digest), and its type."""

    url_digest: str
    validator: str
    content_type: str = ""


class Downloader:
    """Downloads into a file that a later call continues, also one of another process.

    `most_bytes` is the maximum size of a recording, `limit_s` the time of one call in seconds, with all its attempts.
    `sleep` is called between attempts.
    """

    def __init__(
        self, client: Client, most_bytes: int, limit_s: float, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._most = most_bytes
        self._limit_s = limit_s
        self._sleep = sleep

    def download(self, url: str, path: Path) -> Downloaded:
        """Download `url` to `path`, and check that it is complete and can be a recording.

        A connection that breaks off is continued at once. After an error the part stays for the next call.

        Raises:
            TooLarge: it exceeds the maximum size.
            PermanentFailure: the server refused, or its content type is not that of a recording.
            TransientFailure: the server does not answer, the connection broke off repeatedly, or the time is over.

        """
        deadline = time.monotonic() + self._limit_s
        found_before = _size(path) if _record(path, url) else 0
        fruitless = 0
        while True:
            size = _size(path)
            try:
                response_type, final = self._continue(url, path, deadline)
            except TransientFailure:
                fruitless = 0 if _size(path) > size else fruitless + 1
                pause = min(2.0**fruitless, 10.0)
                is_late = time.monotonic() + pause >= deadline
                if fruitless >= ATTEMPTS or is_late or not _record(path, url):
                    raise
                self._sleep(pause)
            else:
                return Downloaded(path, final, response_type, _size(path), found_before)

    def _continue(self, url: str, path: Path, deadline: float) -> tuple[str, str]:
        """Receive what is missing; return the content type, and the URL after redirects."""
        known = _record(path, url)
        offset = _size(path) if known else 0
        headers = {"accept-encoding": "identity"}
        if known and offset:
            headers |= {"range": f"bytes={offset}-", "if-range": known.validator}
        with (
            translate_http_errors(url),
            self._client(deadline - time.monotonic()) as asking,
            asking.stream("GET", url, headers=headers) as response,
        ):
            content_type, final = response.headers.get("content-type", ""), str(response.url)
            if response.status_code == httpx2.codes.REQUESTED_RANGE_NOT_SATISFIABLE and known and offset:
                self._require_complete(response, url, path, offset)
                return known.content_type, final
            require_success(response, url)
            _require_media(response, url)
            start, total = _range(response)
            if start not in {0, offset} or (start and response.status_code != httpx2.codes.PARTIAL_CONTENT):
                forget(path)
                raise TransientFailure(f"{without_secrets(url)}: the server sent another range than the requested one")
            if start and known and _validator(response) != known.validator:
                forget(path)
                raise TransientFailure(f"{without_secrets(url)}: the server sent a part of another version")
            self._receive(response, url, path, start, total)
        return content_type, final

    def _require_complete(self, response: httpx2.Response, url: str, path: Path, offset: int) -> None:
        """Check that the file was complete already; the answer to a range at its end is 416."""
        if _range(response)[1] != offset:
            forget(path)
            raise TransientFailure(f"{without_secrets(url)}: the file changed during the download")

    def _receive(self, response: httpx2.Response, url: str, path: Path, start: int, total: int | None) -> None:
        if total is not None and total > self._most:
            self._too_large(url)
        if not start:
            forget(path)
            validator = _validator(response)
            if validator:
                _record_path(path).write_text(
                    json.dumps(asdict(_Partial(digest(url), validator, response.headers.get("content-type", "")))),
                    encoding="utf-8",
                )
        size = start
        with path.open("r+b" if start else "wb") as file:
            file.seek(start)
            for block in response.iter_raw():  # without a block size, as what is received before a break must count
                size += len(block)
                if size > self._most:
                    self._too_large(url)
                file.write(block)
        if total is not None and size != total:
            raise TransientFailure(f"{without_secrets(url)}: received {size} of {total} bytes")

    def _too_large(self, url: str) -> None:
        raise TooLarge(
            f"{without_secrets(url)}: larger than {self._most / 1e9:g} GB; see TRANSCRIPTION_SOURCE_MAX_GB",
            hint="raise TRANSCRIPTION_SOURCE_MAX_GB",
        )


def forget(path: Path) -> None:
    """Delete the file and the record of its version."""
    _record_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _require_media(response: httpx2.Response, url: str) -> None:
    """Check that the response may be a recording: servers send pages for errors and for sign-in with status 200."""
    kind = response.headers.get("content-type", "")
    if _NO_MEDIA.match(kind.strip()):
        raise PermanentFailure(f"{without_secrets(url)}: not a recording ({kind.partition(';')[0]})")
    if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        raise PermanentFailure(f"{without_secrets(url)}: the recording is sent with a content encoding")


def _range(response: httpx2.Response) -> tuple[int, int | None]:
    """Return the first byte of the response, and the size of the whole file if it is known."""
    if found := _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip()):
        return int(found[1] or 0), int(found[2])
    length = response.headers.get("content-length", "")
    is_whole = response.status_code == httpx2.codes.OK
    return 0, int(length) if is_whole and length.isdecimal() else None


def _validator(response: httpx2.Response) -> str:
    """Return the value for `If-Range`: a strong ETag, else the modification time."""
    etag = _sendable(response.headers.get("etag", ""))
    if etag and not etag.startswith("W/"):
        return etag
    return _sendable(response.headers.get("last-modified", ""))


def _sendable(validator: str) -> str:
    """Return the validator if it can be sent back as a header, else ""."""
    return validator if validator.isascii() and validator.isprintable() else ""


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _record(path: Path, url: str) -> _Partial | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        document = json.loads(_record_path(path).read_text(encoding="utf-8"))
        found = _Partial(**document)
        if path.exists() and found.url_digest == digest(url) and _sendable(found.validator):
            return found
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
