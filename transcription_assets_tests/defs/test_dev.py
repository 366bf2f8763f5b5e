"""The supervisor of Dagster's processes, with cheap stand-ins for them; test_daemon.py runs the real ones."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transcription_assets.defs import dev
from transcription_assets_tests.demo import ROOT

SUPERVISOR = """
import importlib.util, sys

spec = importlib.util.spec_from_file_location("dev", sys.argv[2])  # without the package, which imports Dagster
dev = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dev)

def commands(folder, _host, _port):
    listen = "import socket, sys, time; bound = socket.socket(socket.AF_UNIX); bound.bind(sys.argv[1]); bound.listen()"
    server = [sys.executable, "-S", "-c", f"{listen}; time.sleep(600)", str(folder / dev.SOCKET)]
    return [server, ["sleep", "600"], ["sleep", sys.argv[1]]]

dev.commands = commands
sys.exit(dev.main([]))
"""


@contextmanager
def supervisor(seconds: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Yield the supervisor, whose last child ends after so many seconds, with SIGINT ignored."""
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", SUPERVISOR, seconds, dev.__file__]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()  # a failed test leaves no children


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_for_all(process: "subprocess.Popen[bytes]") -> int:
    """Return the exit status of the supervisor, once it and its children have closed the output that they share."""
    process.communicate(timeout=dev.END_LIMIT_S * 6)
    return process.returncode


def test_sigterm_ends_all_processes_if_sigint_is_ignored() -> None:
    with supervisor("600") as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"Dagster on")
        assert len(children(process.pid)) == 3
        process.terminate()
        assert wait_for_all(process) == 128 + signal.SIGTERM


def test_end_of_one_process_ends_the_others() -> None:
    with supervisor("0") as process:
        assert wait_for_all(process) == 1
