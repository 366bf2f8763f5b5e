"""Vectors from a service: a real HTTP server with the OpenAI protocol and simulated failures."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from transcription_assets import service_client
from transcription_assets.embedding import Prompts, api
from transcription_assets.embedding.api import ApiEncoder
from transcription_assets.errors import PermanentFailure, Refused, TransientFailure
from transcription_assets_tests.serving import answering

KEY = "sk-very-secret"


@dataclass
class Service:
    """Fake model behind a real protocol: a vector is (length, words + 1) of the text, not normalised."""

    url: str = ""
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def answer(self, document: dict[str, Any]) -> bytes:
        data = [
            {"index": place, "embedding": [float(len(text)), float(len(text.split()) + 1)]}
            for place, text in enumerate(document["input"])
        ]
        return json.dumps({"data": data[::-1], "usage": {"total_tokens": 10 * len(data)}}).encode()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append(document)
            made.keys.append(self.headers.get("Authorization", ""))
            if made.failures:
                code, headers = made.failures.pop(0)
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b'{"error": "not now"}')
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(made.answers.pop(0) if made.answers else made.answer(document))

        def log_message(self, *_: object) -> None:
            """Do not log."""

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        made.url = f"{address}/v1"
        yield made


def test_batched_vectors_are_in_order_and_of_unit_length(service: Service) -> None:
    texts = ["word " * (number % 7) for number in range(2 * api.BATCH_TEXTS + 1)]
    encoder = ApiEncoder(service.url, "some-model", key=KEY, dollars_per_million=2.0)
    vectors = encoder.encode(texts)
    assert [len(asked["input"]) for asked in service.asked] == [api.BATCH_TEXTS, api.BATCH_TEXTS, 1]
    assert {asked["model"] for asked in service.asked} == {"some-model"}
    assert set(service.keys) == {f"Bearer {KEY}"}
    expected = np.array([[len(text or " "), len(text.split()) + 1] for text in texts], float)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    assert encoder.spent == api.ApiUsage(3, 10 * len(texts), pytest.approx(20.0 * len(texts) / 1e6))


def test_long_texts_are_sent_in_smaller_batches(service: Service) -> None:
    ApiEncoder(service.url, "m").encode(["x" * 60_000] * 3)
    assert [len(asked["input"]) for asked in service.asked] == [1, 1, 1]


def test_queries_and_passages_get_their_prompts(service: Service) -> None:
    encoder = ApiEncoder(service.url, "m", prompts=Prompts("query: ", "passage: "))
    encoder.encode(["a"])
    assert encoder.encode_query("b").shape == (2,)
    assert [asked["input"] for asked in service.asked] == [["passage: a"], ["query: b"]]


def test_transient_errors_are_retried_after_the_stated_delay(service: Service) -> None:
    service.failures = [(429, {"Retry-After": "7"}), (503, {}), (500, {"Retry-After": "soon"})]
    pauses: list[float] = []
    assert ApiEncoder(service.url, "m", sleep=pauses.append).encode(["a"]).shape == (1, 2)
    assert pauses[0] == 7.0
    assert all(0 < pause <= service_client.LONGEST_PAUSE_S for pause in pauses)


def test_a_lasting_error_is_transient_and_omits_the_key(service: Service) -> None:
    service.failures = [(503, {})] * service_client.ATTEMPTS
    with pytest.raises(TransientFailure, match="503") as failure:
        ApiEncoder(service.url, "m", key=KEY, sleep=lambda _s: None).encode(["a"])
    assert KEY not in str(failure.value)
    with pytest.raises(TransientFailure):
        ApiEncoder("http://127.0.0.1:1/v1", "m", sleep=lambda _s: None).encode(["a"])


@pytest.mark.parametrize("code", [400, 401, 404])
def test_a_refused_request_is_not_retried(service: Service, code: int) -> None:
    service.failures = [(code, {})]
    with pytest.raises(PermanentFailure, match=str(code)):
        ApiEncoder(service.url, "m", key=KEY).encode(["a"])
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[]",
        b'{"data": [{"index": 0, "embedding": [0, 0]}]}',
        b'{"data": [{"index": 0}]}',
        b'{"data": []}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]}',
    ],
)
def test_an_invalid_response_is_never_used_as_vectors(service: Service, answer: bytes) -> None:
    service.answers = [answer]
    with pytest.raises(PermanentFailure):
        ApiEncoder(service.url, "m").encode(["a"])


class Stream:
    """A raw server with one given response per connection, for responses that are not valid HTTP."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while self.answers:
            with suppress(OSError):
                connection, _ = self._socket.accept()
                with connection:
                    self.asked.append(connection.recv(1 << 16))
                    connection.sendall(self.answers.pop(0))
        self._socket.close()


GOOD = b'{"data": [{"index": 0, "embedding": [3.0, 4.0]}]}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD)


@pytest.mark.parametrize(
    "broken",
    [
        WHOLE[:-20],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\n" + GOOD[:20],
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["short body", "short chunk", "short json", "status line", "status", "empty", "encoding"],
)
def test_a_broken_response_is_retried(broken: bytes) -> None:
    service = Stream(broken, WHOLE)
    vectors = ApiEncoder(service.url, "m", key=KEY, sleep=lambda _s: None).encode(["a"])
    np.testing.assert_allclose(vectors, [[0.6, 0.8]], rtol=1e-6)
    assert len(service.asked) == 2


def test_connections_are_closed_with_the_encoder(service: Service) -> None:
    encoder = ApiEncoder(service.url, "m", key=KEY)
    encoder.encode(["a"])
    client = vars(vars(encoder)["_service"])["_client"]
    assert not client.is_closed
    del encoder
    assert client.is_closed


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_without_sending_the_key(service: Service, code: int) -> None:
    elsewhere = Stream(WHOLE)
    service.failures = [(code, {"Location": f"{elsewhere.url}/embeddings"})]
    with pytest.raises(PermanentFailure) as failure:
        ApiEncoder(service.url, "m", key=KEY).encode(["a"])
    assert elsewhere.asked == []
    assert "TRANSCRIPTION_EMBEDDING_URL" in failure.value.hint
    assert KEY not in str(failure.value)


def test_a_key_echoed_by_the_service_is_not_in_the_error() -> None:
    body = f"bad key {KEY}".encode()
    service = Stream(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    with pytest.raises(Refused) as failure:
        ApiEncoder(service.url, "m", key=KEY).encode(["a"])
    assert KEY not in str(failure.value)


def test_a_query_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "QUERY_S", 0.3)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(TransientFailure):
        ApiEncoder(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", "m").encode_query("a")
