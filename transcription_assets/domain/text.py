"""Whole words and sentences from the word pieces of Whisper, for subtitles and passages."""

import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from transcription_assets.domain import line_breaks
from transcription_assets.domain.transcript import Segment, Word

PAUSE_S = 1.5
"""A longer silence ends a sentence, whatever the punctuation."""

SENTENCE_S = 25.0
"""Maximum length of a sentence: longer speech without punctuation is cut between words."""

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
_ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Titles and abbreviations that are followed by the name, number or word they belong to.
_ABBREVIATION = re.compile(
    r"mrs?|ms|dr|prof|st|sr|jr|gen|col|capt|lt|sgt|rev|hon|gov|sen|rep|mt|ft|no|nr|vs|approx|dept|est|fig|vol|ed"
    r"|mme|mlle|hr|fr|bzw|ca|evtl|ggf|inkl|vgl|usw|sog|str|sra|dra",
    re.IGNORECASE,
)
_ORDINAL_DIGITS = 2


def is_unspaced(character: str) -> bool:
    """Return whether the script of this character puts no spaces between words (Han, kana, Thai, Khmer …)."""
    point = ord(character)
    # Short-circuits for most characters, as this runs for each sentence of a search.
    return point >= _UNSPACED[0][0] and any(first <= point <= last for first, last in _UNSPACED)


def spoken_words(segments: Iterable[Segment]) -> list[Word]:
    """Return all words of the segments, as `whole_words` does.

    In a segment without words, those of its text share its time by their length.
    """
    pieces: list[Word] = []
    for segment in segments:
        whole = Word(segment.start, segment.end, f" {segment.text}", 0.0)
        words = [word for word in segment.words or (whole,) if _clean(word.word)]
        if words:
            # A new segment starts a new word even if the decoder omitted its space.
            opening = _clean(words[0].word)
            words[0] = replace(words[0], word=opening if is_unspaced(opening[0]) else f" {opening}")
        pieces += words
    return whole_words(pieces)


def speaker_turns(segments: Iterable[Segment]) -> list[tuple[str, list[Segment]]]:
    """Group neighbouring segments of the same speaker; a single turn if speakers are unknown."""
    return [(speaker, list(group)) for speaker, group in groupby(segments, key=lambda item: item.speaker)]


def whole_words(words: Iterable[Word]) -> list[Word]:
    """Split and join Whisper's pieces into words (` 3` and `.5`, ` oui` and ` !`): a line may break between any two.

    In scripts without spaces the words are those of a dictionary. A word that is part of a piece has its share of the
    time by its length. Texts are one line each, with one leading space where a space belongs; empty pieces are dropped.
    """
    pieces = [replace(word, word=text) for word in words if (text := _spaced(word.word))]
    return [word for stretch in _stretches(pieces) for word in _cut(stretch, line_breaks.word_breaks)]


def phrases(words: Sequence[Word], columns: Callable[[str], int], widest: int) -> list[Word]:
    """Join the whole words of a sentence that belong on one line, such as a Japanese particle and its noun.

    A phrase wider than `widest` columns stays in words; a word wider than that, in a script without spaces, is cut
    where the rules for lines allow it. Words of scripts with spaces are unchanged.
    """
    text = "".join(word.word for word in words)
    if not any(map(is_unspaced, text)):
        return list(words)
    starts = {0, *line_breaks.phrase_breaks(text)}
    found: list[Word] = []
    for phrase in _grouped(words, starts):
        whole = _joined(phrase)
        if columns(whole.word) <= widest:
            found.append(whole)
            continue
        for word in phrase:
            found += [word] if columns(word.word) <= widest else _cut([word], line_breaks.line_breaks)
    return found


def sentence_runs(words: Sequence[Word]) -> list[list[Word]]:
    """Split whole words into sentences, none lost, in order.

    A sentence ends at a full stop (not after `Dr.`, not in `3.5`), a pause over PAUSE_S, and at SENTENCE_S.
    """
    runs: list[list[Word]] = []
    for index, word in enumerate(words):
        if index == 0 or _ends_sentence(words[index - 1], word):
            runs.append([])
        runs[-1].append(word)
    return [part for run in runs for part in _bounded(run)]


