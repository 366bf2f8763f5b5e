"""A picture of a transcript: speech above and words below over time, gaps in red, with ticks.

A PNG small enough for the Markdown that Dagster's UI shows inline. Its background is transparent, for light and dark
themes.
"""

import base64
from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.transcript import Span, Transcript, format_clock

COLUMNS = (480, 360, 240, 160, 96)
"""Widths in pixels, best first; a narrower picture is used if a wider one does not fit."""
BAR_PX = 14
GAP_PX = 3
TICK_PX = 4
MOST_TICKS = 12
TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18_000, 36_000, 86_400)
NAMED_GAPS = 4

EMPTY, TRACK, SPEECH, WORDS, HOLE, SUSPECT = range(6)
PALETTE = {EMPTY: 0, TRACK: 0x8893A5, SPEECH: 0x8893A5, WORDS: 0x2F9E44, HOLE: 0xE03131, SUSPECT: 0xF08C00}
OPACITY = {EMPTY: 0x00, TRACK: 0x38}
"""Alpha of palette entries; the others are opaque."""

Pixels = NDArray[np.uint8]


def coverage(transcript: Transcript, limit: int) -> str:
    """Return a Markdown image with its legend, shorter than `limit` characters; empty if that is impossible."""
    if not transcript.duration:
        return ""
    caption = legend(transcript)
    for columns in COLUMNS:
        data = base64.b64encode(png(_rows(transcript, columns))).decode()
        image = f"![speech and words](data:image/png;base64,{data})"
        if len(image) + len(caption) + 4 < limit:
            return f"{image}\n\n{caption}"
    return ""


def legend(transcript: Transcript) -> str:
    """Return the meaning of colours and ticks, and the times of the longest gaps."""
    gaps = sorted(sorted(transcript.speech.gaps, key=lambda span: span[0] - span[1])[:NAMED_GAPS])
    named = ", ".join(f"{format_clock(start)}–{format_clock(end)}" for start, end in gaps)
    more = ", …" if len(transcript.speech.gaps) > NAMED_GAPS else "."
    missing = f"Red: no words at {named}{more}" if gaps else "No gaps."
    tick = format_clock(_tick_s(transcript.duration))
    return f"Above: speech. Below: words (orange: low confidence). One tick every {tick}. {missing}"


def _tick_s(duration: float) -> int:
    return next((step for step in TICKS_S if duration / step <= MOST_TICKS), TICKS_S[-1])


def _rows(transcript: Transcript, columns: int) -> Pixels:
    """Return the palette indexes of all pixels, shape (height, columns)."""
    unsure = [(item.start, item.end) for item in transcript.segments if item.low_confidence]
    words = [(word.start, word.end) for word in transcript.words]
    speech = _bar(transcript.duration, columns, ((SPEECH, transcript.speech.voiced), (HOLE, transcript.speech.gaps)))
    spoken = _bar(
        transcript.duration, columns, ((WORDS, words), (SUSPECT, [*unsure, *transcript.speech.hallucinations]))
    )
    gap = np.full((GAP_PX, columns), EMPTY, np.uint8)
    ticks = np.full((TICK_PX, columns), EMPTY, np.uint8)
    step = _tick_s(transcript.duration)
    ticks[:, [int(at / transcript.duration * (columns - 1)) for at in range(0, int(transcript.duration) + 1, step)]] = (
        SPEECH
    )
    return np.concatenate([np.tile(speech, (BAR_PX, 1)), gap, np.tile(spoken, (BAR_PX, 1)), gap, ticks])


def _bar(duration: float, columns: int, layers: Sequence[tuple[int, Iterable[Span]]]) -> Pixels:
    """Return one row of pixels; later layers cover earlier ones, and each span has at least one pixel."""
    row = np.full(columns, TRACK, np.uint8)
    for colour, spans in layers:
        for start, end in spans:
            first = min(int(start / duration * columns), columns - 1)
            row[first : max(first + 1, round(end / duration * columns))] = colour
    return row


def png(rows: Pixels) -> bytes:
    """Encode palette indexes, shape (height, width), as an indexed PNG: so few colours take 4 bits a pixel."""
    from PIL import Image

    image = Image.frombytes("P", rows.shape[::-1], rows.tobytes())
    image.putpalette(b"".join(PALETTE[index].to_bytes(3) for index in sorted(PALETTE)))
    encoded = BytesIO()
    image.save(encoded, "PNG", optimize=True, transparency=bytes(OPACITY[index] for index in sorted(OPACITY)))
    return encoded.getvalue()
