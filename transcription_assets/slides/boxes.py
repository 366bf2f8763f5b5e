"""From the outputs of the two networks to lines of text: places of lines, and the characters of a line. Pure."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcription_assets.slides.reader import Box

Map = NDArray[np.float32]

TEXT = 0.3
"""Least probability of a pixel that belongs to text."""
LEAST_SCORE = 0.6
"""Least mean probability of the pixels of a line."""
LEAST_SIDE = 3
"""Least height and width of a line, in pixels of the map."""
HIGHEST = 0.5
"""Largest height of a line, as a share of the picture's shorter side: what is larger is a surface."""
GROWTH = 1.6
"""The network marks the core of a line; its margin is this share of its area, divided by its circumference."""
MOST_LINES = 100
"""Lines of one picture that are read, the tallest first."""
MOST_COMPONENTS = 2000
"""Connected areas of one map that are examined: noise has many thousands."""
STEEPEST = math.radians(30)
FLATTEST = math.radians(1)
ELONGATED = 4.0
"""Ratio of width and height from which the slope of a line can be measured."""


class Place(NamedTuple):
    """A line of text in a picture: the centre, the size and the slope (radians, clockwise) of its rectangle, in pixels.

    The slope of a vertical line is 0.
    """

    x: float
    y: float
    width: float
    height: float
    slope: float

    @property
    def box(self) -> Box:
        """The axis-parallel rectangle around it."""
        across = abs(self.width * math.cos(self.slope)) + abs(self.height * math.sin(self.slope))
        down = abs(self.width * math.sin(self.slope)) + abs(self.height * math.cos(self.slope))
        return Box(self.x - across / 2, self.y - down / 2, self.x + across / 2, self.y + down / 2)

    @property
    def corners(self) -> tuple[float, ...]:
        """Coordinates (x, y) of top left, bottom left, bottom right and top right, as seen along the line."""
        cos, sin = math.cos(self.slope), math.sin(self.slope)
        offsets = ((-1, -1), (-1, 1), (1, 1), (1, -1))
        points = ((across * self.width / 2, down * self.height / 2) for across, down in offsets)
        return tuple(value for u, v in points for value in (self.x + u * cos - v * sin, self.y + u * sin + v * cos))


def places_of(probabilities: Map, scale: float) -> list[Place]:
    """Return the lines in a map of text probabilities, the tallest first; `scale` is picture pixels per map pixel."""
    from scipy import ndimage

    labels, _ = ndimage.label(probabilities > TEXT, structure=np.ones((3, 3)))
    areas = ndimage.find_objects(labels)[:MOST_COMPONENTS]
    found = list(_components(probabilities, labels, areas))
    found.sort(key=lambda place: -min(place.width, place.height))
    return [
        Place(place.x * scale, place.y * scale, place.width * scale, place.height * scale, place.slope)
        for place in found[:MOST_LINES]
    ]


def _components(probabilities: Map, labels: NDArray[np.int32], areas: Sequence[tuple[slice, slice]]) -> Iterator[Place]:
    for number, area in enumerate(areas, 1):
        down, across = area
        thickness = min(down.stop - down.start, across.stop - across.start)
        if not LEAST_SIDE <= thickness <= HIGHEST * min(labels.shape):
            continue
        inside = labels[area] == number
        if probabilities[area][inside].mean() < LEAST_SCORE:
            continue
        yield _grown(_rectangle(inside, across.start, down.start))


def _rectangle(inside: NDArray[np.bool_], left: int, top: int) -> Place:
    """Return the rectangle around the pixels; that of a sloping line is turned."""
    height, width = inside.shape
    slope = _slope(inside) if width > height * ELONGATED else 0.0
    if not FLATTEST <= abs(slope) <= STEEPEST:
        return Place(left + width / 2, top + height / 2, width, height, 0.0)
    rows, columns = np.nonzero(inside)
    cos, sin = math.cos(slope), math.sin(slope)
    along, off = columns * cos + rows * sin, rows * cos - columns * sin
    u, v = (along.min() + along.max()) / 2, (off.min() + off.max()) / 2
    x, y = u * cos - v * sin, u * sin + v * cos
    return Place(left + float(x) + 0.5, top + float(y) + 0.5, float(np.ptp(along)) + 1, float(np.ptp(off)) + 1, slope)


def _slope(inside: NDArray[np.bool_]) -> float:
    """Return the slope of the pixels' longest axis, clockwise in radians."""
    rows, columns = np.nonzero(inside)
    spread = np.cov(np.stack([columns, rows]))
    return 0.5 * math.atan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1])


def _grown(place: Place) -> Place:
    margin = place.width * place.height * GROWTH / (2 * (place.width + place.height))
    return place._replace(width=place.width + 2 * margin, height=place.height + 2 * margin)


def decode(probabilities: Map, characters: Sequence[str]) -> tuple[str, float]:
    """Return the text of a line and its mean confidence, from probabilities of shape (steps, characters).

    The first character is the blank of CTC: repetitions without a blank between them are one character.
    """
    best = probabilities.argmax(1)
    kept = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
    if not kept.any():
        return "", 0.0
    return "".join(characters[index] for index in best[kept]), float(probabilities.max(1)[kept].mean())
