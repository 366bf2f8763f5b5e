"""The text of a slide from the lines in its picture: paragraphs, in reading order. Pure."""

import unicodedata
from collections.abc import Sequence

from transcription_assets.domain.text import is_unspaced, printable
from transcription_assets.slides.reader import Line

MOST_CHARACTERS = 4000
"""Characters of a slide that are kept: more than anybody reads, and what a passage of the search may have."""
MOST_PARTS = 500
"""Parts of lines that are put in order, the first ones: each is compared with all others."""
LINE_GAP = 0.9
"""Largest gap between two lines of a paragraph, as a share of the lines' height."""
WORD_GAP = 1.5
"""Largest gap between two parts of a line, as a share of their height."""
SAME_SIZE = 1.5
"""Largest ratio of the heights of two lines of a paragraph."""
SAME_ROW = 0.5
"""Least overlap of two parts of a line, as a share of their height."""


def text_of(lines: Sequence[Line]) -> str:
    """Return the text with one line for each paragraph, at most MOST_CHARACTERS long.

    Columns of vertical text are read from right to left, all else from the top, and from left to right.
    """
    lines = lines[:MOST_PARTS]
    flat = [line for line in lines if not line.vertical]
    columns = sorted((line for line in lines if line.vertical), key=lambda line: (-line.box.right, line.box.top))
    paragraphs = [*_paragraphs(flat), *([part] for part in columns)]
    written = "\n".join(text for paragraph in paragraphs if (text := _written(paragraph)))
    if len(written) <= MOST_CHARACTERS:
        return written
    cut = written[: MOST_CHARACTERS + 1]
    end = max(cut.rfind(" "), cut.rfind("\n"))
    return cut[: end if end > 0 else MOST_CHARACTERS]


def letters(text: str) -> int:
    """Return the number of letters and digits."""
    return sum(unicodedata.category(character)[0] in "LN" for character in text)


def _paragraphs(lines: Sequence[Line]) -> list[list[Line]]:
    """Group lines into paragraphs, ordered by their first line."""
    groups: list[list[Line]] = []
    for row in _rows(lines):
        home = next((group for group in reversed(groups) if _continues(group, row)), None)
        if home is None:
            groups.append(row)
        else:
            home += row
    return groups


def _rows(lines: Sequence[Line]) -> list[list[Line]]:
    """Join the parts of a line that stand side by side, from left to right; ordered from the top."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda item: item.box.left):
        home = next((row for row in rows if _is_beside(row[-1], line)), None)
        if home is None:
            rows.append([line])
        else:
            home.append(line)
    return sorted(rows, key=lambda row: (row[0].box.top, row[0].box.left))


def _is_beside(one: Line, other: Line) -> bool:
    smaller = min(one.box.height, other.box.height)
    common = min(one.box.bottom, other.box.bottom) - max(one.box.top, other.box.top)
    return common > SAME_ROW * smaller and -smaller <= other.box.left - one.box.right <= WORD_GAP * smaller


def _continues(paragraph: Sequence[Line], row: Sequence[Line]) -> bool:
    """Return whether the row is the next line of the paragraph: right below it, as large, and at the same place.

    A capital, a digit or a mark at its beginning makes it a paragraph of its own: most lines of slides are list items.
    """
    last, first = paragraph[-1].box, row[0].box
    smaller, larger = sorted((last.height, first.height))
    left = min(item.box.left for item in paragraph)
    right = max(item.box.right for item in paragraph)
    is_below = -smaller / 2 < first.top - last.bottom <= LINE_GAP * smaller and first.top > last.top
    is_aligned = first.left < right and row[-1].box.right > left
    return is_below and larger <= SAME_SIZE * smaller and is_aligned and _goes_on(row[0].text)


def _goes_on(text: str) -> bool:
    """Return whether a line with this text continues a sentence: it begins with a letter that is no capital."""
    return unicodedata.category(text.lstrip()[:1] or " ") in ("Ll", "Lo", "Lm")


def _written(paragraph: Sequence[Line]) -> str:
    text = ""
    for line in paragraph:
        part = " ".join(printable(unicodedata.normalize("NFC", line.text)).split())
        joined = not text or not part or (is_unspaced(text[-1]) and is_unspaced(part[0]))
        text += part if joined else f" {part}"
    return text
