"""Forms of words and numbers that mean the same: inflections by stem, numbers in words or in digits. Pure.

Stems are those of Snowball (PyStemmer), numbers in words are parsed by text2num; both need the language. A language
without a stemmer has no inflections here, and one without a parser has numbers in digits only.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from threading import Lock
from typing import NamedTuple, Protocol

from transcription_assets.search.query import Token, fold, tokens, words_of

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
_SCALES = {"it": {"milione": 10**6, "milioni": 10**6, "miliardo": 10**9, "miliardi": 10**9}}
"""Words that text2num reads only after another number."""
_POWERS = frozenset(10.0**power for power in range(2, 12))
_UNIT = re.compile(r"(\d+)([^\W\d_]{2,}|[ghklmvwгклмч])")  # noqa: RUF001 -- Cyrillic units
"""A number and its unit in one word: 5km. Other single letters are no units: room 5a, the 90s."""
_CENTURIES = range(11, 21)
_YEARS = range(10, 100)
_DECIMALS = (1, 2)
"""Decimal places of a number before a scale word."""


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
    written = _in_digits(text, words, language) if _has_digits(words) else ()
    return _scaled(text, words, sorted([*written, *_years(text, words, said)]))


def may_hold_numbers(text: str, language: str) -> bool:
    """Return False only if a text holds no number of at least SMALLEST; whether a word is one is looked up once."""
    words = words_of(text) if text.isascii() else {token.text.lower() for token in tokens(text)}
    return any(_is_number(word, language) for word in words)


@lru_cache(maxsize=1 << 16)
def _is_number(word: str, language: str) -> bool:
    """Return whether a word in lower case has digits, or is a number by itself."""
    folded = fold(word)
    return any(map(str.isdigit, folded)) or bool(numbers(word, [Token(0, len(word), word, folded)], language))


def _has_digits(words: Sequence[Token]) -> bool:
    """Return whether any word has digits: most texts have none, and need not be searched for numbers word by word."""
    return _DIGITS.search(" ".join([word.folded for word in words])) is not None


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

    scales = _SCALES.get(language, {})
    end = 0
    for found in find_numbers([_Spoken(word.text.lower()) for word in words], language, threshold=SMALLEST):
        yield from _scale_words(words, range(end, found.start), scales)
        end = found.end
        if found.value < LARGEST:
            yield Number(found.start, found.end, float(found.value), bool(found.is_ordinal))
    yield from _scale_words(words, range(end, len(words)), scales)


def _scale_words(words: Sequence[Token], places: Iterable[int], scales: Mapping[str, int]) -> Iterable[Number]:
    if scales:
        for at in places:
            if value := scales.get(words[at].folded):
                yield Number(at, at + 1, value, ordinal=False)


def _scaled(text: str, words: Sequence[Token], found: Iterable[Number]) -> list[Number]:
    """Join digits and the scale word after them, with a space or a hyphen between: 5 million."""
    joined: list[Number] = []
    for number in found:
        before = joined[-1] if joined else None
        if before and _is_scaled(text, words, before, number):
            joined[-1] = Number(before.first, number.last, round(before.value * number.value, 6), ordinal=False)
        else:
            joined.append(number)
    return joined


def _is_scaled(text: str, words: Sequence[Token], before: Number, number: Number) -> bool:
    """Return whether a number in digits counts a scale: hundred, thousand, million, or a hundred thousand."""
    gap = text[words[before.last - 1].end : words[number.first].start] if before.last == number.first else ""
    return (
        (gap.isspace() or gap == "-")
        and not before.ordinal
        and not number.ordinal
        and words[before.last - 1].folded.isdigit()
        and not words[number.first].folded.isdigit()
        and number.value in _POWERS
        and before.value < number.value
        and before.value * number.value < LARGEST
    )


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
    """Return the words of a text with each number as one token, whose folded form is the number's key.

    A number and a unit that are one word (`5km`) become two.
    """
    if _has_digits(words):
        words = [part for word in words for part in _without_unit(word, language)]
    merged: list[Token] = []
    position = 0
    for number in numbers(text, words, language):
        merged += words[position : number.first]
        start, end = words[number.first].start, words[number.last - 1].end
        merged.append(Token(start, end, text[start:end], number.key))
        position = number.last
    return [*merged, *words[position:]]


def _without_unit(word: Token, language: str) -> tuple[Token, ...]:
    found = _UNIT.fullmatch(word.folded)
    if (
        found is None
        or len(word.text) != len(word.folded)
        or _ORDINALS.get(language, _ORDINALS[""]).fullmatch(found[0])
    ):
        return (word,)
    at = len(found[1])
    middle = word.start + at
    return Token(word.start, middle, word.text[:at], found[1]), Token(middle, word.end, word.text[at:], found[2])


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


def ways(value: float, languages: Collection[str] = ()) -> list[list[set[int]]]:
    """Return the ways to say a number: for each of its words the values, any of which the word may have.

    943 is 943 itself, or nine (or 900) and hundred and 40 (or 43) and three. French says 80 as four and twenty.
    """
    if value != int(value) or not SMALLEST <= value < LARGEST:
        return []
    whole = int(value)
    powers = [power for power in (9, 6, 3, 0) if whole >= 10**power]
    groups = {power: whole // 10**power % 1000 for power in powers}
    found = [[{whole}], [part for power in powers for part in _group(groups[power], power, _tens)]]
    if powers[1:]:
        found.append([{group} for group in groups.values()])  # 5,000,000
    found += [
        [{whole // 10**power}, {int(decimals)}, {10**power}]  # 4.2 million
        for power in powers[:-1]
        if len(decimals := f"{whole % 10**power:0{power}}".rstrip("0")) in _DECIMALS
    ]
    if whole // 100 in _CENTURIES:
        found.append([{whole // 100}, *(_tens(whole % 100) or [{100}])])
    if "fr" in languages:
        found.append([part for power in powers for part in _group(groups[power], power, _tens_in_french)])
    return [way for at, way in enumerate(found) if way and way not in found[:at]]


def _group(group: int, power: int, tens: Callable[[int], list[set[int]]]) -> list[set[int]]:
    """Return the parts of three digits, and of the word for their power of ten."""
    hundreds = group // 100
    found = [{hundreds, 100 * hundreds}] if hundreds >= SMALLEST else []
    found += [{100, 100 * hundreds}] if hundreds else []
    found = [part | {group} for part in (*found, *tens(group % 100))]
    found += [{10**power}] if power and group else []
    return [part | {group * 10**power} for part in found]


def _tens(rest: int) -> list[set[int]]:
    units = rest % 10
    if rest < 20 or not units:  # noqa: PLR2004 -- the numbers with words of their own
        return [{rest}] if rest >= SMALLEST else []
    return [{rest - units, rest}] + ([{units, rest}] if units >= SMALLEST else [])


def _tens_in_french(rest: int) -> list[set[int]]:
    if rest < 70:  # noqa: PLR2004 -- soixante-dix
        return _tens(rest)
    return [{60}, *_tens(rest - 60)] if rest < 80 else [{4}, {20}, *_tens(rest - 80)]  # noqa: PLR2004 -- quatre-vingts


def parts(value: float, languages: Collection[str] = ()) -> set[int]:
    """Return the values of the words that may say this number: 943 is said with nine, hundred, forty and three."""
    return {item for way in ways(value, languages) for part in way for item in part if item >= SMALLEST}
