"""Dagster on this machine: `python -m transcription_assets.defs.dev` runs code server, daemon and guarded webserver.

Replaces `dagster dev`, which starts a webserver without the guard and which cannot be terminated if it was started with
SIGINT ignored (in the background of a script, for example): it gives SIGTERM the handler that SIGINT has.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LOCATION = "transcription_assets"
"""Name of the code location; Dagster stores sensor cursors under it."""
SOCKET = "code-server.sock"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_S = 0.2
END_LIMIT_S = 20.0
"""Seconds from SIGTERM to SIGKILL for child processes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal arrives or a child process ends; return the exit status.

    Raises:
        SystemExit: The arguments are invalid.

    """
    options = _parser().parse_args(arguments)
    signals: list[int] = []
    for number in SIGNALS:
        # Also if the signal was ignored: children inherit ignored signals, but not handlers.
        signal.signal(number, lambda received, _frame: signals.append(received))
    children: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="dagster-") as folder:
        server, *clients = commands(Path(folder), options.host, options.port)
        try:
            children.append(subprocess.Popen(server, stdin=subprocess.DEVNULL, process_group=0))
            while not signals and is_running(children) and not accepts(Path(folder) / SOCKET):
                time.sleep(POLL_S)  # otherwise its clients show an error until their next attempt
            children += [
                subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
                for command in clients
                if is_running(children) and not signals
            ]
            print(f"Dagster on http://{options.host}:{options.port}", flush=True)  # noqa: T201
            while not signals and is_running(children):
                time.sleep(POLL_S)
        finally:
            end(children)
    return 128 + signals[0] if signals else 1


def commands(folder: Path, host: str, port: int) -> list[list[str]]:
    """Return the commands of the code server and of its two clients, and write their workspace file.

    Args:
        folder: Folder of the code server's socket and of the workspace file that names it.
        host: Address that the webserver listens on.
        port: Its port.

    Raises:
        OSError: The workspace file cannot be written.

    """
    server_socket, workspace = folder / SOCKET, folder / "workspace.yaml"
    server = {"grpc_server": {"socket": str(server_socket), "location_name": LOCATION}}
    workspace.write_text(json.dumps({"load_from": [server]}), encoding="utf-8")
    python = [sys.executable, "-W", "ignore", "-m"]
    module = ["--module-name", "transcription_assets.definitions", "--location-name", LOCATION]
    clients = ["--workspace", str(workspace)]
    return [
        [*python, "dagster", "code-server", "start", "--socket", str(server_socket), "--log-level", "warning", *module],
        [*python, "dagster._daemon", "run", *clients],
        [*python, "transcription_assets.defs.webserver", "--host", host, "--port", str(port), *clients],
    ]


def is_running(children: Sequence["subprocess.Popen[bytes]"]) -> bool:
    """Return whether all of these processes are running."""
    return all(child.poll() is None for child in children)


def accepts(path: Path) -> bool:
    """Return whether a process accepts connections on this Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def end(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Send SIGTERM to these processes, wait up to `END_LIMIT_S`, then kill their process groups."""
    for child in children:
        child.terminate()
    until = time.monotonic() + END_LIMIT_S
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, until - time.monotonic()))
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only zombies are left
            os.killpg(child.pid, signal.SIGKILL)  # its remaining descendants too
        child.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m transcription_assets.defs.dev", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
