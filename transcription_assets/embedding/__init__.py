"""Sentence encoders: text to vectors of unit length, so that a dot product is the cosine."""

from transcription_assets.embedding.encoder import (
    WEAK_BELOW,
    EmbeddingModel,
    Encoder,
    Prompts,
    SentenceEncoder,
    Vectors,
)

__all__ = ["WEAK_BELOW", "EmbeddingModel", "Encoder", "Prompts", "SentenceEncoder", "Vectors"]
