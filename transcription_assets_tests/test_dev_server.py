"""`make dev` as a background job of a script, ended by SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from transcription_assets_tests.demo import ROOT

LIMIT_S = 600  # an idle machine needs a few seconds; a server that ignores SIGTERM never ends

# A non-interactive shell starts background jobs with SIGINT ignored. `--old-file` skips the installation.
SCRIPT = """
make --jobs=2 --old-file=install BIN="$1" PAGE_PORT="$2" GRAPH_PORT="$3" page graph &
echo $!
wait
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(home: Path) -> list[int]:
    """Return the processes that have this Dagster home in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"DAGSTER_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(url, timeout=5).status_code == httpx2.codes.OK
    return False


def wait_for(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + LIMIT_S
    while not (done := condition()) and time.monotonic() < until:
        time.sleep(0.2)
    return done


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text((ROOT / "dagster_home/dagster.yaml").read_text())
    yield folder
    for pid in alive(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.daemon
@pytest.mark.timeout(2 * LIMIT_S + 60)
def test_sigterm_ends_dev_servers_started_by_a_script(home: Path, tmp_path: Path) -> None:
    page, graph = free_port(), free_port()
    log = tmp_path / "log"
    with log.open("wb") as errors:
        script = subprocess.Popen(
            ["sh", "-c", SCRIPT, "sh", Path(sys.executable).parent, str(page), str(graph)],
            cwd=ROOT,
            env=os.environ | {"DAGSTER_HOME": str(home), "TRANSCRIPTION_STORE": str(tmp_path / "store")},
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert script.stdout
    make = int(script.stdout.readline())
    urls = (f"http://127.0.0.1:{page}/healthz", f"http://127.0.0.1:{graph}/server_info")
    assert wait_for(lambda: script.poll() is not None or all(map(answers, urls)))
    assert script.poll() is None, log.read_text()

    os.kill(make, signal.SIGTERM)

    assert wait_for(lambda: not alive(home)), log.read_text()
    script.stdout.close()
    script.wait()
