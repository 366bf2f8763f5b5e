"""Sentence encoders: text to vectors of unit length, so that a dot product is the cosine."""

from transcription_assets.embedding.encoder import (
    EmbeddingModel,
    Encoder,
    Prompts,
    SentenceEncoder,
    Vectors,
)
from transcription_assets.embedding.profiles import Weights

__all__ = ["EmbeddingModel", "Encoder", "Prompts", "SentenceEncoder", "Vectors", "Weights"]
