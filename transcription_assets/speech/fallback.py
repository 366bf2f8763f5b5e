"""Repeated decoding of chunks that fail the checks of `quality`.

The attempts are the sequential decoder with its temperatures, other languages, and smaller pieces, all without the
vocabulary if that leaked into the text. The first result that passes is used. If none does, the best one is used and
marked with the reason for low confidence.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from transcription_assets.domain import chunking
from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech import languages, quality
from transcription_assets.speech.decoder import Chunk, Decoded

PIECE_S = 12.0
"""Length of the pieces in the last attempt: loops seldom start in a short piece."""

Careful = Callable[[Chunk, str], list[Segment]]
"""Slow decoder of a chunk in one language; times from its start."""
InPieces = Callable[[Sequence[Chunk], str], list[Segment]]
"""Fast decoder of several chunks in one language, one segment each; times from the start of each."""
Answer = list[Segment]
TURNS_IN_PIECE = 4
"""Less than LOOP_TURNS: a piece with so few repetitions does not make the decoder loop."""
SHORTEST_PIECE_S, LONGEST_PIECE_S = 2.0, 10.0
CONFIRMED_SHARE = 0.7
FEWEST_CONFIRMED = 3
SAME_WORDS = 0.85
"""Minimum share of words that a chunk and its pieces have in common, so that they say the same."""
CLEAR_NO_SPEECH = 0.4

log = logging.getLogger(__name__)


def _undecoded(_pieces: Sequence[Chunk], _language: str) -> list[Segment]:
    """Decode nothing, so that no repetition is confirmed."""
    return []


def checked(
    decoded: Decoded,
    chunk: Chunk,
    careful: Careful,
    *,
    may_change_language: bool,
    in_pieces: InPieces = _undecoded,
) -> Answer:
    """Return the segments of a chunk, decoded again if needed, times from its start; empty if there is no speech.

    Raises:
        Exception: any exception of `careful` or `in_pieces`.

    """
    first = decoded.segment
    if quality.is_silence(first):
        return []
    why = _doubt([first], chunk)
    answer = [first]
    if why == "loop" and (said := _repeated_aloud(first, chunk, in_pieces)):
        return said + _filled(said, chunk, careful, may_repeat=True)
    if why:
        log.info("decoded again (%s): %r", why, first.text[:80])
        others = languages.others(decoded.languages, first.language) if may_change_language else []
        answer = _best(first, chunk, careful, others)
    # Whisper outputs dots and notes for music; they are not words.
    return [item for item in answer + _filled(answer, chunk, careful) if quality.tokens(item.text)]


def in_language(chunk: Chunk, language: tuple[str, float], careful: Careful) -> Answer:
    """Decode the chunk in this language (code, probability) with `careful`; return [] if the confidence is low.

    Raises:
        Exception: any exception of `careful`.

    """
    found = _again(careful, chunk, *language)
    return found if found and not _doubt(found, chunk) else []


def _repeated_aloud(first: Segment, chunk: Chunk, in_pieces: InPieces) -> Answer:
    """Return the words of a chunk in which a phrase is repeated by the speaker; [] if the decoder loops.

    A spoken repetition is in the audio: each turn has a voiced region of its own, or pieces with a few turns, decoded
    separately, together contain the phrase as often as the whole chunk. Longer phrases that are said twice, with other
    words between them or not, only have to be in the pieces.
    """
    if first.no_speech_prob > quality.NO_SPEECH_LIMIT or first.avg_logprob < quality.LOGPROB_LIMIT:
        return []
    said = [(token, word) for word in first.words for token in quality.tokens(word.word)]
    repeated = quality.repetition(
        [token for token, _ in said], quality.SENTENCE_SIZES, least_turns=quality.SENTENCE_TURNS
    )
    if repeated is None:
        return [first] if _is_in_pieces(first, chunk, in_pieces) else []
    span = Region(said[repeated.first][1].start, said[repeated.last - 1][1].end)
    voices = [region.length for region in chunk.voiced if span.start <= (region.start + region.end) / 2 <= span.end]
    if quality.fits_voices(repeated, voices):
        return [first]
    # If the first result is clear and the regions are alike, short pieces need not pass the limits of `_is_said`.
    regular = quality.are_alike(voices) and first.no_speech_prob <= CLEAR_NO_SPEECH
    return _confirmed(first, repeated, chunk, in_pieces, turns=len(voices) if regular else 0)


def _confirmed(
    first: Segment, repeated: quality.Repetition, chunk: Chunk, in_pieces: InPieces, *, turns: int
) -> Answer:
    """Return the first result if its pieces confirm it, or theirs if they repeat the phrase less often.

    `turns` is the number of turns expected from the voiced regions, 0 if unknown.
    """
    turn_s = chunk.voiced_s * len(repeated.phrase) / max(quality.word_count(first.text), 1.0)
    longest_s = min(max(TURNS_IN_PIECE * turn_s, SHORTEST_PIECE_S), LONGEST_PIECE_S)
    spans = chunking.pack(chunk.voiced, longest_s=longest_s)
    parts = [chunk.part(span) for span in spans]
    answers = in_pieces(parts, first.language)
    spoken = [
        (span, answer)
        for span, part, answer in zip(spans, parts, answers, strict=False)
        if answer.text.strip() and _is_said(answer, part)
    ]
    confirmed = sum(quality.turns(answer.text, repeated.phrase) for _, answer in spoken)
    if turns:
        repeating = [
            (span, answer)
            for span, answer in zip(spans, answers, strict=False)
            if quality.turns(answer.text, repeated.phrase) or (span, answer) in spoken
        ]
        found = sum(quality.turns(answer.text, repeated.phrase) for _, answer in repeating)
        if CONFIRMED_SHARE * turns <= found <= turns / CONFIRMED_SHARE:
            spoken, confirmed = repeating, found
    if CONFIRMED_SHARE * repeated.turns <= confirmed <= repeated.turns / CONFIRMED_SHARE:
        return [first]
    if confirmed < FEWEST_CONFIRMED:
        return []
    return [replace(shifted(answer, span.start), repaired=True) for span, answer in spoken]


def _is_in_pieces(first: Segment, chunk: Chunk, in_pieces: InPieces) -> bool:
    """Return whether short pieces of the chunk, decoded separately, contain nearly the same words in the same order."""
    spans = chunking.pack(chunk.voiced, longest_s=LONGEST_PIECE_S)
    parts = [chunk.part(span) for span in spans]
    answers = in_pieces(parts, first.language) if len(parts) > 1 else []
    said = [
        token
        for part, answer in zip(parts, answers, strict=False)
        if _is_said(answer, part)
        for token in quality.tokens(answer.text)
    ]
    return SequenceMatcher(None, quality.tokens(first.text), said, autojunk=False).ratio() >= SAME_WORDS


def _is_said(answer: Segment, part: Chunk) -> bool:
    """Return whether a piece contains speech, with probable words at a plausible rate."""
    rate = quality.word_count(answer.text) / max(part.voiced_s, 0.5)
    return (
        answer.no_speech_prob <= quality.NO_SPEECH_LIMIT
        and answer.avg_logprob >= quality.LOGPROB_LIMIT
        and rate <= quality.FASTEST_WORDS_PER_S
    )


def _best(first: Segment, chunk: Chunk, careful: Careful, others: languages.Probabilities) -> Answer:
    answers: list[Answer] = [[first]]
    if quality.find_leaked(first.text, chunk.vocabulary):
        answers, chunk = [], replace(chunk, vocabulary=())  # words found without it in the prompt were spoken
    for rung, answer in enumerate(_ladder(first, chunk, careful, others)):
        if answer and not _doubt(answer, chunk):
            return answer
        if answer:
            answers.append(answer)
        elif rung == 0:
            return []  # the sequential decoder finds no speech: the first result was a hallucination
    best = max(answers, key=lambda answer: _worth(answer, chunk))
    return [replace(item, low_confidence=_doubt(best, chunk)) for item in best]


def _ladder(first: Segment, chunk: Chunk, careful: Careful, others: languages.Probabilities) -> Iterator[Answer]:
    language = (first.language, first.language_probability)
    yield _again(careful, chunk, *language)
    for other in others:
        yield _again(careful, chunk, *other)
    pieces = chunking.pack(chunk.voiced, longest_s=PIECE_S, pause_s=0.5)
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


def _filled(answer: Answer, chunk: Chunk, careful: Careful, *, may_repeat: bool = False) -> Answer:
    """Return the words decoded in the gaps of the result: voiced regions without words.

    Estimated times show no gaps: words that are elsewhere would be decoded again there.
    """
    if not answer or answer[0].low_confidence or any(item.estimated_times for item in answer):
        return []
    words = [word for segment in answer for word in segment.words]
    filled: Answer = []
    for hole in chunking.find_gaps(chunk.voiced, words):
        found = _again(careful, chunk.part(hole), answer[0].language, answer[0].language_probability)
        if not found or _doubt(found, chunk.part(hole)):
            continue
        if may_repeat or not _is_repeated(found, words, hole):
            filled += _shifted(found, hole.start)
    return filled


def _is_repeated(found: Answer, words: Sequence[Word], hole: Region) -> bool:
    """Return whether the words next to the gap are the same: then their times are wrong, and nothing is missing."""
    said = quality.tokens(" ".join(item.text for item in found))
    if len(said) < quality.RUN:
        return False
    before = [word.word for word in words if word.start < hole.start]
    after = [word.word for word in words if word.start >= hole.start]
    left, right = quality.tokens("".join(before)), quality.tokens("".join(after))
    return left[-len(said) :] == said or right[: len(said)] == said


def _doubt(answer: Answer, chunk: Chunk) -> str:
    """Return the reason for low confidence in the result as a whole, "" if there is none."""
    text = " ".join(item.text.strip() for item in answer)
    if chunk.vocabulary and quality.find_leaked(text, chunk.vocabulary):
        return "vocabulary"
    if len(answer) == 1:
        return quality.low_confidence_reason(answer[0], chunk.voiced_s)
    weights = [max(len(item.text), 1) for item in answer]
    mean = sum(item.avg_logprob * weight for item, weight in zip(answer, weights, strict=True)) / sum(weights)
    whole = replace(answer[0], text=text, avg_logprob=mean, compression_ratio=quality.compression_ratio(text))
    return quality.low_confidence_reason(whole, chunk.voiced_s)


def _worth(answer: Answer, chunk: Chunk) -> tuple[bool, float]:
    """Return a sort key: higher without a loop or leaked vocabulary, then by mean log-probability."""
    return _doubt(answer, chunk) not in {"loop", "vocabulary"}, sum(item.avg_logprob for item in answer) / len(answer)


def _shifted(segments: Sequence[Segment], offset: float) -> list[Segment]:
    return [shifted(item, offset) for item in segments]


def shifted(segment: Segment, offset: float) -> Segment:
    """Return the segment with all times moved by `offset` seconds."""
    words = tuple(replace(word, start=word.start + offset, end=word.end + offset) for word in segment.words)
    return replace(segment, start=segment.start + offset, end=segment.end + offset, words=words)
