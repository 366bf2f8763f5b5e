"""Encoder for embedding services with the OpenAI protocol (OpenAI, Gemini, Cohere, vLLM, Ollama and others)."""

import json
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from transcription_assets.embedding import EmbeddingModel, Prompts, Vectors, Weights
from transcription_assets.embedding.profiles import profile
from transcription_assets.errors import PermanentFailure, Refused, TransientFailure

if TYPE_CHECKING:
    from httpx2 import Client, Response

BATCH_TEXTS = 96
BATCH_CHARACTERS = 100_000
"""Limits of one request: services refuse more than some hundred texts, or some 100 000 tokens."""
ATTEMPTS = 5
LONGEST_PAUSE_S = 30.0
CONNECT_S = 10.0
TIMEOUT_S = 60.0
"""For one response, from the request to its last byte."""
MOST_BYTES = 256 << 20
LONGEST_REASON = 300
QUERY_S = 8.0
"""Deadline for a question including retries: a person waits for the answer, and the search can do without vectors."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApiUsage:
    """Usage so far: requests, tokens as counted by the service, and their price in dollars."""

    requests: int
    tokens: int
    dollars: float


class ApiEncoder:
    """Client of `<url>/embeddings`; thread-safe.

    `key` is sent as a bearer token if it is not empty, and removed from all messages; redirects are not followed, so
    that it is sent to no other host. `dollars_per_million` is the price of a million tokens, for the cost report.
    Transient errors (429, 5xx, no response, a broken one) are retried with growing pauses, or after the service's
    `Retry-After`.

    Raises:
        PermanentFailure: `key` holds characters that are not allowed in an HTTP header.

    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str = "",
        dollars_per_million: float = 0.0,
        prompts: Prompts | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = f"{url.rstrip('/')}/embeddings"
        self._key = key.strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise PermanentFailure(
                "TRANSCRIPTION_EMBEDDING_KEY contains characters that are invalid in an HTTP header; correct the key",
                hint="correct TRANSCRIPTION_EMBEDDING_KEY",
            )
        self._price = dollars_per_million
        self._prompts = prompts or Prompts()
        self._model = EmbeddingModel(model, "")
        self._sleep = sleep
        self._counting = threading.Lock()
        self._spent = ApiUsage(0, 0, 0.0)
        self._dimension = 0

    @property
    def model(self) -> EmbeddingModel:
        """Model name of the service; services report no revision."""
        return self._model

    @property
    def weights(self) -> Weights:
        """Weights of the model's profile, else the defaults."""
        return profile(self._model.name).weights or Weights()

    @property
    def spent(self) -> ApiUsage:
        """Usage so far."""
        return self._spent

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode passages, many in each request: shape (len(texts), dimension), rows of unit length.

        Raises:
            TransientFailure: there was no response after all attempts.
            PermanentFailure: the service refused, redirected, or sent an invalid response.

        """
        if not texts:
            return np.empty((0, self._dimension or len(self.encode_query("dimension"))), np.float32)
        prompted = [self._prompts.passage + text for text in texts]
        vectors = np.concatenate([self._encode(batch, _Deadline()) for batch in _batches(prompted)])
        if self._price:
            log.info("%s: %s tokens so far, $%.4f", self._model, self._spent.tokens, self._spent.dollars)
        return vectors

    def encode_query(self, text: str) -> Vectors:
        """Encode a question within QUERY_S: shape (dimension,), unit length.

        Raises:
            TransientFailure: there was no response in time or after all attempts.
            PermanentFailure: the service refused, redirected, or sent an invalid response.

        """
        vector: Vectors = self._encode([self._prompts.query + text], _Deadline(QUERY_S))[0]
        return vector

    def _encode(self, texts: Sequence[str], deadline: "_Deadline") -> Vectors:
        # Most services refuse an empty text; its vector is meaningless anyway.
        document = {"model": self._model.name, "input": [text or " " for text in texts], "encoding_format": "float"}
        answer = self._answered(json.dumps(document).encode(), deadline)
        try:
            items = sorted(answer["data"], key=lambda item: item["index"])
            vectors = np.array([item["embedding"] for item in items], np.float32)
            tokens = int((answer.get("usage") or {}).get("total_tokens") or 0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PermanentFailure(f"invalid response of the embedding service {self._url}: {error}") from error
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True) if vectors.ndim == 2 else np.zeros(1)  # noqa: PLR2004
        if len(vectors) != len(texts) or not np.isfinite(lengths).all() or not (lengths > 0).all():
            raise PermanentFailure(
                f"invalid response of the embedding service {self._url}: {len(vectors)} vectors for {len(texts)} texts,"
                " or vectors of length 0"
            )
        self._count(tokens)
        self._dimension = vectors.shape[1]
        unit: Vectors = vectors / lengths
        return unit

    def _count(self, tokens: int) -> None:
        with self._counting:
            before = self._spent
            dollars = before.dollars + tokens * self._price / 1e6
            self._spent = ApiUsage(before.requests + 1, before.tokens + tokens, dollars)

    def _answered(self, body: bytes, deadline: "_Deadline") -> Any:
        """Send the request, retry transient errors, and return the JSON document of the response."""
        reason = ""
        for attempt in range(ATTEMPTS):
            pause = random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, 2.0**attempt)  # noqa: S311 -- no secret
            try:
                status, headers, data = self._sent(body, deadline)
                if status == 200:  # noqa: PLR2004 -- the only one with vectors
                    return json.loads(data)
                reason = self._reason(status, headers, data)
                pause = _retry_after(headers) or pause
            except _Broken as error:
                reason = str(error)
            except (ValueError, RecursionError) as error:
                reason = f"invalid JSON ({error})"
            if attempt + 1 == ATTEMPTS or pause >= deadline.remaining_s:
                break
            log.warning("%s: %s; retrying in %.1f s", self._url, reason, pause)
            self._sleep(pause)
        raise TransientFailure(
            f"the embedding service {self._url} failed {attempt + 1} times: {reason}; try again later",
            hint="try again later",
        )

    def _reason(self, status: int, headers: Mapping[str, str], data: bytes) -> str:
        """Return the reason given in a response that may be retried; raise if a retry cannot help."""
        reason = " ".join(data[:LONGEST_REASON].decode(errors="replace").split())
        reason = f"HTTP {status}: {reason.replace(self._key, '***') if self._key else reason}"
        if 300 <= status < 400:  # noqa: PLR2004 -- redirects
            hint = "set TRANSCRIPTION_EMBEDDING_URL to the target of the redirect"
            raise PermanentFailure(f"{self._url} redirects to {headers.get('location', 'nowhere')}; {hint}", hint=hint)
        if status < 500 and status not in {408, 425, 429}:  # noqa: PLR2004 -- what a retry may mend
            raise Refused(
                f"the embedding service {self._url} rejects {self._model}: {reason}; check the model, the key and the"
                " URL",
                hint="check the model, the key and the URL",
            )
        return reason

    def _sent(self, body: bytes, deadline: "_Deadline") -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and whole body of one response; raise `_Broken` if there is none."""
        import httpx2

        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        limit = min(TIMEOUT_S, deadline.remaining_s)
        until = time.monotonic() + limit
        timeout = httpx2.Timeout(limit, connect=min(CONNECT_S, limit))
        try:
            with self._client.stream("POST", self._url, content=body, headers=headers, timeout=timeout) as response:
                return response.status_code, response.headers, _body(response, until)
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
            hint = "correct TRANSCRIPTION_EMBEDDING_URL"
            raise PermanentFailure(f"invalid URL {self._url}: {error}; {hint}", hint=hint) from None
        except (httpx2.RequestError, OSError) as error:
            raise _Broken(f"{type(error).__name__}: {error}".replace(self._key or "\0", "***")) from None

    @cached_property
    def _client(self) -> "Client":
        """The client for all requests, so that connections are reused; thread-safe."""
        import httpx2

        client = httpx2.Client(follow_redirects=False)
        # Idle connections are closed with the encoder, so that callers need no close().
        weakref.finalize(self, client.close)
        return client


class _Broken(Exception):
    """There was no response, or an incomplete one."""


class _Deadline:
    """Deadline of a call, retries included."""

    def __init__(self, seconds: float = float("inf")) -> None:
        self._until = time.monotonic() + seconds

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, at least 0.1."""
        return max(0.1, self._until - time.monotonic())


def _body(response: "Response", until: float) -> bytes:
    """Read the whole body; raise `_Broken` if it is too long or too slow."""
    data = bytearray()
    for block in response.iter_bytes():
        data += block
        if len(data) > MOST_BYTES or time.monotonic() > until:
            raise _Broken("the response is too long or too slow")
    return bytes(data)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of the Retry-After header, 0.0 if it is missing or not a number."""
    try:
        return min(max(float(headers.get("retry-after", "0")), 0.0), LONGEST_PAUSE_S)
    except ValueError:
        return 0.0


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        if batch and (len(batch) == BATCH_TEXTS or sum(map(len, batch)) + len(text) > BATCH_CHARACTERS):
            yield batch
            batch = []
        batch.append(text)
    yield batch
