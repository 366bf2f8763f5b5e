"""Sentence encoders: text to vectors of unit length, so that a dot product is the cosine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transcription_assets.costs import timing
from transcription_assets.embedding.profiles import Weights, profile

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prefixes of questions and of passages; empty if the model's own configuration has them, or needs none."""

    query: str = ""
    passage: str = ""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Model name and revision stored with every vector: vectors of two models are never compared."""

    name: str
    revision: str

    def __str__(self) -> str:
        return f"{self.name}@{self.revision[:12]}" if self.revision else self.name


class Encoder(Protocol):
    """An encoder of texts into vectors of one dimension."""

    @property
    def model(self) -> EmbeddingModel:
        """Model stored with every vector."""
        ...

    @property
    def weights(self) -> Weights:
        """Weights of the ranking by the model's profile."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode passages: shape (len(texts), dimension), float32, rows of unit length.

        Raises:
            TranscriptionError: a service refused or did not respond.

        """
        ...

    def encode_query(self, text: str) -> Vectors:
        """Encode a question: shape (dimension,), float32, unit length.

        Raises:
            TranscriptionError: a service refused or did not respond.

        """
        ...


class SentenceEncoder:
    """Encoder with sentence-transformers; thread-safe. Loads its weights once, at first use."""

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
        """Name and revision given at construction."""
        return self._model

    @property
    def weights(self) -> Weights:
        """Weights of the model's profile, else the defaults."""
        return profile(self._model.name).weights or Weights()

    @property
    def _encoder(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        with self._loading:
            if self._loaded is None:
                disable_progress_bar()  # it would overwrite our progress bar
                with timing.weights.running():
                    self._loaded = SentenceTransformer(str(self._path), device=self._device, local_files_only=True)
        return self._loaded

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return int(self._encoder.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode passages, shape (len(texts), dimension); sorting by length (by the library) makes padding cheap."""
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
        """Encode a question with the model's prompt for questions, shape (dimension,)."""
        vectors = self._encoder.encode_query(
            [text], normalize_embeddings=True, show_progress_bar=False, prompt=self._prompts.query or None
        )
        return np.asarray(vectors[0], np.float32)
