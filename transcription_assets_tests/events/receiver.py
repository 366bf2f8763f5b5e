"""A server that receives webhooks, whose answers are scripted."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from transcription_assets_tests.serving import answering, reset

SECRET = b"0123456789abcdef0123456789abcdef"
SECRET_TEXT = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
TOLERANCE_S = 300
"""Seconds by which the time of a webhook may differ from that of the receiver: an older one may be replayed."""


def is_valid(headers: Mapping[str, str], body: bytes, secret: bytes, now: float) -> bool:
    """Return whether a webhook has a signature by this secret and was sent within TOLERANCE_S; names in lower case."""
    identifier, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()) or abs(now - int(timestamp)) > TOLERANCE_S:
        return False
    signed = f"{identifier}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest())
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(each.encode(errors="replace"), expected) for each in given)


@dataclass
class Answer:
    """What a request gets: a status with headers, or `hang` (until the server stops), `drip` (a header that never
    ends), `close` (no answer), `endless` (a status and a body that never ends).
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    how: str = ""


@dataclass(frozen=True)
class Received:
    """One request: its headers by lower-case names, and its body."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed(self, secret: bytes = SECRET) -> bool:
        return is_valid(self.headers, self.body, secret, int(self.headers["webhook-timestamp"]))


@dataclass
class Receiver:
    """The server; `answer` decides on each request, `requests` has all of them, `taken` those that it accepted.

    The path `broken` answers 500.
    """

    address: str = ""
    broken: str = ""
    answer: Callable[[Received], Answer] = lambda _request: Answer()
    requests: list[Received] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.address}/hook"

    @property
    def ids(self) -> list[str]:
        return [each.headers["webhook-id"] for each in self.taken]


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        received = Received({name.lower(): value for name, value in self.headers.items()}, body)
        receiver = self.receiver
        answer = Answer(500) if receiver.broken and self.path == receiver.broken else receiver.answer(received)
        with receiver.lock:
            receiver.requests.append(received)
            receiver.paths.append(self.path)
            if 200 <= answer.status < 300 and not answer.how:
                receiver.taken.append(received)
        if answer.how == "hang":
            receiver.stopping.wait(60)
            return
        if answer.how == "close":
            reset(self)
            return
        if answer.how == "drip":
            self._drip(b"HTTP/1.1 200 OK\r\nx-slow: ")
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.how == "endless":
            self._drip(b"")

    def do_GET(self) -> None:
        self.receiver.paths.append(self.path)
        self.send_response(200)
        self.end_headers()

    def _drip(self, start: bytes) -> None:
        self.wfile.write(start)
        while not self.receiver.stopping.wait(0.1):
            self.wfile.write(b"x")
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the base class
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Drop the error: clients that give up early are expected."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver until the block ends."""
    made = Receiver()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": made}))
    with answering(server) as address:
        made.address = address
        try:
            yield made
        finally:
            made.stopping.set()
