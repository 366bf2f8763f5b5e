"""Forms of words and numbers that mean the same: inflections by stem, numbers in words or in digits. Pure.

Stems are those of Snowball (PyStemmer), numbers in words are parsed by text2num; both need the language. A language
without a stemmer has no inflections here, and one without a parser has numbers in digits only.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from threading import Lock
from typing import NamedTuple, Protocol

from transcription_assets.search.query import Token, fold, tokens

STEMMERS = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
"""Whisper's code of a language -> Snowball's name of its stemmer."""
NUMBER_LANGUAGES = frozenset({"de", "en", "es", "fr", "it", "nl", "pt"})
SMALLEST = 2
"""The words of smaller numbers are mostly articles and pronouns (`one`, `un`, `ein`)."""
LARGEST = 10**12
"""Larger numbers are compared by their digits only."""

_LOCK = Lock()
_DIGITS = re.compile(r"\d+")
_ENDINGS = {"es": "o|a", "fr": "e|er|re|ere|eme", "it": "o|a", "nl": "e", "pt": "o|a"}
_ORDINALS = {
    language: re.compile(rf"(\d+)(?:{'|'.join(filter(None, ('st|nd|rd|th', _ENDINGS.get(language))))})")
    for language in ("", *_ENDINGS)
}
"""English ordinals in digits are read in every language; other endings could be anything (room 5a)."""
_GROUP_MARKS = frozenset(",.'’\u202f\xa0")
_DECIMAL_MARKS = frozenset(",.")
_CENTURIES = range(11, 21)
_YEARS = range(10, 100)


@lru_cache(maxsize=1 << 17)
def stem(word: str, language: str) -> str:
    """Return the folded stem of a word in lower case; the folded word if the language has no stemmer."""
    name = STEMMERS.get(language)
    if name is None:
        return fold(word)
    with _LOCK:  # a stemmer is not thread-safe
        return fold(str(_stemmer(name).stemWord(word)))


def stems(words: Sequence[str], language: str) -> list[str]:
    """Return the `stem` of each word, for many words of a language that has a stemmer."""
    with _LOCK:
        return [fold(str(found)) for found in _stemmer(STEMMERS[language]).stemWords(list(words))]


@cache
def _stemmer(name: str) -> "_Stemmer":
    import Stemmer

    found: _Stemmer = Stemmer.Stemmer(name)
    return found


class _Stemmer(Protocol):
    """Type of PyStemmer's stemmers; the library declares none."""

    def stemWord(self, word: str) -> str: ...  # noqa: N802 -- the library's name

    def stemWords(self, words: list[str]) -> list[str]: ...  # noqa: N802 -- the library's name


class Number(NamedTuple):
    """A number of a text: range of token positions, value, and whether it is an ordinal."""

    first: int
    last: int
    value: float
    ordinal: bool

    @property
    def key(self) -> str:
        """Text that is equal for equal numbers and never a word of a text."""
        value = int(self.value) if self.value == int(self.value) else self.value
        return f"#{value}." if self.ordinal else f"#{value}"


