"""The development server of `make graph`: a batch with a bad recording, with the real daemon and UI."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from transcription_assets import models
from transcription_assets.defs import dev
from transcription_assets_tests import recordings
from transcription_assets_tests.demo import ROOT, WIZARD
from transcription_assets_tests.web.browser import browsing

CHAIN = ("video", "audio", "transcript", "embeddings")
GOOD = 2
STALLED_S = 240
"""Seconds without a change in Dagster's database after which a test fails."""
STATS = "{assetNodes {assetKey {path} partitionStats {numMaterialized numFailed numMaterializing}}}"
RUNS = "{runsOrError {... on Runs {results {runId status assetSelection {path} creationTime}}}}"
AGAIN = """mutation ($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: FROM_FAILURE}) {
    ... on LaunchRunSuccess {run {runId}}
  }
}"""


@dataclass(slots=True)
class Machine:
    """A Dagster home, a store, and the supervisor with its children."""

    home: Path
    store: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the supervisor as a background job of a script, with SIGINT ignored."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRANSCRIPTION_")} | {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(ROOT),
            "TRANSCRIPTION_MODELS_DIR": os.environ.get("TRANSCRIPTION_MODELS_DIR", ""),
            "TRANSCRIPTION_STORE": str(self.store),
            "TRANSCRIPTION_WHISPER_MODEL": "tiny.en",
            "TRANSCRIPTION_SENSOR_INTERVAL_S": "5",
            "TRANSCRIPTION_SETTLE_S": "0",
        }
        if not environment["TRANSCRIPTION_MODELS_DIR"]:
            del environment["TRANSCRIPTION_MODELS_DIR"]
        command = [sys.executable, "-W", "ignore", "-m", dev.__name__, "--port", str(self.port)]
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def ask(self, query: str, **variables: str) -> Any:
        """Send a query to the webserver's GraphQL API and return its data."""
        request = urllib.request.Request(
            f"http://localhost:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def stats(self) -> dict[str, tuple[int, int, int]]:
        """Return how many partitions of each asset are materialised, failed and in progress."""
        nodes = {node["assetKey"]["path"][0]: node["partitionStats"] for node in self.ask(STATS)["assetNodes"]}
        return {name: tuple(nodes[name].values()) for name in CHAIN}

    def runs(self, status: str) -> list[dict[str, Any]]:
        """Return the runs with this status, the newest first."""
        found = self.ask(RUNS)["runsOrError"]["results"]
        return [run for run in found if run["status"] == status]

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait as long as the machine makes progress."""
        seen, since = None, time.monotonic()
        while not condition():
            assert self.process
            assert self.process.poll() is None, self.log()
            if (now := self.progress()) != seen:
                seen, since = now, time.monotonic()
            assert time.monotonic() - since < STALLED_S, f"no progress, and still not: {what}\n{self.log()}"
            time.sleep(0.5)

    def progress(self) -> Any:
        """Return a value that changes with each event of a run."""
        found = []
        for path in sorted((self.home / "history/runs").glob("*.db*")):
            with suppress(FileNotFoundError):  # SQLite removes its journal
                found.append((path.name, path.stat().st_size, path.stat().st_mtime))
        return found

    def answers(self) -> bool:
        """Return whether the UI answers and has loaded the code location."""
        try:
            return len(self.stats()) == len(CHAIN)
        except (OSError, KeyError, AttributeError):
            return False

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-5000:]

    def left_behind(self) -> list[str]:
        """Return the commands of processes with this home in their environment (empty without /proc)."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"DAGSTER_HOME={self.home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, tiny_model: models.Located) -> Iterator[Machine]:
    assert tiny_model.path.is_dir()
    root = tmp_path_factory.mktemp("dev")
    with socket.create_server(("127.0.0.1", 0)) as bound:
        made = Machine(root / "home", root / "store", bound.getsockname()[1])
    made.home.mkdir()
    (made.store / "video").mkdir(parents=True)
    shutil.copy(ROOT / "dagster_home/dagster.yaml", made.home)
    made.start()
    try:
        made.wait_for("the UI answers", made.answers)
        yield made
    finally:
        if made.process and made.process.poll() is None:
            made.process.terminate()
            made.process.wait()


@pytest.mark.daemon
@pytest.mark.models
def test_bad_recording_is_failed_only_at_its_failed_step(machine: Machine, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    for number in range(GOOD):
        source = ("-i", str(WIZARD), "-t", str(6 + number), "-c", "copy")
        recordings.make(batch / f"good {number}.mp4", *source)
    (batch / "broken.mp4").write_bytes(b"not a recording at all " * 500)
    batch.replace(machine.store / "video/batch")

    machine.wait_for("the batch is over", lambda: bool(machine.runs("SUCCESS")))

    green = (GOOD, 0, 0)
    expected = {"video": (GOOD, 1, 0), "audio": green, "transcript": green, "embeddings": green}
    # Dagster's cache of these counts can lag some seconds behind the end of the run.
    machine.wait_for("one recording is red, the others are green", lambda: machine.stats() == expected)
    (recorded,) = machine.runs("FAILURE")
    assert recorded["assetSelection"] == [{"path": ["video"]}]
    with browsing.started() as browser, browsing.opening(browser, f"http://localhost:{machine.port}") as opened:
        page = opened("/assets/video?view=partitions")
        page.get_by_text("Failed (1)").wait_for(timeout=120_000)
        browsing.picture(page, "dagster-partitions")


@pytest.mark.daemon
@pytest.mark.models
def test_reexecuting_the_recorded_failure_tries_it_again(machine: Machine) -> None:
    (recorded,) = machine.runs("FAILURE")
    again = machine.ask(AGAIN, run=recorded["runId"])["launchRunReexecution"]["run"]["runId"]
    machine.wait_for("it has been tried", lambda: again in {run["runId"] for run in machine.runs("FAILURE")})
    green = (GOOD, 0, 0)
    assert machine.stats() == {"video": (GOOD, 1, 0), "audio": green, "transcript": green, "embeddings": green}


@pytest.mark.daemon
def test_sigterm_ends_all_processes_if_sigint_is_ignored(machine: Machine) -> None:
    assert machine.process
    assert len(machine.left_behind()) > len(dev.SIGNALS), "the supervisor and its children"
    machine.process.terminate()
    assert machine.process.wait(dev.END_LIMIT_S * 6) == 128 + signal.SIGTERM
    assert machine.left_behind() == []
