"""Fake speech: samples whose levels encode words, with a matching detector, decoder and engine."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech import SAMPLE_RATE, AudioSource, Hardware, Samples, SpeechResult, Whisper
from transcription_assets.speech.decoder import Choose, Chunk, Decoded

STEP = SAMPLE_RATE // 100


LEVELS = 4000


def loud(samples: Samples) -> list[Region]:
    """Fake voice activity detector: return the regions that are not zero."""
    active = np.concatenate([[False], samples != 0, [False]])
    edges = np.flatnonzero(active[1:] != active[:-1])
    return [Region(float(start / SAMPLE_RATE), float(end / SAMPLE_RATE)) for start, end in edges.reshape(-1, 2)]


@dataclass
class SpellingDecoder:
    """Fake decoder: each run of one level is a word, the number of that level; a word that is cut becomes two."""

    languages: Sequence[tuple[str, float]] = (("en", 0.9), ("de", 0.1))
    batches: list[list[float]] = field(default_factory=list)
    failing_on: frozenset[int] = frozenset()
    most: int = 1000
    no_memory: str = "CUDA failed with error out of memory"

    def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
        self._require_memory(batch)
        self.batches.append([round(chunk.length, 2) for chunk in batch])
        return [self._decoded(chunk, choose(number, self.languages)) for number, chunk in enumerate(batch)]

    def careful(self, _chunk: Chunk, _language: str) -> list[Segment]:
        return []

    def in_language(self, batch: Sequence[Chunk], language: str) -> list[Segment]:
        return [item.segment for item in self.decode(batch, lambda _number, _own: (language, 0.9))]

    def no_speech(self, batch: Sequence[Chunk]) -> list[float]:
        """Return a low probability for chunks that contain a word."""
        self._require_memory(batch)
        return [0.1 if any(True for _ in spelt(chunk.samples)) else 0.9 for chunk in batch]

    def _require_memory(self, batch: Sequence[Chunk]) -> None:
        if len(batch) > self.most:
            raise RuntimeError(self.no_memory)

    def _decoded(self, chunk: Chunk, language: tuple[str, float]) -> Decoded:
        words = tuple(spelt(chunk.samples))
        if self.failing_on & {int(word.word) for word in words}:
            raise ValueError("this one cannot be decoded")
        text = "".join(word.word for word in words)
        segment = Segment(0, 0.0, chunk.length, text, words, -0.1, 0.0, 1.0, False, *language)  # noqa: FBT003
        return Decoded(segment, self.languages)


def spelt(samples: Samples) -> Iterator[Word]:
    """Yield the words in these samples: the runs of one level that is not zero."""
    levels = np.round(samples * LEVELS).astype(np.int16)
    edges = [0, *(np.flatnonzero(levels[1:] != levels[:-1]) + 1).tolist(), len(levels)]
    for start, end in pairwise(edges):
        if start < end and levels[start]:
            yield Word(start / SAMPLE_RATE, end / SAMPLE_RATE, f" {levels[start]}", 0.9)


def spelling(words: Sequence[Word], duration: float) -> Samples:
    """Return samples that encode these words; each level is the number in the text of the word."""
    samples = np.zeros(round(duration * SAMPLE_RATE), np.float32)
    for word in words:
        samples[round(word.start * SAMPLE_RATE) : round(word.end * SAMPLE_RATE)] = int(word.word) / LEVELS
    return samples


def in_blocks(samples: Samples, seconds: float = 1.0) -> Iterator[Samples]:
    step = int(seconds * SAMPLE_RATE)
    for start in range(0, len(samples), step):
        yield samples[start : start + step]


def seekable(samples: Samples, **changes: object) -> AudioSource:
    def read(_channel: int, start: float) -> Iterable[Samples]:
        return in_blocks(samples[round(start * SAMPLE_RATE) :])

    return AudioSource(read, **changes)  # type: ignore[arg-type]


def engine(decoder: SpellingDecoder, **hardware: object) -> Whisper:
    made = Whisper(Path(), name="scripted", revision="1", hardware=Hardware("cpu", **hardware))  # type: ignore[arg-type]
    made.__dict__["_decoder"] = decoder
    return made


def good(answers: Iterable[SpeechResult | Exception]) -> list[SpeechResult]:
    found = list(answers)
    assert not [answer for answer in found if isinstance(answer, Exception)], found
    return [answer for answer in found if isinstance(answer, SpeechResult)]


def texts(heard: SpeechResult) -> list[str]:
    return [word.word for segment in heard.segments for word in segment.words]


def said(length: float, *, first: int = 1, pause: float = 0.5, word: float = 0.4) -> list[Word]:
    """Return phrases of five words with pauses between them."""
    words, clock, number = [], 0.2, first
    while clock + 5 * word < length:
        for _ in range(5):
            words.append(Word(round(clock, 3), round(clock + word, 3), f" {number}", 0.9))
            clock, number = clock + word, number + 1
        clock += pause
    return words
