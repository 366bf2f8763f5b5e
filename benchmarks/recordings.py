"""Speech to measure on: the demo recordings, repeated. Streams are copied, so making hours takes seconds."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import ROOT
from transcription_assets import media
from transcription_assets.keys import is_media

DEMO = ROOT / "demo" / "recordings"
REPEATS = (1, 1, 1, 2)
"""Each demo recording lasts about a minute: 12 files of 1 to 2 minutes, 15 minutes of speech in all."""


def batch(folder: Path) -> None:
    """Fill `folder` with a batch of recordings, each in one language as people record them."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in found(DEMO):
        for number, times in enumerate(REPEATS, 1):
            repeated([source], folder / f"{source.stem}-{number}.mp4", times)


def found(folder: Path) -> list[Path]:
    """The recordings below `folder`."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and is_media(path.name))


def repeated(sources: Sequence[Path], target: Path, times: int) -> None:
    """Write `sources`, one after the other, `times` over, to `target` without decoding them."""
    listing = target.with_suffix(".txt")
    listing.write_text("".join(f"file '{path}'\n" for path in sources) * times, encoding="utf-8")
    make("-f", "concat", "-safe", "0", "-i", listing, "-c", "copy", target)
    listing.unlink()


def seconds(path: Path) -> float:
    """How long a recording is."""
    return media.probe(str(path), path.name, ffmpeg=media.find_ffmpeg(), limit_s=60).duration or 0.0


def make(*arguments: str | Path) -> None:
    """Run ffmpeg with these arguments, an output among them."""
    command = [media.find_ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)
