"""FAKES, for tests about the graph and not about recognition: nothing here listens or understands."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import dagster as dg
import numpy as np

from transcription_assets.chunks import Region, coverage
from transcription_assets.defs.resources import EncoderResource, SpeechResource
from transcription_assets.embedding import EmbeddingModel, Vectors
from transcription_assets.speech import SAMPLE_RATE, Heard, Samples, SpeechOptions
from transcription_assets.transcript import Segment, SpeechModel, Word

DIMENSION = 8


@dataclass(slots=True)
class ScriptedEngine:
    """Says the sentences of its script, or raises the failures in it, one at each call.

    An engine is told no names, so a recording is known by its length: `script` and `failures` are by whole seconds.
    `heard` counts what it was asked to hear, by the same lengths.
    """

    script: Mapping[int, Sequence[str]] = field(default_factory=dict)
    failures: dict[int, list[Exception]] = field(default_factory=dict)
    options: SpeechOptions = field(default_factory=SpeechOptions)
    model: SpeechModel = field(default_factory=lambda: SpeechModel("scripted", "1", "none", "fake"))
    heard: list[int] = field(default_factory=list)

    def transcribe(self, blocks: Iterable[Samples], progress: Callable[[float], None] = lambda _seconds: None) -> Heard:
        """Read the sound to its end, then say one sentence after another, evenly over its length."""
        duration = sum(len(block) for block in blocks) / SAMPLE_RATE
        seconds = round(duration)
        self.heard.append(seconds)
        if self.failures.get(seconds):
            raise self.failures[seconds].pop(0)
        progress(duration)
        sentences = self.script.get(seconds, [f"These are {seconds} seconds."])
        segments = tuple(_evenly(sentences, duration))
        words = [word for segment in segments for word in segment.words]
        voiced = [Region(0.0, duration)] if segments else []
        return Heard(segments, "en" if segments else "", 1.0, duration, coverage(voiced, words))


def _evenly(sentences: Sequence[str], duration: float) -> Iterable[Segment]:
    tokens = [(number, token) for number, sentence in enumerate(sentences) for token in sentence.split()]
    step = duration / max(1, len(tokens))
    words = [(number, Word(i * step, (i + 1) * step, f" {token}", 0.9)) for i, (number, token) in enumerate(tokens)]
    for number, sentence in enumerate(sentences):
        own = tuple(word for sentence_number, word in words if sentence_number == number)
        yield Segment(number, own[0].start, own[-1].end, sentence, own, -0.2, 0.01, 1.2)


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
