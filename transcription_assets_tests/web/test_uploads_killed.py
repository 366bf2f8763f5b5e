"""A server that is killed during an upload, and the memory of one that receives a large file."""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from transcription_assets.storage import Store
from transcription_assets_tests import recordings, seaweed, waiting
from transcription_assets_tests.stores import listed
from transcription_assets_tests.web.test_uploads import APPEND, WRITER, append, begin, offset

LARGE = 400 << 20
BAR_KB = 300_000
BLOCK = bytes(1 << 20)
FORMAT = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
HEADER = struct.pack("<4sI4s24s4sI", b"RIFF", 0xFFFFFFFF, b"WAVE", FORMAT, b"data", 0xFFFFFFFF)


@contextmanager
def serving(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], httpx2.Client]]:
    """Run `transcription-assets serve` as users do, without models."""
    variables = {
        "TRANSCRIPTION_STORE": str(folder / "store"),
        "TRANSCRIPTION_UPLOADS_DIR": str(folder / "uploads"),
        "TRANSCRIPTION_MODELS_DIR": str(folder / "models"),
        "TRANSCRIPTION_SERVE_WRITE_TOKEN": "may write",
    }
    command = [sys.executable, "-m", "transcription_assets", "serve", "--port", str(port)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=200, headers=WRITER) as client:
            waiting.until("the server", lambda: answers(client), lambda: waiting.cpu_seconds([process.pid]))
            yield process, client
    finally:
        process.kill()
        process.wait()


def answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture
def port() -> int:
    return seaweed.free_ports(1)[0]


def test_an_upload_continues_after_the_server_was_killed(tmp_path: Path, port: int) -> None:
    store = Store.open(str(tmp_path / "store"))
    tone = recordings.tone(tmp_path / "tone.wav", 10.0, rate=48_000).read_bytes()
    half = len(tone) // 2
    with serving(tmp_path, port) as (process, client):
        url = begin(client, len(tone))
        head = "".join(f"{name}: {value}\r\n" for name, value in (APPEND | {"upload-offset": "0"}).items())
        with socket.create_connection(("127.0.0.1", port)) as sending:
            lines = f"PATCH {url} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(tone)}\r\n{head}\r\n"
            sending.sendall(lines.encode() + tone[:half])
            waiting.until("bytes", lambda: offset(client, url) > 0, lambda: None)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with serving(tmp_path, port) as (_, client):
        received = offset(client, url)
        assert 0 < received <= half
        assert append(client, url, received, tone[received:]).status_code == 204
        waiting.until("landing", lambda: client.get(url).json()["state"] == "landed", lambda: None)
    (key,) = listed(store)
    assert store.read_media(key, 0, len(tone) + 1) == tone


def test_a_large_upload_takes_little_memory(tmp_path: Path, port: int) -> None:
    with serving(tmp_path, port) as (process, client):
        before = peak_kb(process.pid)
        url = begin(client, LARGE)
        answer = client.patch(
            url,
            content=silence(LARGE),
            headers=APPEND | {"upload-offset": "0", "content-length": str(LARGE)},
        )
        assert answer.status_code == 204
        waiting.until("landing", lambda: client.get(url).json()["state"] == "landed", lambda: None)
        grown = peak_kb(process.pid) - before
    assert grown < BAR_KB


def silence(length: int) -> Iterator[bytes]:
    """Yield a WAV file of this many bytes."""
    yield HEADER
    left = length - len(HEADER)
    while left > 0:
        yield BLOCK[:left]
        left -= len(BLOCK)


def peak_kb(process: int) -> int:
    """Return the largest resident memory of a process so far."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
