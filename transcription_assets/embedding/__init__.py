"""Vectors out of text: a sentence-transformers model, unit length, so that a dot product is the cosine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transcription_assets import loading

Vectors = NDArray[np.float32]

WEAK_BELOW = 0.35
"""Cosine of a question and what only happens to be nearest, as all-MiniLM-L6-v2 gives it: docs/search.md."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a model wants before a question and before a passage; empty where its own configuration says it, or nothing.

    `weak_below` is the cosine under which a passage of this model is only the nearest that there is.
    """

    query: str = ""
    passage: str = ""
    weak_below: float = WEAK_BELOW


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What is recorded beside every vector: vectors of two models are never compared."""

    name: str
    revision: str

    def __str__(self) -> str:
        return f"{self.name}@{self.revision[:12]}" if self.revision else self.name


class Encoder(Protocol):
    """Anything that turns texts into vectors of one length."""

    @property
    def model(self) -> EmbeddingModel:
        """What is recorded beside every vector."""
        ...

    @property
    def weak_below(self) -> float:
        """The cosine under which a passage does not really fit a question."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Of passages: shape (len(texts), dimension), float32, rows of length 1."""
        ...

    def encode_query(self, text: str) -> Vectors:
        """Of a question: shape (dimension,), float32, of length 1."""
        ...


class SentenceEncoder:
    """sentence-transformers; loads its weights at first use, once, also where many threads ask at once."""

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        revision: str,
        device: str = "auto",
        batch_size: int = 32,
        prompts: Prompts | None = None,
    ) -> None:
        self._path = path
        self._device = None if device == "auto" else device
        self._batch_size = batch_size
        self._model = EmbeddingModel(name, revision)
        self._prompts = prompts or Prompts()
        self._loading = Lock()
        self._loaded: Any = None

    @property
    def model(self) -> EmbeddingModel:
        """As it was given."""
        return self._model

    @property
    def weak_below(self) -> float:
        """As the model's prompts say."""
        return self._prompts.weak_below

    @property
    def _encoder(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        with self._loading:
            if self._loaded is None:
                disable_progress_bar()  # type: ignore[no-untyped-call]  # it would draw over ours
                with loading.weights.running():
                    self._loaded = SentenceTransformer(str(self._path), device=self._device, local_files_only=True)
        return self._loaded

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self._encoder.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); sentence-transformers sorts by length, so padding costs little."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        vectors = self._encoder.encode_document(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            prompt=self._prompts.passage or None,
        )
        return np.asarray(vectors, np.float32)

    def encode_query(self, text: str) -> Vectors:
        """Shape (dimension,); with the prompt that the model wants before questions."""
        vectors = self._encoder.encode_query(
            [text], normalize_embeddings=True, show_progress_bar=False, prompt=self._prompts.query or None
        )
        return np.asarray(vectors[0], np.float32)
