"""A small HTTP server of a folder with range requests, which can simulate failures of stores and networks."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, cast
from urllib.parse import quote, unquote, urlsplit

from transcription_assets_tests.serving import answering, reset

SECRET = "X-Amz-Credential=AKIDSECRET&X-Amz-Security-Token=TOKENSECRET&X-Amz-Signature=SIGNATURESECRET"
"""The query of every URL; no message may contain any part of it."""

Mood = Literal["well", "reset at once", "reset half-way", "close half-way", "hang half-way"] | int
"""The response to a request: normal, a broken connection, or an HTTP status."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    folder: Path
    moods: list[Mood]
    served: int
    closing: threading.Event
    scheme: str = "http"

    def handle_error(self, *_: object) -> None:
        """Ignore readers that disconnect early, which the tests do on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = cast("_Server", self.server)
        mood = server.moods.pop(0) if len(server.moods) > 1 else server.moods[0]
        if isinstance(mood, int):
            self._status(mood)
        elif mood == "reset at once":
            reset(self)
        else:
            self._serve(server.folder / unquote(urlsplit(self.path).path).lstrip("/"), mood, server)

    def _status(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _serve(self, path: Path, mood: str, server: _Server) -> None:
        if not path.is_file():
            self._status(404)
            return
        data = path.read_bytes()
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "bytes=0-")
        first = int(match[1]) if match else 0
        last = min(int(match[2]), len(data) - 1) if match and match[2] else len(data) - 1
        if first > last:
            self._status(416)
            return
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        end = last + 1 if mood == "well" else min(last + 1, len(data) // 2)
        with suppress(OSError):
            self.wfile.write(data[first:end])
            server.served += max(end - first, 0)
        if mood == "reset half-way":
            reset(self)
        elif mood == "close half-way":
            self.close_connection = True
        elif mood == "hang half-way":
            server.closing.wait(60)


class HttpStore:
    """The interface for tests: links to the files, and the responses to the next requests."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def url(self, name: str) -> str:
        """Return a link to a file of the folder that looks presigned."""
        host, port = self._server.server_address[:2]
        return f"{self._server.scheme}://{host!s}:{port}/{quote(name)}?{SECRET}"

    def answer(self, *moods: Mood) -> None:
        """Answer the next requests with one of `moods` each, and all later ones with the last."""
        self._server.moods = list(moods)

    @property
    def served(self) -> int:
        """Number of bytes sent so far."""
        return self._server.served


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[HttpStore]:
    """Serve `folder` on a free port of this machine inside the block, over https with a `certificate`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    server.folder, server.moods, server.served, server.closing = folder, ["well"], 0, threading.Event()
    with answering(server):
        try:
            yield HttpStore(server)
        finally:
            server.closing.set()
