"""What fails the checks is decoded again, more carefully each time; what stays bad is kept and marked.

The ladder: without the vocabulary where that leaked, the sequential decoder with its temperatures, another language,
smaller pieces. It ends at the first answer that nothing speaks against.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from transcription_assets import chunks
from transcription_assets.speech import languages, quality
from transcription_assets.speech.decoder import Chunk, Decoded
from transcription_assets.transcript import Segment, Word

PIECE_S = 12.0
"""A chunk that stays bad is tried in pieces of this length: a loop seldom starts in a short one."""

Careful = Callable[[Chunk, str], list[Segment]]
"""The slow decoder: a chunk in a language; times from its start."""
Answer = list[Segment]

log = logging.getLogger(__name__)


def checked(decoded: Decoded, chunk: Chunk, careful: Careful, *, may_change_language: bool) -> Answer:
    """The segments of a chunk, repaired where that was needed, times from its start; none where nobody speaks."""
    first = decoded.segment
    if quality.is_silence(first):
        return []
    why = _doubt([first], chunk)
    answer = [first]
    if why:
        log.info("decoded again (%s): %r", why, first.text[:80])
        others = languages.others(decoded.languages, first.language) if may_change_language else []
        answer = _best(first, chunk, careful, others)
    return answer + _filled(answer, chunk, careful)


def _best(first: Segment, chunk: Chunk, careful: Careful, others: languages.Probabilities) -> Answer:
    answers: list[Answer] = [[first]]
    if quality.leaked(first.text, chunk.vocabulary):
        answers, chunk = [], replace(chunk, vocabulary=())  # what is heard without it was said
    for rung, answer in enumerate(_ladder(first, chunk, careful, others)):
        if answer and not _doubt(answer, chunk):
            return answer
        if answer:
            answers.append(answer)
        elif rung == 0:
            return []  # the careful decoder hears nobody: the first answer was made up
    best = max(answers, key=lambda answer: _worth(answer, chunk))
    return [replace(item, doubt=_doubt(best, chunk)) for item in best]


def _ladder(first: Segment, chunk: Chunk, careful: Careful, others: languages.Probabilities) -> Iterator[Answer]:
    language = (first.language, first.language_probability)
    yield _again(careful, chunk, *language)
    for other in others:
        yield _again(careful, chunk, *other)
    pieces = chunks.pack(chunk.voiced, longest_s=PIECE_S, pause_s=0.5)
    if len(pieces) > 1:
        yield [
            segment
            for piece in pieces
            for segment in _shifted(_again(careful, chunk.part(piece), *language), piece.start)
        ]


def _again(careful: Careful, chunk: Chunk, language: str, probability: float) -> Answer:
    found = careful(chunk, language)
    return [
        replace(item, repaired=True, language=language, language_probability=probability)
        for item in found
        if not quality.is_silence(item)
    ]


def _filled(answer: Answer, chunk: Chunk, careful: Careful) -> Answer:
    """What is said in voiced stretches for which the answer has no words."""
    if not answer or answer[0].doubt:
        return []
    words = [word for segment in answer for word in segment.words]
    filled: Answer = []
    for hole in chunks.holes(chunk.voiced, words):
        found = _again(careful, chunk.part(hole), answer[0].language, answer[0].language_probability)
        if found and not _doubt(found, chunk.part(hole)) and not _is_repeated(found, words, hole):
            filled += _shifted(found, hole.start)
    return filled


def _is_repeated(found: Answer, words: Sequence[Word], hole: chunks.Region) -> bool:
    """Whether the words on either side of the hole say the same: then their times are wrong, and nothing is missing."""
    said = quality.tokens(" ".join(item.text for item in found))
    if len(said) < quality.RUN:
        return False
    before = [word.word for word in words if word.start < hole.start]
    after = [word.word for word in words if word.start >= hole.start]
    left, right = quality.tokens("".join(before)), quality.tokens("".join(after))
    return left[-len(said) :] == said or right[: len(said)] == said


def _doubt(answer: Answer, chunk: Chunk) -> str:
    """Why the answer as a whole may be wrong."""
    text = " ".join(item.text.strip() for item in answer)
    if chunk.vocabulary and quality.leaked(text, chunk.vocabulary):
        return "vocabulary"
    if len(answer) == 1:
        return quality.doubt(answer[0], chunk.voiced_s)
    weights = [max(len(item.text), 1) for item in answer]
    mean = sum(item.avg_logprob * weight for item, weight in zip(answer, weights, strict=True)) / sum(weights)
    whole = replace(answer[0], text=text, avg_logprob=mean, compression_ratio=quality.compression_ratio(text))
    return quality.doubt(whole, chunk.voiced_s)


def _worth(answer: Answer, chunk: Chunk) -> tuple[bool, float]:
    """Better is: no loop, then the more probable."""
    return _doubt(answer, chunk) not in {"loop", "vocabulary"}, sum(item.avg_logprob for item in answer) / len(answer)


def _shifted(segments: Sequence[Segment], offset: float) -> list[Segment]:
    return [shifted(item, offset) for item in segments]


def shifted(segment: Segment, offset: float) -> Segment:
    """The same, so many seconds later."""
    words = tuple(replace(word, start=word.start + offset, end=word.end + offset) for word in segment.words)
    return replace(segment, start=segment.start + offset, end=segment.end + offset, words=words)
