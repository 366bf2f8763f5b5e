"""Checks of decoded text for low confidence: loops, improbable words, hallucinations. Pure functions.

Batched decoding does not apply Whisper's thresholds, so every chunk is checked here.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from transcription_assets.domain.text import is_unspaced
from transcription_assets.domain.transcript import Segment

# Whisper's own thresholds (openai/whisper transcribe.py): loops compress well, wrong words have a low probability.
COMPRESSION_RATIO_LIMIT = 2.4
LOGPROB_LIMIT = -1.0
NO_SPEECH_LIMIT = 0.6
SPEECH_LIMIT = 0.3
"""No-speech probability up to which there is speech in a region that VAD left out: Whisper gives 0.05 to 0.2 in speech,
over 0.5 in noise, tones and most music."""
CERTAIN_LOGPROB = -0.5
"""Minimum mean log-probability of words in a region that VAD left out."""

FASTEST_WORDS_PER_S = 7.0
"""Rate of an auctioneer; faster words are hallucinations. A Chinese or Japanese character counts as 1/3 word."""
SLOWEST_WORDS_PER_S = 0.4
SLOW_FROM_S = 6.0
"""Minimum voiced time to which SLOWEST_WORDS_PER_S applies: less may contain a single word."""
LANGUAGE_LIMIT = 0.5
UNSURE_LOGPROB = -0.7
"""If neither the language nor the words reach these limits, the language may be wrong."""
NGRAMS = (1, 2, 3, 4, 5, 6)
LOOP_TURNS = 5
"""Number of immediate repetitions of a phrase that make it a loop: speakers rarely say a phrase five times over."""
SENTENCE_SIZES = range(1, 21)
SENTENCE_TURNS = 3
"""Number of repetitions from which whole sentences make the text compress like a loop."""
LOOP_WORDS = 8
"""Minimum length of a loop in words, so that a chorus of `no, no, no` is not one."""

SAME_COUNT = 0.75
SAME_LENGTH = 0.25
"""Maximum standard deviation of the lengths of regions with the same phrase, as a share of their mean."""
SLOWEST_REPEATED_WORDS_PER_S = 0.6

RUN = 3
"""Number of words in the order of the vocabulary that is not a coincidence."""

_CHARACTERS_PER_WORD = 3


def compression_ratio(text: str) -> float:
    """Return the factor by which zlib compresses the text; above COMPRESSION_RATIO_LIMIT the text is repetitive."""
    data = text.encode(errors="replace")
    return len(data) / len(zlib.compress(data))


def is_silence(segment: Segment) -> bool:
    """Return whether Whisper's own rule takes the segment for a hallucination in silence."""
    return segment.no_speech_prob > NO_SPEECH_LIMIT and segment.avg_logprob < LOGPROB_LIMIT


def is_certain(answer: Sequence[Segment]) -> bool:
    """Return whether the words are confident enough to be kept although VAD finds no speech at their time."""
    return all(
        not item.low_confidence and item.avg_logprob >= CERTAIN_LOGPROB and item.no_speech_prob <= SPEECH_LIMIT
        for item in answer
    )


def low_confidence_reason(segment: Segment, voiced_s: float) -> str:
    """Return the reason for low confidence in the words of a chunk with `voiced_s` seconds of speech, "" if none."""
    if segment.compression_ratio > COMPRESSION_RATIO_LIMIT or is_loop(segment.text):
        return "loop"
    if segment.avg_logprob < LOGPROB_LIMIT:
        return "guess"
    if segment.language_probability < LANGUAGE_LIMIT and segment.avg_logprob < UNSURE_LOGPROB:
        return "language"
    rate = word_count(segment.text) / max(voiced_s, 0.5)
    if rate > FASTEST_WORDS_PER_S:
        return "too many words"
    if voiced_s >= SLOW_FROM_S and rate < SLOWEST_WORDS_PER_S:
        return "too few words"
    return ""


def is_loop(text: str) -> bool:
    """Return whether a phrase of one to six words is repeated without a break, see LOOP_TURNS and LOOP_WORDS."""
    return repetition(tokens(text)) is not None


@dataclass(frozen=True, slots=True)
class Repetition:
    """A phrase that fills `said[first:last]` of a list of words by `turns` immediate repetitions."""

    phrase: tuple[str, ...]
    turns: int
    first: int
    last: int


def repetition(said: list[str], sizes: Iterable[int] = NGRAMS, least_turns: int = LOOP_TURNS) -> Repetition | None:
    """Return the shortest phrase that makes these words a loop, None if there is none."""
    for size in sizes:
        turns, last = _longest_run(said, size)
        if turns >= least_turns and turns * size >= LOOP_WORDS:
            return Repetition(tuple(said[last - size : last]), turns, last - turns * size, last)
    return None


def fits_voices(repeated: Repetition, lengths: Sequence[float]) -> bool:
    """Return whether the phrase is probably spoken once in each of these voiced regions (lengths in seconds).

    That is so if there are about as many regions as turns, of similar length, and the rate of words is plausible. If
    the decoder loops over other speech, the regions have various lengths.
    """
    if not are_alike(lengths) or not SAME_COUNT <= repeated.turns / len(lengths) <= 1 / SAME_COUNT:
        return False
    rate = repeated.turns * len(repeated.phrase) / sum(lengths)
    return SLOWEST_REPEATED_WORDS_PER_S <= rate <= FASTEST_WORDS_PER_S


def are_alike(lengths: Sequence[float]) -> bool:
    """Return whether voiced regions of these lengths (seconds) are similar enough to contain the same phrase each."""
    return len(lengths) >= SENTENCE_TURNS and pstdev(lengths) <= SAME_LENGTH * fmean(lengths)


def turns(text: str, phrase: Sequence[str]) -> int:
    """Return the number of occurrences of the phrase in the text, without overlaps."""
    said, size, count, at = tokens(text), len(phrase), 0, 0
    while at <= len(said) - size:
        found = said[at : at + size] == [*phrase]
        count, at = count + found, at + (size if found else 1)
    return count


def word_count(text: str) -> float:
    """Return the number of words; in scripts without spaces, a third of the number of characters."""
    unspaced = sum(map(is_unspaced, text))
    spaced = "".join(" " if is_unspaced(character) else character for character in text)
    return len(tokens(spaced)) + unspaced / _CHARACTERS_PER_WORD


def find_leaked(text: str, vocabulary: Iterable[str]) -> bool:
    """Return whether the text may repeat the vocabulary, which was in the prompt, instead of the speech.

    That is so if it consists of words of the vocabulary only, or has RUN of its words in order across entries. Words
    in order within one entry do not count, as such a phrase is in the vocabulary because people say it.
    """
    entries = [tokens(entry) for entry in vocabulary]
    hint, said = [token for entry in entries for token in entry], tokens(text)
    if not hint or not said:
        return False
    if set(said) <= set(hint):
        return True
    phrases = {run for entry in entries for run in _ngrams(entry, RUN)}
    listed = set(_ngrams(hint, RUN)) - phrases
    return any(run in listed for run in _ngrams(said, RUN))


def tokens(text: str) -> list[str]:
    """Return the words of the text in lower case, without punctuation."""
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def _ngrams(tokens: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


def _longest_run(tokens: list[str], size: int) -> tuple[int, int]:
    """Return the largest number of immediate repetitions of any `size` tokens, and the index of their end."""
    longest = run = end = 0
    for index in range(size, len(tokens)):
        run = run + 1 if tokens[index] == tokens[index - size] else 0
        if run // size + 1 > longest:
            longest, end = run // size + 1, index + 1
    return longest, end
