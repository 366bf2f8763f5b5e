"""The end of the server while its engine works; the engine is a fake."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from transcription_assets_tests import recordings

SERVER = """
import threading
from transcription_assets import settings
from transcription_assets.asr import server, service
from transcription_assets.media import find_ffmpeg
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets_tests.asr.serving import GatedEngine

server.LEAVE_S = 1
service.TranscriptionService.close.__defaults__ = (1.0,)
engine, decoder = GatedEngine(), MediaDecoder(find_ffmpeg())
server.run(settings.load(), engine, decoder, "127.0.0.1", 0, verbose=False, listening=lambda at: print(at, flush=True))
"""
"""A server whose engine never answers."""


def test_sigterm_ends_a_server_whose_engine_hangs(tmp_path: Path) -> None:
    clip = recordings.tone(tmp_path / "a.wav", 5, rate=8_000)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", SERVER], env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[0]
            with pytest.raises(httpx2.TimeoutException):
                httpx2.post(
                    f"{url}/audio/transcriptions",
                    data={"model": "scripted"},
                    files={"file": ("a.wav", clip.read_bytes())},
                    timeout=httpx2.Timeout(60, read=3),
                )
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
