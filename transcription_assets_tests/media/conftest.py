"""Both supported ffmpegs, shared recordings, and an HTTP store that serves them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from transcription_assets.media import ffmpeg_process
from transcription_assets_tests import recordings
from transcription_assets_tests.media import http_store
from transcription_assets_tests.media.http_store import HttpStore

USERS_FFMPEG = shutil.which("ffmpeg")
"""Found before a fixture puts that of the wheel in front of it."""


@pytest.fixture(params=["wheel", "PATH"])
def ffmpeg(request: pytest.FixtureRequest) -> str:
    """Return each supported ffmpeg: that of the wheel and the (often older) one on the PATH."""
    if request.param == "wheel":
        return recordings.wheel_ffmpeg()
    return USERS_FFMPEG or pytest.skip("no ffmpeg on PATH")


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a film of two seconds with the index at the end."""
    return recordings.video(tmp_path_factory.mktemp("films") / "film.mp4", 2.0)


@pytest.fixture(scope="session")
def streamable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a film of ten seconds with the index at the beginning, so that half of it can be played."""
    path = tmp_path_factory.mktemp("films") / "streamable.mp4"
    return recordings.video(path, 10.0, "-movflags", "+faststart", "-b:a", "256k")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpStore]:
    """Serve the files of the folder of the test; retries do not wait."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(ffmpeg_process, "RECONNECT_S", 0)
    with http_store.serving(tmp_path) as serving:
        yield serving


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the stall limit. Only for stores that fail anyway: a busy machine may stall by itself."""
    monkeypatch.setattr(ffmpeg_process, "STALL_S", 1)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Record every process that the module starts; the processes are real."""
    seen: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            seen.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return seen
