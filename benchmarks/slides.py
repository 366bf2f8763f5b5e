"""Slides: CPU seconds for an hour of a talk and of a film, and how well the slides are found, timed and read.

`python -m benchmarks.slides [MINUTES]`. The talk is drawn: slides of 15 s in 1080p with 25 frames a second, a moving
picture in a corner, and key frames every 10 s. The film is drawn, too: blurred blocks of colour that move, with a cut
each second. So the film says what pictures without text cost, and not how often a real one has text by accident. The
demo's three talks are read as well.
"""

import random
import resource
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from transcription_assets import media, models, settings
from transcription_assets.pipeline import slides, video
from transcription_assets.pipeline.slides import SlideTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.slides.local import LocalReader
from transcription_assets.storage import Store

ROOT = Path(__file__).parent.parent
EACH_S = 15
WIDTH, HEIGHT, RATE = 1920, 1080, 25
_WORDS = (
    "market revenue growth customer server network energy storage climate patient protein school teacher budget forest "
    "river planet engine vector matrix theorem sample error method result figure table chart region policy"
)
WORDS = _WORDS.split()


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU seconds of ffmpeg and of this process, and what came out."""

    name: str
    duration_s: float
    ffmpeg_s: float
    own_s: float
    made: slides.Slides

    def print(self) -> None:
        """Print one line."""
        counts, hours = self.made.counts, self.duration_s / 3600
        print(
            f"{self.name}: {self.duration_s:.0f} s; for an hour {self.ffmpeg_s / hours:.0f} s of ffmpeg and "
            f"{self.own_s / hours:.0f} s of reading; {counts.pictures} pictures, {counts.searched} searched, "
            f"{counts.read} read, {len(self.made.slides)} slides {self.made.problem}"
        )


def main() -> None:
    """Measure and print."""
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    chosen = settings.load()
    reader = LocalReader(models.pull("pp-ocrv6-small", "ocr", chosen.models_dir))
    tools = SlideTools(reader, MediaDecoder(media.find_ffmpeg(chosen.ffmpeg)))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        reader.read(np.zeros((64, 64, 3), np.uint8))  # loads the weights
        texts = _talk(place / "talk.mp4", tools.decoder.ffmpeg, minutes * 60 // EACH_S)
        talk = _measured(place, "talk.mp4", tools)
        talk.print()
        _print_accuracy([[*lines] for lines in texts], [EACH_S * n for n in range(len(texts))], talk.made)
        _film(place / "film.mp4", tools.decoder.ffmpeg, minutes * 60)
        _measured(place, "film.mp4", tools).print()
        for script in sorted((ROOT / "demo/talks").glob("*.toml")):
            _demo(place, script, tools)


def _measured(folder: Path, name: str, tools: SlideTools) -> Figures:
    store = Store.open(str(folder / "store"))
    key = store.put_media(f"video/{name}", folder / name)
    duration = video.materialise(store, key, tools.decoder).probe.duration or 0.0
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    made = slides.materialise(store, key, tools)
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent = [_cpu_s(now) - _cpu_s(before) for now, before in zip(after, (own, children), strict=True)]
    return Figures(name, duration, spent[1], spent[0], made)


def _cpu_s(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _print_accuracy(texts: Sequence[Sequence[str]], starts: Sequence[float], made: slides.Slides) -> None:
    """Compare the slides with those that were drawn, in order: characters without white space, and times if known."""
    expected = ["".join("".join(lines).split()) for lines in texts]
    found = ["".join(slide.text.split()) for slide in made.slides]
    wrong = sum(Levenshtein.distance(*pair) for pair in zip_longest(expected, found, fillvalue=""))
    print(f"  {len(found)} of {len(expected)} slides; {wrong} of {sum(map(len, expected))} characters wrong")
    late = [abs(slide.start - start) for slide, start in zip(made.slides, starts, strict=False)]
    if late:
        print(f"  times off by {np.median(late):.2f} s (median), {max(late):.2f} s (most)")


def _demo(folder: Path, script: Path, tools: SlideTools) -> None:
    described = tomllib.loads(script.read_text(encoding="utf-8"))
    source = ROOT / "demo/recordings" / described["file"]
    (folder / source.name).write_bytes(source.read_bytes())
    found = _measured(folder, source.name, tools)
    found.print()
    texts = [[described["title"].upper(), item["heading"], *item["lines"]] for item in described["slides"]]
    _print_accuracy(texts, [], found.made)


def _talk(target: Path, ffmpeg: str, count: int) -> list[list[str]]:
    from PIL import Image, ImageDraw, ImageFont

    chance = random.Random(1)  # noqa: S311 -- no secret
    texts, pictures = [], []
    for number in range(count):
        words = [" ".join(chance.choices(WORDS, k=chance.randint(4, 8))) for _ in range(chance.randint(3, 8))]
        lines = [f"{chance.choice(WORDS)} {chance.choice(WORDS)} {number + 1}".capitalize()]
        lines += [text.capitalize() for text in words]
        picture = Image.new("RGB", (WIDTH, HEIGHT), (250, 248, 244))
        draw = ImageDraw.Draw(picture)
        for row, line in enumerate(lines):
            size = 44 if row else 84
            draw.text((120, 90 + (80 + row * 90) * (row > 0)), line, (30, 30, 80), ImageFont.load_default(size))
        texts.append(lines)
        pictures.append(picture.tobytes())
    moving = ["-f", "lavfi", "-i", f"mandelbrot=s=320x240:r={RATE}"]
    joined = f"[0:v]fps={RATE}[a];[a][1:v]overlay=W-w-20:H-h-20:shortest=1[v]"
    _encode(
        ffmpeg,
        target,
        pictures,
        rate=f"1/{EACH_S}",
        rest=[*moving, "-filter_complex", joined, "-map", "[v]"],
        key_frames=10 * RATE,
    )
    return texts


def _film(target: Path, ffmpeg: str, seconds: int) -> None:
    from PIL import Image

    chance = np.random.default_rng(1)
    pictures = []
    for _ in range(seconds):
        blocks = chance.integers(0, 255, (6, 10, 3), np.uint8)
        pictures.append(Image.fromarray(blocks).resize((480, 270), Image.Resampling.BICUBIC).tobytes())
    zoomed = f"[0:v]fps={RATE},scale={WIDTH}:{HEIGHT},crop=iw-100:ih-100:mod(n\\,100):50[v]"
    _encode(
        ffmpeg,
        target,
        pictures,
        rate="1",
        rest=["-filter_complex", zoomed, "-map", "[v]"],
        key_frames=RATE,
        size="480x270",
    )


def _encode(
    ffmpeg: str,
    target: Path,
    pictures: Sequence[bytes],
    *,
    rate: str,
    rest: Sequence[str],
    key_frames: int,
    size: str = f"{WIDTH}x{HEIGHT}",
) -> None:
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "pipe:0"]
    tone = ["-f", "lavfi", "-i", "sine=f=300:r=16000"]
    inputs, output = [*raw, *rest[: rest.index("-filter_complex")]], rest[rest.index("-filter_complex") :]
    sound = 1 + inputs.count("lavfi")
    codecs = ["-map", f"{sound}:a", "-shortest", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "28"]
    command = [ffmpeg, "-v", "error", "-y", *inputs, *tone, *output, *codecs, "-g", str(key_frames), "-c:a", "aac"]
    subprocess.run([*command, str(target)], input=b"".join(pictures), check=True)


if __name__ == "__main__":
    main()
