"""Calls of the media functions with the options of these tests, and measurements of the result."""

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcription_assets import media

LIMIT_S = 60.0


def probe(path: Path | str, ffmpeg: str, *, limit_s: float = LIMIT_S) -> media.Probe:
    return media.probe(str(path), "talks/a.mp4", ffmpeg=ffmpeg, limit_s=limit_s)


def extract(
    path: Path | str, target: Path, ffmpeg: str, *, limit_s: float = LIMIT_S, **options: Any
) -> media.Extraction:
    return media.extract_speech(str(path), target, name="talks/a.mp4", ffmpeg=ffmpeg, limit_s=limit_s, **options)


def take_picture(path: Path | str, target: Path, ffmpeg: str, *, at: float = 1.0) -> bool:
    made = media.poster(str(path), target, ffmpeg=ffmpeg, limit_s=LIMIT_S, at=at, width=640)
    assert made.taken == target.exists()
    return made.taken


def samples(path: Path | str, ffmpeg: str, **span: float) -> NDArray[np.float32]:
    blocks = list(media.read_samples(path, ffmpeg=ffmpeg, **span))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def heard(path: Path | str, ffmpeg: str, tmp_path: Path) -> NDArray[np.float32]:
    """Return the samples of a recording after extraction to FLAC."""
    extract(path, tmp_path / "heard.flac", ffmpeg, tracks=probe(path, ffmpeg).tracks[:1])
    return samples(tmp_path / "heard.flac", ffmpeg)


def loudness(part: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(part, dtype=np.float64))))


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def is_running(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith("Z")


def assert_gone(pid: int) -> None:
    """Wait until the process has ended; SIGKILL is delivered with a delay."""
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still running"
        time.sleep(0.02)