def written_sentences(text: str) -> list[str]:
    """Split written text into sentences by the same rules; they have no white space around them."""
    runs = sentence_runs(whole_words([Word(0.0, 0.0, text, 0.0)]))
    return ["".join(word.word for word in run).strip() for run in runs]


def ends_clause(text: str) -> bool:
    """Return whether the word ends a clause or a sentence, which is a good place for a line break."""
    bare = _without_closers(text)
    return bare[-1:] in _CLAUSE_MARKS or bare[-1:] in _SENTENCE_MARKS


def _clean(text: str) -> str:
    """Return the text on one line without control characters: a newline in a word would break every subtitle format."""
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(text.split())


def _spaced(text: str) -> str:
    """Return the cleaned text, after one space if it started with white space; empty if nothing is left."""
    clean = _clean(text)
    return f" {clean}" if clean and text[0].isspace() else clean


def _stretches(pieces: Iterable[Word]) -> list[list[Word]]:
    """Split at pauses that end a sentence, which no word contains. A trailing mark stays with the text before it."""
    found: list[list[Word]] = []
    for piece in pieces:
        if found and (piece.start - found[-1][-1].end <= PAUSE_S or _is_trailing(piece.word.lstrip()[0])):
            found[-1].append(piece)
        else:
            found.append([piece])
    return found


def _is_trailing(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith(("M", "P")) and category not in _OPENING


def _cut(pieces: Sequence[Word], breaks: Callable[[str], Iterable[int]]) -> list[Word]:
    """Cut the text of the pieces at spaces and between characters of scripts without them, where `breaks` allows it."""
    text = "".join(piece.word for piece in pieces)
    cuts = [at for at in breaks(text) if text[at].isspace() or is_unspaced(text[at - 1]) or is_unspaced(text[at])]
    borders = {0, len(text), *cuts}
    parts: list[Word] = []
    start = 0
    for piece in pieces:
        end = start + len(piece.word)
        inner = sorted({start, end, *(at for at in cuts if start < at < end)})
        parts += [_part(piece, first - start, last - start) for first, last in pairwise(inner)]
        start = end
    return [_joined(group) for group in _grouped(parts, borders)]


def _part(piece: Word, first: int, last: int) -> Word:
    """Return the characters from `first` to `last` of a piece, with their share of its time."""
    length, each = len(piece.word), (piece.end - piece.start) / len(piece.word)
    start = piece.start if first == 0 else round(piece.start + first * each, 3)
    end = piece.end if last == length else round(piece.start + last * each, 3)
    return replace(piece, start=start, end=end, word=piece.word[first:last])


def _grouped(words: Iterable[Word], starts: Container[int]) -> list[list[Word]]:
    """Group words; a group starts where the offset of a word in the whole text is one of `starts`."""
    groups: list[list[Word]] = []
    offset = 0
    for word in words:
        if offset in starts:
            groups.append([])
        groups[-1].append(word)
        offset += len(word.word)
    return groups


def _joined(words: Sequence[Word]) -> Word:
    """Return neighbours as one word, with the lowest of their probabilities."""
    text = "".join(word.word for word in words)
    return Word(words[0].start, words[-1].end, text, min(word.probability for word in words))


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
    """Return whether the full stop after `stem` belongs to it: `Dr`, the initial `J`, `U.S`, the ordinal `3`."""
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
    """Split into pieces of at most SENTENCE_S, at a clause end in the second half of a piece if there is one."""
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
    """Return the text without control characters and bidirectional overrides, which act on a terminal or a page.

    Surrogates (bytes that are not UTF-8, as `os.fsdecode` returns them) become question marks.
    """
    return _ACTING.sub("", text.encode(errors="replace").decode())
