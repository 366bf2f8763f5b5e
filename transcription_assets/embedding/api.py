"""Vectors from an embedding service that speaks OpenAI's protocol (OpenAI, Gemini, Cohere, vLLM, Ollama and others)."""

import json
import logging
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

import numpy as np

from transcription_assets.embedding import EmbeddingModel, Prompts, Vectors
from transcription_assets.failures import PermanentFailure, TransientFailure

BATCH_TEXTS = 96
BATCH_CHARACTERS = 100_000
"""Of one request; services refuse more than some hundred texts, or some 100 000 tokens."""
ATTEMPTS = 5
LONGEST_PAUSE_S = 30.0
TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spent:
    """What was asked for so far: requests, tokens as the service counts them, and their price in dollars."""

    requests: int
    tokens: int
    dollars: float


class ApiEncoder:
    """Asks `<url>/embeddings`; thread-safe.

    `key` is sent as a bearer token where it is not empty, and stands in no message. `dollars_per_million` tokens is
    what the service charges, for the cost figure. What may pass (429, 5xx, no answer) is asked again with growing
    pauses, or after as long as the service says. TransientFailure: it did not pass. PermanentFailure: refused.
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
        self._key = key
        self._price = dollars_per_million
        self._prompts = prompts or Prompts(weak_below=0.0)
        self._model = EmbeddingModel(model, "")
        self._sleep = sleep
        self._counting = threading.Lock()
        self._spent = Spent(0, 0, 0.0)
        self._dimension = 0

    @property
    def model(self) -> EmbeddingModel:
        """As the service calls it; a service tells no revision."""
        return self._model

    @property
    def weak_below(self) -> float:
        """As the model's prompts say."""
        return self._prompts.weak_below

    @property
    def spent(self) -> Spent:
        """What was asked for so far."""
        return self._spent

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Of passages: shape (len(texts), dimension), rows of length 1; many texts in each request."""
        if not texts:
            return np.empty((0, self._dimension or len(self.encode_query("dimension"))), np.float32)
        prompted = [self._prompts.passage + text for text in texts]
        found = np.concatenate([self._asked(batch) for batch in _batches(prompted)])
        if self._price:
            log.info("%s: %s tokens so far, $%.4f", self._model, self._spent.tokens, self._spent.dollars)
        return found

    def encode_query(self, text: str) -> Vectors:
        """Of a question: shape (dimension,), of length 1."""
        vector: Vectors = self._asked([self._prompts.query + text])[0]
        return vector

    def _asked(self, texts: Sequence[str]) -> Vectors:
        # An empty text is refused by most services; its vector means nothing anyway.
        document = {"model": self._model.name, "input": [text or " " for text in texts], "encoding_format": "float"}
        answer = self._answered(json.dumps(document).encode())
        try:
            items = sorted(answer["data"], key=lambda item: item["index"])
            vectors = np.array([item["embedding"] for item in items], np.float32)
            tokens = int((answer.get("usage") or {}).get("total_tokens") or 0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PermanentFailure(f"{self._url} does not answer as an embedding service does: {error}") from error
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True) if vectors.ndim == 2 else np.zeros(1)  # noqa: PLR2004
        if len(vectors) != len(texts) or not np.isfinite(lengths).all() or not (lengths > 0).all():
            raise PermanentFailure(f"{self._url} gave {len(vectors)} vectors for {len(texts)} texts, or empty ones")
        self._count(tokens)
        self._dimension = vectors.shape[1]
        unit: Vectors = vectors / lengths
        return unit

    def _count(self, tokens: int) -> None:
        with self._counting:
            before = self._spent
            dollars = before.dollars + tokens * self._price / 1e6
            self._spent = Spent(before.requests + 1, before.tokens + tokens, dollars)

    def _answered(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(self._url, data=body, headers=headers)  # noqa: S310 -- settings allow http(s) only
        said = ""
        for attempt in range(ATTEMPTS):
            pause = random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, 2.0**attempt)  # noqa: S311 -- no secret
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 -- as above
                    return json.load(response)
            except urllib.error.HTTPError as error:
                said = f"HTTP {error.code}: {error.read(300).decode(errors='replace')}"
                if error.code != 429 and error.code < 500:  # noqa: PLR2004 -- what a retry may mend
                    raise PermanentFailure(
                        f"{self._url} refuses {self._model}: {said}. Check the model, the key and the URL"
                    ) from None
                pause = _told(error.headers) or pause
            except (OSError, ValueError) as error:
                said = str(error)
            if attempt + 1 < ATTEMPTS:
                log.warning("%s: %s; asked again in %.1f s", self._url, said, pause)
                self._sleep(pause)
        raise TransientFailure(f"{self._url} gives no vectors after {ATTEMPTS} attempts: {said}")


def _told(headers: Message) -> float:
    """Seconds that the service asks to wait; 0.0 where it says nothing that is understood."""
    try:
        return min(max(float(headers.get("Retry-After", "0")), 0.0), LONGEST_PAUSE_S)
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
