"""The client of services against a real HTTP server: what its messages hold, and how long it waits."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from transcription_assets.service_client import LONGEST_PAUSE_S, Deadline, NoAnswer, Rejected, ServiceClient
from transcription_assets_tests.serving import answering

KEY = 'sk-"a/b+c=<d>&e\\f'


class Service:
    """STAND-IN for a service: it gives the same answer to every request."""

    url = ""
    status = 200
    body = b"{}"
    retry_after = ""


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(made.status)
            if made.retry_after:
                self.send_header("Retry-After", made.retry_after)
            self.end_headers()
            self.wfile.write(made.body)

        def log_message(self, *_: object) -> None:
            """Do not log."""

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        made.url = address
        yield made


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        json.dumps(KEY)[1:-1],
        json.dumps(KEY)[1:-1].replace("/", "\\/").replace("<", "\\u003C"),
        quote(KEY, safe=""),
        quote(KEY, safe="").lower(),
        KEY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;"),
        KEY.replace('"', "&#34;").replace("/", "&#x2F;"),
    ],
    ids=["plain", "json", "json of others", "url", "url in lower case", "html", "html numbers"],
)
@pytest.mark.parametrize("before", [0, 290, 295], ids=str)
def test_no_part_of_the_key_is_in_a_message(form: str, before: int, service: Service) -> None:
    service.status, service.body = 401, f"{'.' * before}{form} is wrong".encode()
    with pytest.raises(Rejected) as failure:
        ServiceClient(service.url, "speech", key=KEY).post("x", "m", content=b"")
    message = str(failure.value)
    assert "sk-" not in message.lower()
    assert "***"[: 300 - before] in message


@pytest.mark.parametrize("stated", ["nan", "inf", "-inf", "1e999", "9" * 400, "-7", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_retry_after_gives_a_possible_pause(stated: str, service: Service) -> None:
    service.status, service.retry_after = 503, stated
    pauses: list[float] = []
    with pytest.raises(NoAnswer) as failure:
        ServiceClient(service.url, "speech", attempts=2, sleep=pauses.append).post("x", "m", content=b"")
    assert (failure.value.status, failure.value.connected) == (503, True)
    (pause,) = pauses
    assert 0 < pause <= LONGEST_PAUSE_S


def test_no_connection_is_told_apart() -> None:
    with pytest.raises(NoAnswer) as failure:
        ServiceClient("http://127.0.0.1:1", "speech", attempts=1).post("x", "m", content=b"")
    assert (failure.value.status, failure.value.connected) == (0, False)


def test_the_end_of_a_deadline_ends_a_pause(service: Service) -> None:
    service.status, service.retry_after = 503, "30"
    deadline = Deadline()
    threading.Timer(0.3, deadline.end).start()
    started = time.monotonic()
    with pytest.raises(NoAnswer):
        ServiceClient(service.url, "speech").post("x", "m", deadline, content=b"")
    assert time.monotonic() - started < LONGEST_PAUSE_S - 5