class _Spoken:
    """A token for text2num."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self) -> str:
        return self._text

    def nt_separated(self, previous: object) -> bool:  # noqa: ARG002 -- the library's protocol
        return False

    def not_a_number_part(self) -> bool:
        return False


def numbers(text: str, words: Sequence[Token], language: str) -> list[Number]:
    """Return the numbers among the words of a text, in order: in digits, and in words of the language."""
    said = _in_words(words, language) if language in NUMBER_LANGUAGES else ()
    return sorted([*_in_digits(text, words, language), *_years(text, words, said)])


def _in_digits(text: str, words: Sequence[Token], language: str) -> Iterable[Number]:
    ordinals = _ORDINALS.get(language, _ORDINALS[""])
    position = 0
    while position < len(words):
        first, digits = position, words[position].folded
        position += 1
        if ordinal := ordinals.fullmatch(digits):
            yield from _number(first, position, ordinal[1], ordinal=True)
            continue
        if not _DIGITS.fullmatch(digits):
            continue
        decimals = ""
        while position < len(words) and not decimals and _DIGITS.fullmatch(words[position].folded):
            mark, more = text[words[position - 1].end : words[position].start], words[position].folded
            if mark in _GROUP_MARKS and len(more) == 3:  # noqa: PLR2004 -- groups of three digits
                digits += more
            elif mark in _DECIMAL_MARKS:
                decimals = f".{more}"
            else:
                break
            position += 1
        yield from _number(first, position, digits + decimals, ordinal=False)


def _number(first: int, last: int, digits: str, *, ordinal: bool) -> Iterable[Number]:
    value = float(digits)
    if value < LARGEST:
        yield Number(first, last, value, ordinal)


def _in_words(words: Sequence[Token], language: str) -> Iterable[Number]:
    from text_to_num import find_numbers

    for found in find_numbers([_Spoken(word.text.lower()) for word in words], language, threshold=SMALLEST):
        if found.value < LARGEST:
            yield Number(found.start, found.end, float(found.value), bool(found.is_ordinal))


def _years(text: str, words: Sequence[Token], found: Iterable[Number]) -> list[Number]:
    """Join the two halves of a year as it is said in words, with nothing but white space between: nineteen eleven."""
    joined: list[Number] = []
    for number in found:
        before = joined[-1] if joined else None
        if (
            before
            and before.last == number.first
            and text[words[before.last - 1].end : words[number.first].start].isspace()
            and not before.ordinal
            and not number.ordinal
            and before.value in _CENTURIES
            and number.value in _YEARS
        ):
            joined[-1] = Number(before.first, number.last, before.value * 100 + number.value, ordinal=False)
        else:
            joined.append(number)
    return joined


def merge_numbers(text: str, words: Sequence[Token], language: str) -> list[Token]:
    """Return the words of a text with each number as one token, whose folded form is the number's key."""
    merged: list[Token] = []
    position = 0
    for number in numbers(text, words, language):
        merged += words[position : number.first]
        start, end = words[number.first].start, words[number.last - 1].end
        merged.append(Token(start, end, text[start:end], number.key))
        position = number.last
    return [*merged, *words[position:]]


def read_question(text: str, languages: Sequence[str], occurs: Callable[[str, str], bool]) -> list[Token] | None:
    """Return the words of a question with its numbers merged, None if it has no numbers.

    Its language is unknown. Numbers in words are read in the first of `languages`, that of most passages; in another
    one only if the question has several words and all others of them occur in that language. `occurs` says so of a word
    (lower case) and a language. Of the readings, the one with the longest numbers is used, then the one with the most.
    """
    words = list(tokens(text))
    readings = [merge_numbers(text, words, "")]
    for number, language in enumerate(languages):
        reading = merge_numbers(text, words, language)
        others = [token.text.lower() for token in reading if not token.folded.startswith("#")]
        if number == 0 or (words[1:] and all(occurs(word, language) for word in others)):
            readings.append(reading)
    best = min(readings, key=lambda reading: (len(reading), -sum(token.folded.startswith("#") for token in reading)))
    return best if any(token.folded.startswith("#") for token in best) else None


def value_of(key: str) -> float | None:
    """Return the value of a number's key, None for a word."""
    return float(key[1:].removesuffix(".")) if key.startswith("#") else None


def parts(value: float) -> set[int]:
    """Return the values of the words that may say this number: 943 is said with nine, hundred, forty and three."""
    if value != int(value) or not SMALLEST <= value < LARGEST:
        return set()
    whole = int(value)
    found = {whole}
    for power in (0, 3, 6, 9):
        group = whole // 10**power % 1000
        if group:
            found |= {10**power, group, group // 100, 100 * (group >= 100), group // 100 * 100}  # noqa: PLR2004
            found |= {group % 100, group % 100 // 10 * 10, group % 10}
    if whole // 100 in _CENTURIES:
        found |= {whole // 100, whole % 100, whole % 100 // 10 * 10, whole % 10}
    return {item for item in found if item >= SMALLEST}
