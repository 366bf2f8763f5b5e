"""Encoder for embedding services with the OpenAI protocol (OpenAI, Gemini, Cohere, vLLM, Ollama and others)."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transcription_assets.embedding import EmbeddingModel, Prompts, Vectors, Weights
from transcription_assets.embedding.profiles import profile
from transcription_assets.errors import PermanentFailure
from transcription_assets.service_client import Deadline, ServiceClient

BATCH_TEXTS = 96
BATCH_CHARACTERS = 100_000
"""Limits of one request: services refuse more than some hundred texts, or some 100 000 tokens."""
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

    `dollars_per_million` is the price of a million tokens, for the cost report. For `key`, redirects and retries see
    `ServiceClient`.

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
        self._service = ServiceClient(url, "embedding", key=key, sleep=sleep)
        self._price = dollars_per_million
        self._prompts = prompts or Prompts()
        self._model = EmbeddingModel(model, "")
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
        vectors = np.concatenate([self._encode(batch, Deadline()) for batch in _batches(prompted)])
        if self._price:
            log.info("%s: %s tokens so far, $%.4f", self._model, self._spent.tokens, self._spent.dollars)
        return vectors

    def encode_query(self, text: str) -> Vectors:
        """Encode a question within QUERY_S: shape (dimension,), unit length.

        Raises:
            TransientFailure: there was no response in time or after all attempts.
            PermanentFailure: the service refused, redirected, or sent an invalid response.

        """
        vector: Vectors = self._encode([self._prompts.query + text], Deadline(QUERY_S))[0]
        return vector

    def _encode(self, texts: Sequence[str], deadline: Deadline) -> Vectors:
        # Most services refuse an empty text; its vector is meaningless anyway.
        document = {"model": self._model.name, "input": [text or " " for text in texts], "encoding_format": "float"}
        content, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
        answer = self._service.post("embeddings", str(self._model), deadline, content=content, headers=headers)
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


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        if batch and (len(batch) == BATCH_TEXTS or sum(map(len, batch)) + len(text) > BATCH_CHARACTERS):
            yield batch
            batch = []
        batch.append(text)
    yield batch
