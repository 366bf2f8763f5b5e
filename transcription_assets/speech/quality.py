"""Whether what was decoded can be trusted: loops, guesses, inventions. Pure.

Batched decoding ignores these thresholds, so every chunk is held against them here.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from transcription_assets.transcript import Segment
from transcription_assets.words import is_unspaced

# Whisper's own thresholds (openai/whisper transcribe.py): loops compress well, bad guesses have low probability.
COMPRESSION_RATIO_LIMIT = 2.4
LOGPROB_LIMIT = -1.0
NO_SPEECH_LIMIT = 0.6
SPEECH_LIMIT = 0.3
"""Below this Whisper hears somebody where the voice detector hears nobody: 0.05 to 0.2 in speech, over 0.5 in noise,
tones and most music."""
CERTAIN_LOGPROB = -0.5
"""Words from where the voice detector hears nobody are believed only if they are as probable as this."""

FASTEST_WORDS_PER_S = 7.0
"""An auctioneer; whoever is faster was made up. A character of Chinese or Japanese counts as a third of a word."""
SLOWEST_WORDS_PER_S = 0.4
SLOW_FROM_S = 6.0
"""Shorter voiced stretches may well hold one word only."""
LANGUAGE_LIMIT = 0.5
UNSURE_LOGPROB = -0.7
"""A language that is less probable than not, and words that are not sure either: perhaps it is another language."""
NGRAMS = (1, 2, 3, 4, 5, 6)
LOOP_TURNS = 5
"""A run of words that comes so often in immediate succession is a loop: nobody says a phrase five times over."""
SENTENCE_SIZES = range(1, 21)
SENTENCE_TURNS = 3
"""Whole sentences that come so often make the text compress like a loop."""
LOOP_WORDS = 8
"""And it takes up so many words: a chorus of `no, no, no` does not count."""

SAME_COUNT = 0.75
SAME_LENGTH = 0.25
"""Regions in which the same phrase is said differ in length by no more than this share of it (standard deviation)."""
SLOWEST_REPEATED_WORDS_PER_S = 0.6

RUN = 3
"""So many words in the order of the vocabulary are no chance."""

_CHARACTERS_PER_WORD = 3


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes it: over 2.4 it repeats itself."""
    data = text.encode(errors="replace")
    return len(data) / len(zlib.compress(data))


def is_silence(segment: Segment) -> bool:
    """Whisper's own rule for text that it made up where nobody speaks."""
    return segment.no_speech_prob > NO_SPEECH_LIMIT and segment.avg_logprob < LOGPROB_LIMIT


def is_certain(answer: Sequence[Segment]) -> bool:
    """Whether the words can be believed although the voice detector finds nobody where they are."""
    return all(
        not item.doubt and item.avg_logprob >= CERTAIN_LOGPROB and item.no_speech_prob <= SPEECH_LIMIT
        for item in answer
    )


def doubt(segment: Segment, voiced_s: float) -> str:
    """Why the words of a chunk with so many voiced seconds may be wrong; empty = nothing speaks against them."""
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
    """Whether a run of one to six words is said over and over without a break."""
    return repetition(tokens(text)) is not None


@dataclass(frozen=True, slots=True)
class Repetition:
    """A phrase that fills `said[first:last]` of a list of words, so many turns in immediate succession."""

    phrase: tuple[str, ...]
    turns: int
    first: int
    last: int


def repetition(said: list[str], sizes: Iterable[int] = NGRAMS, least_turns: int = LOOP_TURNS) -> Repetition | None:
    """Return the shortest phrase that makes these words a loop."""
    for size in sizes:
        turns, last = _longest_run(said, size)
        if turns >= least_turns and turns * size >= LOOP_WORDS:
            return Repetition(tuple(said[last - size : last]), turns, last - turns * size, last)
    return None


def fits_voices(repeated: Repetition, lengths: Sequence[float]) -> bool:
    """Whether the phrase is said once in each of these voiced regions (seconds) that its turns lie in.

    Then there are about as many of them as turns, each as long as the others, and the words are neither too fast nor
    too slow. A decoder that loops over other speech meets regions of all lengths.
    """
    if not are_alike(lengths) or not SAME_COUNT <= repeated.turns / len(lengths) <= 1 / SAME_COUNT:
        return False
    rate = repeated.turns * len(repeated.phrase) / sum(lengths)
    return SLOWEST_REPEATED_WORDS_PER_S <= rate <= FASTEST_WORDS_PER_S


def are_alike(lengths: Sequence[float]) -> bool:
    """Whether voiced regions of these lengths (seconds) may say the same phrase, one turn each."""
    return len(lengths) >= SENTENCE_TURNS and pstdev(lengths) <= SAME_LENGTH * fmean(lengths)


def turns(text: str, phrase: Sequence[str]) -> int:
    """Count how often the phrase comes in the text, wherever in it its first turn begins; turns do not overlap."""
    said, size, count, at = tokens(text), len(phrase), 0, 0
    while at <= len(said) - size:
        found = said[at : at + size] == [*phrase]
        count, at = count + found, at + (size if found else 1)
    return count


def word_count(text: str) -> float:
    """Words; in scripts without spaces a third of the characters."""
    unspaced = sum(map(is_unspaced, text))
    spaced = "".join(" " if is_unspaced(character) else character for character in text)
    return len(tokens(spaced)) + unspaced / _CHARACTERS_PER_WORD


def leaked(text: str, vocabulary: Iterable[str]) -> bool:
    """Whether the vocabulary may have been written down although nobody said it.

    That is so where three of its words stand in their order, out of more than one of its entries, and where there is
    nothing but its words. A phrase of three words that is one entry was put there because people say it.
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
    """Its words in lower case, without punctuation."""
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def _ngrams(tokens: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


def _longest_run(tokens: list[str], size: int) -> tuple[int, int]:
    """Return the most turns of a run of `size` tokens that repeats at once, and where it ends."""
    longest = run = end = 0
    for index in range(size, len(tokens)):
        run = run + 1 if tokens[index] == tokens[index - size] else 0
        if run // size + 1 > longest:
            longest, end = run // size + 1, index + 1
    return longest, end
