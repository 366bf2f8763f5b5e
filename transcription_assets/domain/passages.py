"""Sentences and passages: the units that are embedded, searched, and played.

A passage is a run of whole sentences of about 30 s that repeats the end of the previous one, so that a thought across a
border is still in one passage.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from transcription_assets.domain.text import is_unspaced, sentence_runs, speaker_turns, spoken_words
from transcription_assets.domain.transcript import Segment, Word


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with its times (seconds from the start of the medium).

    `words` is the offset in the text and the start of each word; `speaker` is empty if unknown.
    """

    start: float
    end: float
    text: str
    speaker: str = ""
    words: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of whole sentences of one speaker; `index` counts from 0 within the recording, times are seconds."""

    index: int
    start: float
    end: float
    text: str
    sentences: tuple[Sentence, ...]
    speaker: str = ""


def cut_sentences(segments: Iterable[Segment]) -> list[Sentence]:
    """Split segments into sentences: at full stops, at long pauses, and at 25 s if there are neither.

    Segment borders are ignored: Whisper cuts in the middle of sentences. No word is split or lost.
    """
    return [
        _sentence(run, speaker)
        for speaker, turn in speaker_turns(segments)
        for run in sentence_runs(spoken_words(turn))
    ]


def _sentence(run: Sequence[Word], speaker: str) -> Sentence:
    text, words = "", []
    for word in run:
        written = word.word if text else word.word.lstrip()
        text += written
        words.append((len(text) - len(written.lstrip()), word.start))
    return Sentence(run[0].start, run[-1].end, text.rstrip(), speaker, tuple(words))


def join_sentences(spoken: Sequence[Sentence]) -> tuple[str, list[tuple[int, int]]]:
    """Join sentences to running text, and return the character range of each of them in it."""
    text, places = "", []
    for item in spoken:
        text += "" if not text or is_unspaced(item.text[0]) else " "
        places.append((len(text), len(text) + len(item.text)))
        text += item.text
    return text, places


def cut_passages(segments: Iterable[Segment], *, target_s: float = 30.0, overlap_s: float = 8.0) -> list[Passage]:
    """Cut segments into passages of about `target_s` seconds that repeat up to `overlap_s` seconds of the previous one.

    Every sentence is in at least one passage. The same segments always yield the same passages and indexes. A passage
    lasts at most twice `target_s`, or `overlap_s` plus one sentence, whichever is more. Each speaker has separate
    passages: overlapping speech of two people would be mixed otherwise.
    """
    spoken = cut_sentences(segments)
    speakers = dict.fromkeys(item.speaker for item in spoken)
    cut_up = [_cut([item for item in spoken if item.speaker == name], target_s, overlap_s) for name in speakers]
    ordered = sorted((item for passages in cut_up for item in passages), key=lambda item: item.start)
    return [replace(item, index=number) for number, item in enumerate(ordered)]


def _cut(spoken: Sequence[Sentence], target_s: float, overlap_s: float) -> list[Passage]:
    passages: list[Passage] = []
    first = fresh = 0  # sentences before `fresh` are in a passage already
    while fresh < len(spoken):
        last = _last(spoken, first, fresh, target_s)
        passages.append(_passage(len(passages), spoken[first:last]))
        first, fresh = _overlap(spoken, first, last, overlap_s), last
    return passages


def _last(spoken: Sequence[Sentence], first: int, fresh: int, target_s: float) -> int:
    """Return the end of the passage: add sentences while its length approaches the target; at least one fresh one."""
    start = spoken[first].start
    last = fresh + 1
    while last < len(spoken):
        shortfall = target_s - (spoken[last - 1].end - start)
        excess = spoken[last].end - start - target_s
        if shortfall <= 0 or excess > shortfall:
            break
        last += 1
    return last


def _overlap(spoken: Sequence[Sentence], first: int, last: int, overlap_s: float) -> int:
    """Return the start of the next passage: whole sentences back from `last`, but never the whole passage."""
    if last == len(spoken):
        return last
    start = last
    while start - 1 > first and spoken[last].start - spoken[start - 1].start <= overlap_s:
        start -= 1
    return start


def _passage(index: int, spoken: Sequence[Sentence]) -> Passage:
    return Passage(index, spoken[0].start, spoken[-1].end, join_sentences(spoken)[0], tuple(spoken), spoken[0].speaker)
