"""FAKES, for tests about the graph and not about recognition: nothing here listens or understands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import dagster as dg
import numpy as np

from transcription_assets.defs.resources import EncoderResource, SpeechResource
from transcription_assets.embedding import EmbeddingModel, Vectors
from transcription_assets.speech.scripted import ScriptedEngine

__all__ = ["HashEncoder", "HashEncoding", "ScriptedEngine", "ScriptedSpeech"]

DIMENSION = 8


@dataclass(slots=True)
class HashEncoder:
    """The vector of a text follows from its bytes: the same text is found, nothing like it is."""

    model: EmbeddingModel = field(default_factory=lambda: EmbeddingModel("hash", "1"))
    dimension: int = DIMENSION
    encoded: list[str] = field(default_factory=list)
    weak_below: float = 0.5

    def encode_query(self, text: str) -> Vectors:
        """Shape (dimension,), of length 1."""
        vector: Vectors = self.encode([text])[0]
        return vector

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), rows of length 1."""
        self.encoded += texts
        seeds = [int.from_bytes(sha256(text.encode()).digest()[:8]) for text in texts]
        vectors = np.array([np.random.default_rng(seed).normal(size=self.dimension) for seed in seeds], np.float32)
        vectors = vectors.reshape(len(texts), self.dimension)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


class ScriptedSpeech(SpeechResource):
    """FAKE: gives the engine that the test made."""

    name: str = "scripted"
    models_dir: str = ""
    engine: dg.ResourceDependency[ScriptedEngine]

    def open(self) -> ScriptedEngine:
        """The same engine each time, so that a test can see what it was asked."""
        return self.engine


class HashEncoding(EncoderResource):
    """FAKE: gives the encoder that the test made."""

    name: str = "hash"
    models_dir: str = ""
    encoder: dg.ResourceDependency[HashEncoder]

    def open(self) -> HashEncoder:
        """The same encoder each time."""
        return self.encoder
