"""Small pictures of slides: one for the page, and a contact sheet of several for the Dagster UI."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from transcription_assets.media.pictures import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 320
QUALITY = 60
COLUMNS, ROWS = 3, 2
SHEETS = ((96, 20), (96, 8), (80, 4), (64, 2), (48, 1), (32, 1))
"""Width of each picture of a contact sheet, and quality; best first."""


def thumbnail(pixels: Pixels) -> bytes:
    """Return the picture as WebP, SIDE pixels on its longer side."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    return _webp(picture, QUALITY)


def contact_sheet(thumbnails: Sequence[bytes], most_bytes: int) -> bytes:
    """Return a WebP of at most `most_bytes` with COLUMNS x ROWS of the pictures; empty if there are none.

    Of more pictures, evenly spaced ones are taken. The result is also empty if the sheet cannot be made that small.
    """
    count = min(len(thumbnails), COLUMNS * ROWS)
    chosen = [thumbnails[number * len(thumbnails) // count] for number in range(count)]
    sheets = (_webp(_sheet(chosen, width), quality) for width, quality in SHEETS if chosen)
    return next((sheet for sheet in sheets if len(sheet) <= most_bytes), b"")


def _sheet(pictures: Sequence[bytes], width: int) -> "Image":
    from PIL import Image

    opened = [Image.open(io.BytesIO(picture), formats=["WEBP"]).convert("RGB") for picture in pictures]
    height = max(1, round(width * opened[0].height / opened[0].width))
    columns = min(len(opened), COLUMNS)
    sheet = Image.new("RGB", (columns * width, -(-len(opened) // columns) * height))
    for number, picture in enumerate(opened):
        row, column = divmod(number, columns)
        sheet.paste(picture.resize((width, height)), (column * width, row * height))
    return sheet


def _webp(picture: "Image", quality: int) -> bytes:
    target = io.BytesIO()
    picture.save(target, "WEBP", quality=quality, method=4)
    return target.getvalue()
