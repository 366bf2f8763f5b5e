"""FAKES that recognise no speech and encode no meaning, without Dagster: worker processes would wait for its import."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from transcription_assets.embedding import EmbeddingModel, Vectors, Weights
from transcription_assets.speech.fake_engine import ScriptedEngine

__all__ = ["HashEncoder", "ScriptedEngine"]

DIMENSION = 8


@dataclass(slots=True)
class HashEncoder:
    """FAKE: the vector of a text is derived from a hash of its bytes, so only identical texts are similar."""

    model: EmbeddingModel = field(default_factory=lambda: EmbeddingModel("hash", "1"))
    dimension: int = DIMENSION
    encoded: list[str] = field(default_factory=list)
    weights: Weights = field(default_factory=lambda: Weights(weak_below=0.5))

    def encode_query(self, text: str) -> Vectors:
        """Return a unit vector of shape (dimension,)."""
        vector: Vectors = self.encode([text])[0]
        return vector

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors of shape (len(texts), dimension)."""
        self.encoded += texts
        seeds = [int.from_bytes(sha256(text.encode()).digest()[:8]) for text in texts]
        vectors = np.array([np.random.default_rng(seed).normal(size=self.dimension) for seed in seeds], np.float32)
        vectors = vectors.reshape(len(texts), self.dimension)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit
