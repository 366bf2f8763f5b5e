"""Transcripts as paragraphs of timed words, to be displayed beside a player."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from transcription_assets.domain.text import sentence_runs, spoken_words
from transcription_assets.domain.transcript import Transcript, Word

PAUSE_S = 2.0
"""A paragraph ends at a silence longer than this."""
LONG_S = 40.0
"""A sentence that starts later than this after the start of a paragraph begins a new one."""

TimedWord = tuple[float, float, str]
"""Start and end in seconds, and the word with its leading space."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Consecutive sentences of one speaker ("" if unknown)."""

    start: float
    speaker: str
    words: Sequence[TimedWord]


def paragraphs(transcript: Transcript) -> list[Paragraph]:
    """Return every word of the transcript, in order, in paragraphs."""
    found: list[Paragraph] = []
    for speaker, segments in groupby(transcript.segments, lambda segment: segment.speaker):
        for block in _blocks(sentence_runs(spoken_words(segments))):
            timed = [(word.start, word.end, word.word) for word in block]
            found.append(Paragraph(block[0].start, speaker, timed))
    return found


def _blocks(sentences: Iterable[list[Word]]) -> list[list[Word]]:
    blocks: list[list[Word]] = []
    for sentence in sentences:
        fits = (
            blocks
            and sentence[0].start - blocks[-1][-1].end <= PAUSE_S
            and sentence[0].start - blocks[-1][0].start <= LONG_S
        )
        if fits:
            blocks[-1] += sentence
        else:
            blocks.append(list(sentence))
    return blocks
