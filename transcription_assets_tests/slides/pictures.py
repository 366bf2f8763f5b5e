"""Pictures of slides drawn with Pillow, talks made of them with ffmpeg, and a FAKE reader of text."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont  # noqa: TID253 -- the pictures of tests are drawn with it

from transcription_assets.media.pictures import Pixels
from transcription_assets.slides.reader import Box, Line
from transcription_assets_tests import recordings

WIDTH, HEIGHT = 640, 360
LEFT, TOP, LINE = 40, 30, 50
"""Where the first line is drawn, and the distance of lines."""
MARK = 8
"""Side of the squares in which a drawn slide has its number as bits, which the fake reads."""


def slide(number: int, *lines: str, size: int = 32) -> Pixels:
    """Return a picture with these lines, and the number as black and white squares at its lower edge."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (245, 240, 230))
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        draw.text((LEFT, TOP + row * LINE), line, (30, 30, 60), ImageFont.load_default(size))
    return np.array(numbered(picture, number))


def numbered(picture: Image.Image, number: int) -> Image.Image:
    draw = ImageDraw.Draw(picture)
    for bit in range(16):
        colour = (0, 0, 0) if number >> bit & 1 else (255, 255, 255)
        draw.rectangle((bit * MARK, HEIGHT - MARK, (bit + 1) * MARK - 1, HEIGHT), colour)
    return picture


def film_frame(seed: int) -> Pixels:
    """Return a picture without text: blurred blocks of colour, different for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 10, 3), np.uint8)
    picture = Image.fromarray(blocks).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.array(numbered(picture, 0))


def number_of(pixels: Pixels) -> int:
    """Return the number of a picture of any size; 0 for film."""
    height, width = pixels.shape[:2]
    row = int(height - MARK * height / HEIGHT / 2)
    columns = [int((bit + 0.5) * MARK * width / WIDTH) for bit in range(16)]
    return sum(1 << bit for bit, column in enumerate(columns) if pixels[row, column].mean() < 128)


@dataclass
class ScriptedReader:
    """FAKE: returns the scripted lines of the slide whose number is in the picture, and counts its calls."""

    texts: dict[int, Sequence[str]]
    model: str = "scripted@1"
    options: dict[str, float] = field(default_factory=dict)
    found: int = 0
    read_numbers: list[int] = field(default_factory=list)

    def find(self, pixels: Pixels) -> list[Box]:
        self.found += 1
        height, width = pixels.shape[:2]
        return [Box(0.05 * width, 0.05 * height, 0.9 * width, height)] if number_of(pixels) else []

    def read(self, pixels: Pixels) -> list[Line]:
        number = number_of(pixels)
        self.read_numbers.append(number)
        lines = self.texts.get(number, ())
        scale = pixels.shape[1] / WIDTH
        tops = (TOP + row * LINE for row in range(len(lines)))
        boxes = (Box(LEFT * scale, top * scale, 600 * scale, (top + 0.8 * LINE) * scale) for top in tops)
        return [Line(text, 1.0, box) for text, box in zip(lines, boxes, strict=True)]


def talk(path: Path, parts: Sequence[tuple[Pixels, float]], *options: str, rate: int = 5) -> Path:
    """Write a video with a quiet tone that shows each picture for so many seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = sum(length for _, length in parts)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(rate), "-i", "pipe:0"]
    tone = ["-f", "lavfi", "-i", f"aevalsrc='0.3*sin(2*PI*440*t)':s=16000:d={seconds}"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"]
    command = [recordings.wheel_ffmpeg(), "-v", "error", "-y", *raw, *tone, *codecs, *options, f"file:{path}"]
    frames = b"".join(pixels.tobytes() * round(length * rate) for pixels, length in parts)
    subprocess.run(command, input=frames, check=True, capture_output=True, timeout=120)
    return path
