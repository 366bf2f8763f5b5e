"""Whole words and whole sentences out of the pieces that Whisper gives, for subtitles and passages alike."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from transcription_assets.transcript import Segment, Word

PAUSE_S = 1.5
"""A silence longer than this ends a sentence, whatever the punctuation says."""

SENTENCE_S = 25.0
"""The longest sentence: speech without punctuation is cut between words here."""

# Blocks of scripts without spaces: Thai to Tibetan, Burmese, Khmer, Han with kana, full width.
_UNSPACED = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x312F),
    (0x3190, 0xA4CF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFF9F),
    (0x20000, 0x3FFFF),
)
_OPENING = ("Ps", "Pi")
_CLOSING = ("Pe", "Pf")
_SENTENCE_MARKS = frozenset(".?!…。？！｡．؟۔।॥")  # noqa: RUF001 (the marks themselves)
_CLAUSE_MARKS = frozenset(",;:–—،؛、，；：")  # noqa: RUF001 (the marks themselves)
# What may not begin a line: marks, and Japanese and Thai signs that lengthen or repeat.
_TRAILING = _SENTENCE_MARKS | _CLAUSE_MARKS - {"–", "—"} | frozenset("%・ーゝゞ々ะาำๅๆฯ")
_ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_THAI_LEADING_VOWELS = frozenset("เแโใไ")
# Titles and short forms that are followed by the name, figure or word they belong to.
_ABBREVIATION = re.compile(
    r"mrs?|ms|dr|prof|st|sr|jr|gen|col|capt|lt|sgt|rev|hon|gov|sen|rep|mt|ft|no|nr|vs|approx|dept|est|fig|vol|ed"
    r"|mme|mlle|hr|fr|bzw|ca|evtl|ggf|inkl|vgl|usw|sog|str|sra|dra",
    re.IGNORECASE,
)
_ORDINAL_DIGITS = 2


def is_unspaced(character: str) -> bool:
    """Whether the script of this character puts no spaces between words (Han, kana, Thai, Khmer …)."""
    point = ord(character)
    # Most characters, and this is asked for each sentence of a search.
    return point >= _UNSPACED[0][0] and any(first <= point <= last for first, last in _UNSPACED)


def spoken_words(segments: Iterable[Segment]) -> list[Word]:
    """Every word of the segments as `whole_words` gives them.

    Where a segment has no words, those of its text share its time by their length.
    """
    pieces: list[Word] = []
    for segment in segments:
        words = [word for word in segment.words or _spread(segment) if _clean(word.word)]
        if words:
            # A new segment starts a new word even where the decoder left its space out.
            opening = _clean(words[0].word)
            words[0] = replace(words[0], word=opening if is_unspaced(opening[0]) else f" {opening}")
        pieces += words
    return whole_words(pieces)


def turns(segments: Iterable[Segment]) -> list[tuple[str, list[Segment]]]:
    """Neighbouring segments of the same speaker; one turn where the recording does not tell who speaks."""
    return [(speaker, list(group)) for speaker, group in groupby(segments, key=lambda item: item.speaker)]


def whole_words(words: Iterable[Word]) -> list[Word]:
    """Put Whisper's pieces together (` 3` and `.5`, ` oui` and ` !`): a line may break between any two.

    Texts are one line each, with one leading space where a space belongs; empty pieces are dropped.
    """
    whole: list[Word] = []
    for word in words:
        text = _clean(word.word)
        if not text:
            continue
        if word.word[0].isspace():
            text = f" {text}"
        if whole and not _may_break(whole[-1].word, text):
            last = whole[-1]
            whole[-1] = Word(last.start, word.end, last.word + text, min(last.probability, word.probability))
        else:
            whole.append(replace(word, word=text))
    return whole


def sentence_runs(words: Sequence[Word]) -> list[list[Word]]:
    """Cut whole words into sentences, none lost, in order.

    A sentence ends at a full stop (not after `Dr.`, not in `3.5`), a pause over PAUSE_S, and at SENTENCE_S.
    """
    runs: list[list[Word]] = []
    for index, word in enumerate(words):
        if index == 0 or _ends_sentence(words[index - 1], word):
            runs.append([])
        runs[-1].append(word)
    return [part for run in runs for part in _bounded(run)]


def ends_clause(text: str) -> bool:
    """Whether the word ends a clause or a sentence: a good place for a break."""
    bare = _without_closers(text)
    return bare[-1:] in _CLAUSE_MARKS or bare[-1:] in _SENTENCE_MARKS


def _clean(text: str) -> str:
    """One line without control characters: a newline in a word would break every subtitle format."""
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(text.split())


def _may_break(left: str, right: str) -> bool:
    before, after = left[-1], right.lstrip()[0]
    if right[0].isspace():
        return not all(map(_is_trailing, right.strip()))
    if _is_trailing(after) or before in _THAI_LEADING_VOWELS or unicodedata.category(before) in _OPENING:
        return False
    return is_unspaced(before) or is_unspaced(after)


def _is_trailing(character: str) -> bool:
    category = unicodedata.category(character)
    return character in _TRAILING or category in _CLOSING or category.startswith("M")


def _spread(segment: Segment) -> list[Word]:
    words: list[Word] = []
    share = (segment.end - segment.start) / max(1, len("".join(segment.text.split())))
    clock = segment.start
    for piece in _split(segment.text):
        end = min(clock + share * len(piece.strip()), segment.end)
        words.append(Word(round(clock, 3), round(end, 3), piece, 0.0))
        clock = end
    return words


def _split(text: str) -> list[str]:
    """Words with their leading space; single characters where the script has no spaces."""
    pieces: list[str] = []
    for token in text.split():
        pieces.append(" ")
        for character in token:
            if pieces[-1] != " " and (is_unspaced(character) or is_unspaced(pieces[-1][-1])):
                pieces.append(character)
            else:
                pieces[-1] += character
    return pieces


def _ends_sentence(word: Word, following: Word) -> bool:
    return following.start - word.end > PAUSE_S or _is_full_stop(word.word, following.word.lstrip())


def _is_full_stop(text: str, following: str) -> bool:
    bare = _without_closers(text)
    if bare[-1:] not in _SENTENCE_MARKS:
        return False
    if bare[-1] not in ".…":
        return True
    if following[0].islower():
        return False
    return bare.endswith(("…", "..")) or not _is_abbreviation(bare[:-1])


def _is_abbreviation(stem: str) -> bool:
    """`Dr`, the initial `J`, `U.S`, and the ordinal `3` of `3. Oktober`: their dot is theirs."""
    stem = stem.strip().lstrip("\"'([„“«")
    if stem.isdigit():
        return len(stem) <= _ORDINAL_DIGITS
    is_initial = len(stem) == 1 and stem.isalpha() and not is_unspaced(stem)
    return is_initial or "." in stem or _ABBREVIATION.fullmatch(stem) is not None


def _without_closers(text: str) -> str:
    end = len(text)
    while end and (text[end - 1] in "\"' " or unicodedata.category(text[end - 1]) in (*_CLOSING, "Pi")):
        end -= 1
    return text[:end]


def _bounded(words: list[Word]) -> list[list[Word]]:
    """Pieces of at most SENTENCE_S, cut at a clause end in the second half of a piece if there is one."""
    pieces: list[list[Word]] = []
    while words:
        fitting = max(1, sum(word.end - words[0].start <= SENTENCE_S for word in words))
        end = fitting if fitting == len(words) else _clause_end(words, fitting)
        pieces.append(words[:end])
        words = words[end:]
    return pieces


def _clause_end(words: Sequence[Word], fitting: int) -> int:
    ends = (end for end in range(fitting, fitting // 2, -1) if ends_clause(words[end - 1].word))
    return next(ends, fitting)


def printable(text: str) -> str:
    """Return the text without characters that act on a terminal or a page: control characters and turned directions.

    What is not UTF-8 in it (surrogates, as `os.fsdecode` gives them) becomes a question mark.
    """
    return _ACTING.sub("", text.encode(errors="replace").decode())
