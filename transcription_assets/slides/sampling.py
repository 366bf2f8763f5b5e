"""Decisions about pictures: which ones to examine, which are the same, and how many slides a recording may have. Pure.

Pictures are compared by their sketch, a small grey picture.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.fuzz import ratio

from transcription_assets.media.pictures import Pixels
from transcription_assets.slides.reader import Box

Sketch = NDArray[np.float32]
"""Grey levels in [0, 255], shape (SKETCH_HEIGHT, SKETCH_WIDTH)."""
Mask = NDArray[np.bool_]
"""The cells of a sketch with text."""

SKETCH_WIDTH, SKETCH_HEIGHT = 96, 54

DISTINCT = 16.0
"""Difference of grey levels from which a cell has changed; compression changes cells by about 3."""
CHANGED_CELLS = 8
"""Changed cells from which two pictures differ: a line of text covers some 50."""
SAME_CELLS = 16
"""Cells with text that may change while a slide stays: a mouse pointer that moves over text changes about as many."""
SAME_TEXT = 90.0
"""Least similarity of two texts of one slide, in [0, 100]."""

EVERY_S = 2.0
"""Least distance of two pictures that are examined."""
MOST_PICTURES = 10_000
"""Pictures of one recording that are decoded: from 5.5 h on, they are more than EVERY_S apart."""
TEXTLESS = 5
"""Pictures without text after which fewer are examined."""
SPARSEST_S = 20.0
"""Largest distance of two pictures that are examined, where there has been no text for a while."""

FIRST = 60
SLIDE_EVERY_S = 15.0
MOST_SLIDES = 2000
"""A recording has at most FIRST slides, plus one for each SLIDE_EVERY_S seconds, up to MOST_SLIDES."""
READ_EVERY_S = 5.0
MOST_READ = 5000
"""The same for the pictures that are read, which is what costs most."""
LEAST_LETTERS = 6
"""A picture with fewer letters and digits is not a slide."""


def sketch(pixels: Pixels) -> Sketch:
    """Return the picture as a sketch: each cell is the mean of its part of the picture."""
    from PIL import Image

    small = Image.fromarray(pixels).convert("L").resize((SKETCH_WIDTH, SKETCH_HEIGHT), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def differ(one: Sketch, other: Sketch) -> bool:
    """Return whether anything has changed that could be text."""
    return bool((np.abs(one - other) > DISTINCT).sum() >= CHANGED_CELLS)


def mask_of(boxes: Iterable[Box], width: int, height: int) -> Mask:
    """Return the cells that these boxes of a picture of this size touch."""
    mask: Mask = np.zeros((SKETCH_HEIGHT, SKETCH_WIDTH), np.bool_)
    for box in boxes:
        rows = slice(max(0, int(box.top / height * SKETCH_HEIGHT)), int(box.bottom / height * SKETCH_HEIGHT) + 1)
        columns = slice(max(0, int(box.left / width * SKETCH_WIDTH)), int(box.right / width * SKETCH_WIDTH) + 1)
        mask[rows, columns] = True
    return mask


def same_within(mask: Mask, one: Sketch, other: Sketch) -> bool:
    """Return whether two pictures are the same in the cells with text, whatever moves beside them."""
    changed = np.abs(one - other)[mask] > DISTINCT
    return bool(changed.sum() <= SAME_CELLS)


def same_text(one: str, other: str) -> bool:
    """Return whether two texts are of one slide: readings of one text differ in some letters."""
    return float(ratio(one, other, score_cutoff=SAME_TEXT)) >= SAME_TEXT


def interval(duration: float | None) -> float:
    """Return the least distance of two pictures of a recording of this duration, all in seconds."""
    # Rounded up to milliseconds, which ffmpeg gets: fewer pictures than the limit, never more.
    return max(EVERY_S, ceil((duration or 0.0) / MOST_PICTURES * 1000) / 1000)


def may_have(slides: int, at: float) -> bool:
    """Return whether a recording with this many slides before second `at` may have another one."""
    return slides < min(FIRST + at / SLIDE_EVERY_S, MOST_SLIDES)


def may_read(pictures: int, at: float) -> bool:
    """Return whether another picture may be read, after this many before second `at`."""
    return pictures < min(FIRST + at / READ_EVERY_S, MOST_READ)


@dataclass(slots=True)
class Schedule:
    """When the next picture is examined: each time there is no text, the distance doubles, up to SPARSEST_S."""

    textless: int = 0
    last: float = -SPARSEST_S

    def is_due(self, at: float) -> bool:
        """Return whether the picture at this second is to be examined."""
        return at - self.last >= min(EVERY_S * (1 << max(0, self.textless - TEXTLESS)), SPARSEST_S)

    def note(self, at: float, *, has_text: bool) -> None:
        """Record that the picture at this second was examined."""
        self.last = at
        self.textless = 0 if has_text else min(self.textless + 1, TEXTLESS + 10)
