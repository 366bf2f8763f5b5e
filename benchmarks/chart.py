"""Small SVG charts for the documentation, without a plotting library."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 60, 44
COLOURS = ("#1f6feb", "#d1661f", "#2f9e63", "#8250df")
GREY = "#6e7781"


@dataclass(frozen=True, slots=True)
class Line:
    """A named curve."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(title: str, across: str, up: str, lines: Sequence[Line], bar: tuple[str, float]) -> str:
    """Return an SVG with curves from zero and a dashed line at `bar`, readable on light and dark pages."""
    widest = max(x for line in lines for x, _ in line.points)
    highest = 1.1 * max(bar[1], *(y for line in lines for _, y in line.points))

    def x_at(value: float) -> float:
        return LEFT + value / widest * (WIDTH - LEFT - RIGHT)

    def y_at(value: float) -> float:
        return HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 20, title, size=14)]
    for number in range(5):
        x, y = widest * number / 4, highest * number / 4
        parts += [_text(x_at(x), HEIGHT - BOTTOM + 16, f"{x:.0f}", anchor="middle")]
        parts += [_text(LEFT - 8, y_at(y) + 4, f"{y:.0f}", anchor="end")]
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 8, across, anchor="end"))
    parts.append(_text(LEFT - 8, TOP - 10, up, anchor="end"))
    parts.append(_rule(LEFT, WIDTH - RIGHT, y_at(0), dashed=False))
    parts.append(_rule(LEFT, WIDTH - RIGHT, y_at(bar[1]), dashed=True))
    parts.append(_text(WIDTH - RIGHT, y_at(bar[1]) - 5, f"{bar[0]} {bar[1]:g} {up}", anchor="end"))
    for number, line in enumerate(lines):
        path = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in _thinned(line.points))
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        parts.append(_text(LEFT + 220 * number, 38, line.name, colour=colour))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return "\n".join([head, *parts, "</svg>\n"])


def _thinned(points: Sequence[tuple[float, float]], most: int = 600) -> Sequence[tuple[float, float]]:
    """Return about `most` points at most, each the highest of its neighbours, so that every peak is included."""
    step = -(-len(points) // most)
    return [max(points[first : first + step], key=lambda point: point[1]) for first in range(0, len(points), step)]


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = GREY) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"


def _rule(left: float, right: float, y: float, *, dashed: bool) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="{GREY}"{dash}/>'
