"""The `card` and `near` columns: everything that ranking and display need of a passage, in two values.

In a table of a million rows each column that is read costs a millisecond, nested lists several. So all text of a
passage is one JSON string, and all its vectors are one byte string.
"""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from transcription_assets.domain.passages import Sentence, join_sentences
from transcription_assets.search.ranking import LONG_SENTENCE_S, Candidate, Vector


def encode_card(
    media_key: str,
    *,
    title: str,
    language: str,
    recorded: date | None,
    duration_s: float | None,
    sentences: Sequence[Sentence],
) -> str:
    """Return the JSON for display of a passage; only long sentences include the times of their words."""
    said = [
        [one.start, one.end, one.text, one.speaker, [[at, round(when, 2)] for at, when in one.words if is_long(one)]]
        for one in sentences
    ]
    day = recorded.isoformat() if recorded else None
    return json.dumps([media_key, title, language, day, duration_s, said], ensure_ascii=False, separators=(",", ":"))


def is_long(sentence: Sentence) -> bool:
    """Return whether playback starts inside the sentence instead of at its start."""
    return sentence.end - sentence.start > LONG_SENTENCE_S


def encode_vectors(vector: Vector, sentence_vectors: Vector) -> bytes:
    """Return the vector of a passage, followed by one for each sentence, as float16 bytes."""
    return np.vstack([vector, sentence_vectors]).astype(np.float16).tobytes()


def decode_sentences(written: str) -> tuple[Sentence, ...]:
    """Return the sentences in a `card` value."""
    return _sentences(json.loads(written)[-1])


def decode_vectors(pressed: bytes, dimension: int) -> Vector:
    """Return the vectors in a `near` value, shape (1 + sentences, dimension), float32."""
    return np.frombuffer(pressed, np.float16).reshape(-1, dimension).astype(np.float32)


Content = tuple[str, frozenset[tuple[float, str]]]
"""ETag of a recording, and its sentences as (start, text)."""
CONTENT = ("media_key", "media_etag", "card")


def contents(rows: pl.DataFrame) -> dict[str, Content]:
    """Return the content of each recording in `rows` by media key, however it is cut into passages."""
    found: dict[str, tuple[str, set[tuple[float, str]]]] = {}
    for row in rows.iter_rows(named=True):
        _, said = found.setdefault(row["media_key"], (row["media_etag"], set()))
        said |= {(one.start, one.text) for one in decode_sentences(row["card"])}
    return {key: (etag, frozenset(said)) for key, (etag, said) in found.items()}


def candidate(row: int, written: str, pressed: bytes | None, dimension: int) -> Candidate:
    """Build a candidate for ranking from the two columns; it has no vectors if `pressed` is None."""
    media_key, title, language, day, duration_s, said = json.loads(written)
    sentences = _sentences(said)
    vectors = None if pressed is None else decode_vectors(pressed, dimension)
    return Candidate(
        row=row,
        media_key=media_key,
        title=title,
        language=language or "",
        recorded=date.fromisoformat(day) if day else None,
        duration_s=duration_s,
        start=sentences[0].start,
        end=sentences[-1].end,
        text=join_sentences(sentences)[0],
        sentences=sentences,
        vector=None if vectors is None else vectors[0],
        sentence_vectors=None if vectors is None else vectors[1:],
    )


def _sentences(said: Sequence[Any]) -> tuple[Sentence, ...]:
    return tuple(
        Sentence(start, end, text, speaker, tuple(map(tuple, words))) for start, end, text, speaker, words in said
    )
