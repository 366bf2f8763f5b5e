"""FAKES for tests of the graph: they recognise no speech and encode no meaning."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import dagster as dg
import numpy as np

from transcription_assets.defs.resources import EncoderResource, SpeechResource
from transcription_assets.embedding import EmbeddingModel, Vectors, Weights
from transcription_assets.pipeline.decoding import InProcessTranscriber, Transcriber
from transcription_assets.speech.fake_engine import ScriptedEngine
from transcription_assets.workers.coordinator import Announce

__all__ = ["HashEncoder", "HashEncoding", "ScriptedEngine", "ScriptedSpeech"]

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


class ScriptedSpeech(SpeechResource):
    """FAKE: provides the engine that the test created."""

    whisper_model: str = "scripted"
    models_dir: str = ""
    scripted: dg.ResourceDependency[ScriptedEngine]

    def transcriber(self, ffmpeg: str, owner: str, _announce: Announce) -> Transcriber:
        """Return a transcriber with the same engine each time, so that a test can inspect its calls."""
        return InProcessTranscriber(self.scripted, ffmpeg, owner)


class HashEncoding(EncoderResource):
    """FAKE: provides the encoder that the test created."""

    name: str = "hash"
    models_dir: str = ""
    encoder: dg.ResourceDependency[HashEncoder]

    def open(self) -> HashEncoder:
        """Return the same encoder each time."""
        return self.encoder
