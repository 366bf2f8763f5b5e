"""Offsets at which text may be cut, by ICU's dictionaries and the line breaking rules of Unicode (UAX #14). Pure.

ICU has dictionaries of Thai, Lao, Khmer, Burmese, Chinese and Japanese, which are written without spaces. Each function
returns offsets into the text, ascending and without both ends; white space belongs to the text after it.
"""

import re
from typing import Any

_STRICT = "und-u-lb-strict"
"""Small kana and the prolonged sound mark never start a line (kinsoku)."""
_PHRASES = "ja-u-lb-strict-lw-phrase"
"""Particles stay with their noun and endings with their verb; Korean words stay whole, other scripts are unchanged."""
_LONE_DASH = re.compile(r"\s+[-–—]+(?:\s|$)")
_SURROGATES = re.compile("[\ud800-\udfff]")


def line_breaks(text: str) -> list[int]:
    """Return the offsets at which a line may end by the strict rules alone, such as between two Chinese characters.

    A dash that stands alone does not start a line: it would look like a change of speaker.
    """
    from icu4py.breakers import CharacterBreaker, LineBreaker

    # By the rules a Thai vowel sign after a full stop may start a line, although it is part of a character.
    characters = set(_offsets(CharacterBreaker, text, "und"))
    breaks = _offsets(LineBreaker, text, _STRICT)
    return [at for at in breaks if at in characters and not _LONE_DASH.match(text, at)]


def word_breaks(text: str) -> list[int]:
    """Return the offsets at which a line may end and a word of the dictionary ends."""
    from icu4py.breakers import WordBreaker

    words = set(_offsets(WordBreaker, text, "und"))
    return [at for at in line_breaks(text) if at in words]


def phrase_breaks(text: str) -> list[int]:
    """Return those of `word_breaks` at which a reader of Japanese, Chinese or Korean expects a line to end."""
    from icu4py.breakers import LineBreaker

    phrases = set(_offsets(LineBreaker, text, _PHRASES))
    return [at for at in word_breaks(text) if at in phrases]


def _offsets(breaker: Any, text: str, locale: str) -> list[int]:
    """Return the borders between ICU's segments, each moved before the white space that it follows.

    They are computed from the lengths of the segments: icu4py's offsets count UTF-16 units.
    """
    # ICU rejects surrogates; a replacement character has the same length and breaks in the same way.
    encodable = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
    found: set[int] = set()
    start = last = 0
    for segment in breaker(encodable, locale):
        if length := len(segment.rstrip()):
            last = start + length
            found.add(last)
        start += len(segment)
    return sorted(found - {last})
