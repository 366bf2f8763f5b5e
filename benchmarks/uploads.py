"""An upload of 5 GB by the tus protocol, with a cut connection: at most 300 MB more memory in the server.

python -m benchmarks.uploads [--gb N] [--chunk-mb N] [--bucket]

The server is `transcription-assets serve` without models, the client sends zeros after the header of a recording. In
the middle the connection is cut, and the upload continues at the offset that the server states. With `--bucket` the
recording lands in a bucket on a real S3 server (SeaweedFS) on the same machine.
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2

from benchmarks.machine import describe
from transcription_assets.storage import Store
from transcription_assets_tests import seaweed

BAR_MB = 300.0
BLOCK = bytes(1 << 20)
FORMAT = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
HEADER = struct.pack("<4sI4s24s4sI", b"RIFF", 0xFFFFFFFF, b"WAVE", FORMAT, b"data", 0xFFFFFFFF)
"""The header of silence of any length, mono, 16 kHz."""
TUS = {"tus-resumable": "1.0.0", "authorization": "Bearer benchmark"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=5.0)
    parser.add_argument("--chunk-mb", type=int, default=0, help="bytes of one request; 0 = all that is left")
    parser.add_argument("--bucket", action="store_true")
    chosen = parser.parse_args()
    print(describe(), flush=True)
    size = int(chosen.gb * 1e9)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variables = {"TRANSCRIPTION_STORE": str(folder / "store")}
        if chosen.bucket:
            weed = seaweed.find_weed()
            assert weed
            (folder / "weed").mkdir()
            server = stack.enter_context(seaweed.serve(weed, folder / "weed"))
            variables = {"TRANSCRIPTION_STORE": f"s3://{server.bucket}/uploads"}
            variables |= seaweed.OWNER.variables | {"AWS_ENDPOINT_URL_S3": server.endpoint}
        os.environ.update(variables)
        store = Store.open(variables["TRANSCRIPTION_STORE"])
        process, client = stack.enter_context(_serving(folder))
        assert client.get("/api/media").status_code == httpx2.codes.OK  # opens the store and the search table
        began_with = _peak_mb(process)
        started = time.monotonic()
        url = _begin(client, size)
        offset = _cut(client, url, size, size // 2)
        print(f"connection cut at {size / 2e9:.2f} GB; the server has {offset / 1e9:.2f} GB", flush=True)
        assert 0 < offset <= size // 2
        while offset < size:
            length = min(size - offset, chosen.chunk_mb << 20 or size)
            answer = client.patch(url, content=_zeros(length), headers=_append(offset, length))
            assert answer.status_code == 204, answer.text
            offset = int(answer.headers["upload-offset"])
        received_s = time.monotonic() - started
        while (state := client.get(url).json())["state"] != "landed":
            assert state["state"] != "failed", state
            time.sleep(0.5)
        landed_s = time.monotonic() - started
        peak = _peak_mb(process)
        assert store.stat(state["key"]).size == size
    print(
        f"{size / 1e9:.1f} GB received in {received_s:.0f} s ({size / 1e6 / received_s:.0f} MB/s),"
        f" in the inbox after {landed_s:.0f} s"
    )
    held = peak - began_with <= BAR_MB
    print(f"peak memory of the server {peak:.0f} MB, {peak - began_with:.0f} MB more than before the upload;", end=" ")
    print(f"bar {BAR_MB:g} MB: {'held' if held else 'MISSED'}")
    return not held


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[int, httpx2.Client]]:
    (port,) = seaweed.free_ports(1)
    variables = {
        "TRANSCRIPTION_UPLOADS_DIR": str(folder / "uploads"),
        "TRANSCRIPTION_MODELS_DIR": str(folder / "models"),
        "TRANSCRIPTION_SERVE_WRITE_TOKEN": "benchmark",
    }
    command = [sys.executable, "-m", "transcription_assets", "serve", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=600, headers=TUS) as client:
            while True:
                with suppress(httpx2.TransportError):
                    if client.get("/healthz").status_code == httpx2.codes.OK:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield process.pid, client
    finally:
        process.kill()
        process.wait()


def _begin(client: httpx2.Client, size: int) -> str:
    metadata = f"filename {b64encode(b'benchmark.wav').decode()}"
    answer = client.post("/api/uploads", headers={"upload-length": str(size), "upload-metadata": metadata})
    assert answer.status_code == httpx2.codes.CREATED, answer.text
    return str(answer.headers["location"])


def _cut(client: httpx2.Client, url: str, size: int, length: int) -> int:
    """Send `length` bytes of a request for all of them, close the connection, and return the offset of the server."""
    head = "".join(f"{name}: {value}\r\n" for name, value in (TUS | _append(0, size)).items())
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address) as sending:
        sending.sendall(f"PATCH {url} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n".encode())
        sending.sendall(HEADER)
        for block in _zeros(length - len(HEADER)):
            sending.sendall(block)
    return int(client.head(url).headers["upload-offset"])


def _append(offset: int, length: int) -> dict[str, str]:
    kind = "application/offset+octet-stream"
    return {"upload-offset": str(offset), "content-type": kind, "content-length": str(length)}


def _zeros(length: int) -> Iterator[bytes]:
    while length > 0:
        yield BLOCK[:length]
        length -= len(BLOCK)


def _peak_mb(process: int) -> float:
    """Return the largest resident memory of a process so far."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
