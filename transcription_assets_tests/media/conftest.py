"""Both ffmpegs that are promised to work, recordings that many tests read, and a store that hands them out."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from transcription_assets.media import ffmpeg_input
from transcription_assets_tests import recordings
from transcription_assets_tests.media import http_store
from transcription_assets_tests.media.http_store import HttpStore


@pytest.fixture(params=["wheel", "PATH"])
def ffmpeg(request: pytest.FixtureRequest) -> str:
    """Both are promised to work: the one of the wheel, and the often much older one of the system."""
    if request.param == "wheel":
        return recordings.wheel_ffmpeg()
    return shutil.which("ffmpeg") or pytest.skip("no ffmpeg on PATH")


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, its index at the end."""
    return recordings.video(tmp_path_factory.mktemp("films") / "film.mp4", 2.0)


@pytest.fixture(scope="session")
def streamable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, its index at the beginning, so that half of it can be played."""
    path = tmp_path_factory.mktemp("films") / "streamable.mp4"
    return recordings.video(path, 10.0, "-movflags", "+faststart", "-b:a", "256k")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpStore]:
    """It hands out the files of the test's folder; nobody waits before asking it again."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(ffmpeg_input, "RECONNECT_S", 0)
    with http_store.serving(tmp_path) as serving:
        yield serving


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is soon taken for a failure: for stores that fail anyway, since a busy machine is silent at times."""
    monkeypatch.setattr(ffmpeg_input, "STALL_S", 1)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that the module starts: real ones, only written down."""
    seen: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            seen.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return seen
