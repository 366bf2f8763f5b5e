"""A proxy between the project and a real S3 server that injects faults of networks and stores, and counts bytes.

It forwards requests unchanged, including the Host header: signatures are made for the proxy's address and stay valid.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from html import escape
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import unquote, urlsplit

from transcription_assets_tests.serving import answering, reset

_BLOCK = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """This status instead of the server's answer, with an error document that quotes the signed request as S3 does."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The server's answer, and a connection reset after `share` of its body."""

    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Cut:
    """`share` of the body under the full Content-Length, then the end of the connection."""

    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Shrunk:
    """`share` of the body as 200 with a Content-Length that fits it: nothing in the answer says that more exists."""

    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Silent:
    """No answer at all for as long as the client waits."""


@dataclass(frozen=True, slots=True)
class Held:
    """The server's answer to a request that is passed on only when `released` is set; `reached` says that it waits."""

    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


Fault = Answer | Reset | Cut | Shrunk | Silent | Held

SLOW_DOWN = Answer(503, "SlowDown")
ACCESS_DENIED = Answer(403, "AccessDenied")
EXPIRED = Answer(403, "ExpiredToken")
GONE = Answer(404, "NoSuchKey")


@dataclass(slots=True)
class _Rule:
    """A fault for matching requests, with the number of `times` left."""

    fault: Fault
    methods: str
    path: re.Pattern[str]
    times: float

    def takes(self, method: str, target: str) -> bool:
        """Return whether the fault applies to this request, and count it."""
        wanted = self.times > 0 and method in self.methods.split() and self.path.search(unquote(target)) is not None
        self.times -= wanted
        return wanted


@dataclass(slots=True)
class FaultProxy:
    """State of the proxy for a test: its address, the rules, the requests received and the bytes sent."""

    endpoint: str
    upstream: str
    sent: int = 0
    requests: list[str] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def fail(self, fault: Fault, *, times: float = float("inf"), methods: str = "GET", path: str = "") -> None:
        """Apply the fault to the next `times` requests with one of `methods` whose path matches `path`."""
        with self._lock:
            self._rules.append(_Rule(fault, methods, re.compile(path), times))

    def behave(self) -> None:
        """Remove all rules and reset the counters."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()
            self.sent = 0

    def _fault(self, method: str, target: str) -> Fault | None:
        with self._lock:
            self.requests.append(f"{method} {urlsplit(target).path}")
            return next((rule.fault for rule in self._rules if rule.takes(method, target)), None)

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: FaultProxy

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection with a small buffer: bytes that wait in it are counted but may never be read."""
        connection, address = super().get_request()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BLOCK)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """Ignore errors: the tests make clients disconnect during a response."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        proxy = cast("_Server", self.server).proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match proxy._fault(self.command, self.path):  # noqa: SLF001 - the handler is part of the proxy
            case Answer(status, code):
                self._refuse(status, code)
            case Silent():
                proxy._closing.wait(60)  # noqa: SLF001
                self.close_connection = True
            case Held(reached, released):
                reached.set()
                released.wait(60)
                self._pass_on(proxy, body, None)
            case fault:
                self._pass_on(proxy, body, fault)

    def _refuse(self, status: int, code: str) -> None:
        signed = "".join(f"{name}:{value}\n" for name, value in self.headers.items()) + self.path
        document = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>made by the fault proxy</Message>"
            f"<CanonicalRequest>{escape(signed)}</CanonicalRequest></Error>"
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(document)

    def _pass_on(self, proxy: FaultProxy, body: bytes, fault: Reset | Cut | Shrunk | None) -> None:
        host, _, port = proxy.upstream.partition(":")
        with closing(HTTPConnection(host, int(port), timeout=60)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            self._answer(proxy, connection.getresponse(), fault)

    def _answer(self, proxy: FaultProxy, response: HTTPResponse, fault: Reset | Cut | Shrunk | None) -> None:
        length = response.getheader("Content-Length")
        whole = b"" if length is not None or self.command == "HEAD" else response.read()
        size = int(length) if length is not None else len(whole)
        given = size if fault is None else int(size * fault.share)
        shrunk = isinstance(fault, Shrunk)
        self.send_response_only(200 if shrunk else response.status)
        for name, value in response.getheaders():
            hidden = {"content-length", "transfer-encoding", "connection", *(("content-range",) if shrunk else ())}
            if name.lower() not in hidden:
                self.send_header(name, value)
        self.send_header("Content-Length", str(given if shrunk else size))
        self.end_headers()
        if self.command != "HEAD":
            self._send(proxy, response, whole, given)
        if isinstance(fault, Reset):
            reset(self)
        self.close_connection = self.close_connection or isinstance(fault, Cut)

    def _send(self, proxy: FaultProxy, response: HTTPResponse, whole: bytes, size: int) -> None:
        try:
            while size > 0 and (block := (whole or response.read(min(_BLOCK, size)))[:size]):
                proxy._count(len(block))  # noqa: SLF001 - count before the client, which may check at once, has it
                self.wfile.write(block)
                size -= len(block)
                whole = whole[len(block) :]
        except OSError:
            self.close_connection = True


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._handle)  # noqa: SLF001


@contextmanager
def between(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy for the server at the URL `upstream` on a free port until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy = proxy = FaultProxy(f"http://127.0.0.1:{server.server_port}", urlsplit(upstream).netloc)
    with answering(server):
        try:
            yield proxy
        finally:
            proxy._closing.set()  # noqa: SLF001
