"""Recordings for measurements: the demo recordings, repeated. Streams are copied, so hours take seconds to make."""

import json
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


def english() -> list[Path]:
    """Return the English recordings of the demo, for models that know no other language."""
    entries = json.loads((DEMO.parent / "recordings.json").read_text(encoding="utf-8"))
    return [DEMO / entry["file"] for entry in entries if entry["language"] == "en"]


def long(target: Path, length_s: float, sources: Sequence[Path] = (), more: Path | None = None) -> None:
    """Write a recording of about `length_s` seconds from `sources` (by default the demo), repeated.

    `more` is a folder of further recordings, of any format.

    Raises:
        TranscriptionError: one of them cannot be decoded, or there is no ffmpeg.
        subprocess.CalledProcessError: ffmpeg failed.

    """
    sources = sources or found(DEMO)
    joined = target.with_name(f"{target.stem}-once.mp4")
    if more:
        _join([*sources, *found(more)], joined)
        sources = [joined]
    repeated(sources, target, max(1, round(length_s / sum(map(seconds, sources)))))
    joined.unlink(missing_ok=True)


def _join(sources: Sequence[Path], target: Path) -> None:
    """Encode the sound of recordings of any format as one, so that it can be repeated without decoding."""
    inputs = [part for source in sources for part in ("-i", source)]
    same = "".join(
        f"[{number}:a:0]aresample=44100,aformat=channel_layouts=mono[a{number}];" for number in range(len(sources))
    )
    parts = "".join(f"[a{number}]" for number in range(len(sources)))
    make(*inputs, "-filter_complex", f"{same}{parts}concat=n={len(sources)}:v=0:a=1", "-vn", target)


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
