"""Three talks to search, an encoder that separates their themes, and helpers that run queries."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript, Word
from transcription_assets.embedding import EmbeddingModel, Vectors, Weights
from transcription_assets.pipeline.embeddings import PassageOptions, RecordingInfo, recorded_on, rows_of
from transcription_assets.search.filters import Filters
from transcription_assets.search.index import Index
from transcription_assets.search.query import Answer, Mode, Query
from transcription_assets.search.searcher import Searcher

THEMES = ("sea", "bread", "chess", "ice")


class ThemeEncoder:
    """FAKE: the vector of a text encodes which of four themes it names, plus a little noise."""

    def __init__(self, name: str = "themes", width: int = 256) -> None:
        self.model = EmbeddingModel(name, "1")
        self.weights = Weights(weak_below=0.5)
        self.width = width

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = np.random.default_rng(list(text.encode())).normal(size=self.width) / 20
            for column, theme in enumerate(THEMES):
                vectors[row, column] += theme in text.lower()
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def encode_query(self, text: str) -> Vectors:
        vector: Vectors = self.encode([text])[0]
        return vector


def spoken(key: str, *sentences: str, language: str = "en", each_s: float = 6.0) -> Transcript:
    """Return a transcript of consecutive sentences of equal length, the words of each evenly spaced."""
    segments = []
    for number, sentence in enumerate(sentences):
        said = sentence.split()
        step = (each_s - 0.1) / len(said)
        start = number * each_s
        words = tuple(Word(start + i * step, start + (i + 1) * step, f" {word}", 0.9) for i, word in enumerate(said))
        segments.append(Segment(number, start, words[-1].end, sentence, words, -0.1, 0.0, 1.0))
    return Transcript(
        filename=key.rpartition("/")[2],
        language=language,
        language_probability=1.0,
        duration=len(sentences) * each_s,
        segments=tuple(segments),
        media=Media(key, "1"),
        model=SpeechModel("none", "1", "none", "none"),
    )


SEA = spoken(
    "video/talks/2024-05-17 sea.mp4",
    "We went out to sea in a small boat.",
    "The captain was called Halvorsen, and she feared nothing.",
    "On the third day a wave of eleven metres broke the mast.",
    "To be or not to be was no question then.",
    "Nobody slept, and nobody spoke.",
    "In the morning we saw the harbour of Bergen.",
)
BREAD = spoken(
    "audio/radio/brot.mp3",
    "Das Brot braucht achtzehn Stunden, said the baker of bread.",
    "L'acqua deve essere fredda.",
    "Ein Café in Zürich kauft jeden Tag.",
    language="de",
)
CHESS = spoken("video/talks/it's 100% _chess_.mp4", "A game of chess in Bergen took nine hours.", "Then came the draw.")
SAID = (SEA, BREAD, CHESS)


def rows(transcript: Transcript, encoder: ThemeEncoder | None = None, passage_s: float = 12.0) -> pl.DataFrame:
    key = transcript.media.key
    return rows_of(
        transcript,
        RecordingInfo(transcript.filename, recorded_on(key)),
        encoder or ThemeEncoder(),
        PassageOptions(passage_s),
    )


def fill(table: Index, *transcripts: Transcript, encoder: ThemeEncoder | None = None) -> None:
    table.replace(pl.concat([rows(item, encoder) for item in transcripts]), [item.media.key for item in transcripts])


def ask(searcher: Searcher, text: str, mode: Mode = Mode.HYBRID, **filters: object) -> Answer:
    return searcher.search(Query(text, mode=mode, filters=Filters(**filters)))  # type: ignore[arg-type]


def keys(answer: Answer) -> set[str]:
    return {hit.media_key for hit in answer.hits}
