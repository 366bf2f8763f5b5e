"""A FAKE language model behind the real protocol: an HTTP server with scripted replies."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

from transcription_assets_tests.serving import answering


@dataclass
class FakeLanguageModel:
    """Replies with `reply` to every chat, or with the next of `raw` (status, headers, body).

    `asked` holds the requests, `keys` their Authorization headers. It hangs until `go_on` is set if `hangs`.
    """

    reply: str = ""
    raw: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hangs: bool = False
    go_on: Event = field(default_factory=Event)
    url: str = ""

    @property
    def prompt(self) -> str:
        """The last message of the last request."""
        return str(self.asked[-1]["messages"][-1]["content"])


@contextmanager
def language_model() -> Iterator[FakeLanguageModel]:
    made = FakeLanguageModel()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            made.keys.append(self.headers.get("Authorization", ""))
            if made.hangs:
                made.go_on.wait(60)
            body = json.dumps({"choices": [{"message": {"content": made.reply}}]}).encode()
            status, headers, body = made.raw.pop(0) if made.raw else (200, {}, body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        made.url = f"{address}/v1"
        try:
            yield made
        finally:
            made.go_on.set()
