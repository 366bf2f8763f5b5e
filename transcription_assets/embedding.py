"""Vectors out of text: a sentence-transformers model, unit length, so that a dot product is the cosine."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transcription_assets import loading

Vectors = NDArray[np.float32]


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

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), float32, rows of length 1."""
        ...


class SentenceEncoder:
    """sentence-transformers; loads its weights at first use, once."""

    def __init__(self, path: Path, *, name: str, revision: str, device: str = "auto", batch_size: int = 32) -> None:
        self._path = path
        self._device = None if device == "auto" else device
        self._batch_size = batch_size
        self._model = EmbeddingModel(name, revision)

    @property
    def model(self) -> EmbeddingModel:
        """As it was given."""
        return self._model

    @cached_property
    def _encoder(self) -> Any:
        with loading.weights.running():
            return self._loaded()

    def _loaded(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]  # it would draw over ours
        return SentenceTransformer(str(self._path), device=self._device, local_files_only=True)

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self._encoder.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); sentence-transformers sorts by length, so padding costs little."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        vectors = self._encoder.encode(
            list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)
