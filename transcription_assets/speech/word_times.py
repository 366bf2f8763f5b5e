"""Times of words from the answer of a speech service, which may state none, or impossible ones. Pure functions.

The text is what the service says. Its tokens get the times of the service's words where the characters agree; the
others share the time between their neighbours, or the voiced regions, by their length.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from transcription_assets.domain.chunking import Region, clip_regions, merge_regions
from transcription_assets.domain.text import is_unspaced
from transcription_assets.domain.transcript import Word

OUTSIDE_S = 1.0
"""Distance from the chunk up to which a time is moved to its edge; services round, and pad chunks with silence."""
MOST_ALIGNED = 2000
"""Characters of a text whose words are aligned: several times what can be said in 30 s. Alignment is quadratic."""
LONGEST_WORD_S = 5.0
FASTEST_LETTERS_PER_S = 40.0
"""More than twice the rate of running speech."""


@dataclass(frozen=True, slots=True)
class TimedText:
    """Text with times in seconds, as a service states them; `probability` is 0.0 if it states none."""

    start: float
    end: float
    text: str
    probability: float = 0.0


def placed(text: str, stated: Sequence[TimedText], voiced: Sequence[Region], length: float) -> tuple[list[Word], bool]:
    """Return the words of a text with times in [0, length], and whether times are estimated.

    `stated` are the service's words or segments, in order. If one of them is impossible, or all together are
    implausible, none is used. `voiced` are the regions with speech; without any, the whole chunk is.
    """
    tokens = _tokens(text)
    if not tokens:
        return [], False
    regions = [item for item in voiced if item.length > 0] or [Region(0.0, length)]
    size = max(len(text), sum(len(item.text) for item in stated) // 2)
    usable = (
        stated if size <= MOST_ALIGNED and _are_possible(stated, length) and _are_plausible(stated, regions) else ()
    )
    found = _matched(tokens, [word for item in usable for word in _parts(item, regions)])
    estimated = None in found or any(len(item.text.split()) > 1 for item in usable)
    return list(_filled(tokens, found, regions, length)), estimated


def spread(tokens: Sequence[str], regions: Sequence[Region]) -> list[Word]:
    """Return the tokens as words that share the time of the regions by their length."""
    total = sum(region.length for region in regions)
    weights = [max(len(token.strip()), 1) for token in tokens]
    step = total / sum(weights) if tokens else 0.0
    words, done = [], 0
    for token, weight in zip(tokens, weights, strict=True):
        start, end = _at(done * step, regions), _at((done + weight) * step, regions, ends=True)
        words.append(Word(start, max(start, end), token, 0.0))
        done += weight
    return words


def _tokens(text: str) -> list[str]:
    """Return the words of a text with their leading spaces; in scripts without spaces, the characters.

    Marks without a letter or digit belong to the word before them.
    """
    tokens: list[str] = []
    for piece in text.split():
        parts = re.findall(r"[^\W_]\W*|[\W_]+", piece) if any(map(is_unspaced, piece)) else [piece]
        for number, part in enumerate(parts):
            token = part if number or is_unspaced(part[0]) else f" {part}"
            if tokens and not _letters(part):
                tokens[-1] += token
            else:
                tokens.append(token)
    return tokens


def _parts(item: TimedText, regions: Sequence[Region]) -> list[Word]:
    """Return the words of a stated word or segment; several share its voiced time."""
    tokens = _tokens(item.text)
    inside = [
        Region(max(region.start, item.start), min(region.end, item.end))
        for region in regions
        if region.start < item.end and region.end > item.start
    ]
    words = spread(tokens, inside or [Region(item.start, item.end)])
    if len(words) == 1:
        words = [Word(item.start, item.end, words[0].word, 0.0)]
    return [replace(word, probability=item.probability) for word in words]


def _are_possible(stated: Sequence[TimedText], length: float) -> bool:
    """Return whether all times are numbers in order and inside the chunk, or at most OUTSIDE_S from it."""
    clock = -OUTSIDE_S
    for item in stated:
        if not (math.isfinite(item.start) and math.isfinite(item.end)):
            return False
        if item.start < clock - OUTSIDE_S or item.end < item.start or item.end > length + OUTSIDE_S:
            return False
        clock = item.start
    return any(item.end > item.start for item in stated)


def _are_plausible(stated: Sequence[TimedText], regions: Sequence[Region]) -> bool:
    """Return whether words can be spoken in these times: an aligner that failed puts them into one moment, or a pause.

    Most have a length, none lasts longer than LONGEST_WORD_S, and their voiced time suffices for their letters.
    """
    if 2 * sum(item.end > item.start for item in stated) <= len(stated):
        return False
    if any(item.end - item.start > LONGEST_WORD_S * max(len(_tokens(item.text)), 1) for item in stated):
        return False
    spans = merge_regions((Region(item.start, item.end) for item in stated), 0.0)
    covered = sum(part.length for span in spans for part in clip_regions(regions, span))
    return sum(len(_letters(item.text)) for item in stated) <= FASTEST_LETTERS_PER_S * covered


def _matched(tokens: Sequence[str], stated: Sequence[Word]) -> list[Word | None]:
    """Return each token with the time of the stated words that have its characters; None if they have none of them.

    Stated words are aligned by their letters and digits, because services leave out punctuation, and join words.
    """
    said = [(letter, number) for number, token in enumerate(tokens) for letter in _letters(token)]
    timed = [(letter, number) for number, item in enumerate(stated) for letter in _letters(item.word)]
    matcher = SequenceMatcher(None, [letter for letter, _ in said], [letter for letter, _ in timed], autojunk=False)
    spans: dict[int, list[int]] = {}
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            spans.setdefault(said[block.a + offset][1], []).append(timed[block.b + offset][1])
    return [
        Word(
            stated[spans[number][0]].start,
            stated[spans[number][-1]].end,
            token,
            min(stated[other].probability for other in spans[number]),
        )
        if number in spans and len(spans[number]) * 2 >= len(_letters(token))
        else None
        for number, token in enumerate(tokens)
    ]


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _filled(
    tokens: Sequence[str], found: Sequence[Word | None], regions: Sequence[Region], length: float
) -> Iterator[Word]:
    """Yield all words in order of time; runs without times share the voiced time between their neighbours."""
    clock, at = 0.0, 0
    while at < len(tokens):
        word = found[at]
        if word is not None:
            start = min(max(word.start, clock, 0.0), length)
            clock = min(max(word.end, start), length)
            yield Word(start, clock, word.word, word.probability)
            at += 1
            continue
        last = next((number for number in range(at, len(tokens)) if found[number] is not None), len(tokens))
        following = found[last].start if last < len(tokens) else length  # type: ignore[union-attr]
        between = Region(clock, min(max(following, clock), length))
        inside = [
            Region(max(item.start, between.start), min(item.end, between.end))
            for item in regions
            if item.start < between.end and item.end > between.start
        ]
        yield from spread(tokens[at:last], inside or [between])
        clock, at = between.end, last


def _at(seconds: float, regions: Sequence[Region], *, ends: bool = False) -> float:
    """Return the time at which so many seconds of the regions have passed; at a border the start of the later one.

    With `ends` it is the end of the earlier one.
    """
    for region in regions:
        if seconds < region.length or (ends and seconds <= region.length + 1e-9):
            return region.start + min(seconds, region.length)
        seconds -= region.length
    return regions[-1].end
