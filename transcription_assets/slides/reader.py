"""The protocol of what reads text in pictures, and the values that it returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from transcription_assets.media.pictures import Pixels


class Box(NamedTuple):
    """The place of a line of text: pixels from the top left of its picture, axis-parallel."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text with its place, and how sure the reader is of it, in [0, 1].

    A `vertical` line runs from top to bottom, as in Japanese or at the side of a diagram.
    """

    text: str
    confidence: float
    box: Box
    vertical: bool = False


class TextReader(Protocol):
    """Reads text in pictures."""

    @property
    def model(self) -> str:
        """Name and revision of the weights."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Options that affect the text, as values for JSON."""
        ...

    def find(self, pixels: Pixels) -> Sequence[Box]:
        """Return where the picture has text, at a low resolution, without reading it.

        Raises:
            PermanentFailure: the weights cannot be loaded.

        """
        ...

    def read(self, pixels: Pixels) -> Sequence[Line]:
        """Return the lines of text of the picture, in any order.

        Raises:
            PermanentFailure: the weights cannot be loaded.

        """
        ...
