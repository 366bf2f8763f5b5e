"""Recordings for measurements: the demo recordings, repeated. Streams are copied, so hours take seconds to make."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import ROOT
from transcription_assets import media
from transcription_assets.domain.media_keys import is_media

DEMO = ROOT / "demo" / "recordings"
REPEATS = (1, 1, 1, 2)
"""Each demo recording lasts about a minute: 12 files of 1 to 2 minutes, 15 minutes of speech in all."""


def batch(folder: Path) -> None:
    """Fill `folder` with a batch of recordings, each in one language like real ones.

    Raises:
        PermanentFailure: there is no ffmpeg.
        subprocess.CalledProcessError: ffmpeg failed.

    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in found(DEMO):
        for number, times in enumerate(REPEATS, 1):
            repeated([source], folder / f"{source.stem}-{number}.mp4", times)


def found(folder: Path) -> list[Path]:
    """Return the paths of the recordings below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and is_media(path.name))


def repeated(sources: Sequence[Path], target: Path, times: int) -> None:
    """Write `sources` in order, `times` times over, to `target` without decoding them.

    Raises:
        PermanentFailure: there is no ffmpeg.
        subprocess.CalledProcessError: ffmpeg failed.

    """
    listing = target.with_suffix(".txt")
    listing.write_text("".join(f"file '{path}'\n" for path in sources) * times, encoding="utf-8")
    make("-f", "concat", "-safe", "0", "-i", listing, "-c", "copy", target)
    listing.unlink()


def seconds(path: Path) -> float:
    """Return the duration of a recording, 0.0 if it states none.

    Raises:
        TranscriptionError: it cannot be decoded, or there is no ffmpeg.

    """
    return media.probe(str(path), path.name, ffmpeg=media.find_ffmpeg(), limit_s=60).duration or 0.0


def make(*arguments: str | Path) -> None:
    """Run ffmpeg with these arguments, including its output.

    Raises:
        PermanentFailure: there is no ffmpeg.
        subprocess.CalledProcessError: ffmpeg failed.

    """
    command = [media.find_ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)
