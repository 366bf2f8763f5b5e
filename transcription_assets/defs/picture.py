"""A picture of a transcript: two bars over time, speech above and words below, what is missing in red.

A PNG so small that it fits into the Markdown that Dagster's UI shows at once.
"""

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from transcription_assets.transcript import Span, Transcript

COLUMNS = (480, 360, 240, 160, 96)
"""Widths in pixels, best first: what does not fit becomes coarser."""
BAR_PX = 14
GAP_PX = 4

NOTHING, SPEECH, WORDS, HOLE, SUSPECT = range(5)
PALETTE = {NOTHING: 0xEEF0F3, SPEECH: 0x9AA5B1, WORDS: 0x2F9E44, HOLE: 0xE03131, SUSPECT: 0xF08C00}
LEGEND = "above: speech (grey) and holes without words (red); below: words (green) and suspect ones (orange)"

Pixels = NDArray[np.uint8]


def coverage(made: Transcript, limit: int) -> str:
    """An image in Markdown, shorter than `limit` characters; empty where the recording has no length."""
    if not made.duration:
        return ""
    for columns in COLUMNS:
        data = base64.b64encode(png(_rows(made, columns))).decode()
        shown = f"![speech and words](data:image/png;base64,{data})"
        if len(shown) + len(LEGEND) + 4 < limit:
            return f"{shown}\n\n{LEGEND}"
    return ""


def _rows(made: Transcript, columns: int) -> Pixels:
    """Shape (height, columns), indexes into the palette."""
    doubtful = [(item.start, item.end) for item in made.segments if item.doubt]
    words = [(word.start, word.end) for word in made.words]
    speech = _bar(made.duration, columns, ((SPEECH, made.speech.voiced), (HOLE, made.speech.holes)))
    spoken = _bar(made.duration, columns, ((WORDS, words), (SUSPECT, [*doubtful, *made.speech.inventions])))
    gap = np.zeros((GAP_PX, columns), np.uint8)
    return np.concatenate([np.tile(speech, (BAR_PX, 1)), gap, np.tile(spoken, (BAR_PX, 1))])


def _bar(duration: float, columns: int, layers: Sequence[tuple[int, Iterable[Span]]]) -> Pixels:
    """One row; later layers lie above, and a span of any length is at least one pixel."""
    row = np.zeros(columns, np.uint8)
    for colour, spans in layers:
        for start, end in spans:
            first = min(int(start / duration * columns), columns - 1)
            row[first : max(first + 1, round(end / duration * columns))] = colour
    return row


def png(rows: Pixels) -> bytes:
    """An indexed PNG of four bits a pixel; rows that repeat cost next to nothing."""
    height, width = rows.shape
    even = np.pad(rows, ((0, 0), (0, width % 2)))
    packed = (even[:, ::2] << 4 | even[:, 1::2]).astype(np.uint8)
    above = np.vstack([np.zeros((1, packed.shape[1]), np.uint8), packed[:-1]])
    # Filter 2: each row as its difference to the one above.
    lines = np.hstack([np.full((height, 1), 2, np.uint8), packed - above]).tobytes()
    palette = b"".join(PALETTE[index].to_bytes(3) for index in sorted(PALETTE))
    header = struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(name, data) for name, data in parts)


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
