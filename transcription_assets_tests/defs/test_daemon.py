"""`make page graph` as a background job of a script: search page, UI, daemon, code server and run processes, all real.

Only vectors come from a stand-in service: five processes that load torch would take longer than all of the rest.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import httpx2
import pytest

from transcription_assets import models
from transcription_assets.defs.executors.local_launcher import LocalRunLauncher, is_alive
from transcription_assets.domain import media_keys
from transcription_assets.search.index import Index
from transcription_assets_tests import recordings, waiting
from transcription_assets_tests.demo import ROOT, WIZARD
from transcription_assets_tests.fakes import HashEncoder
from transcription_assets_tests.graph_runs import CHAIN
from transcription_assets_tests.serving import answering
from transcription_assets_tests.web.browser import browsing

BIN = Path(sys.executable).parent
SETTLE_S = 1
RUN = b"multiprocessing"
"""Part of a run process's command line that the daemon and its code server do not have."""
# A non-interactive shell starts background jobs with SIGINT ignored. `--old-file` skips the installation.
SCRIPT = """
make --jobs=2 --old-file=install BIN="$1" PAGE_PORT="$2" GRAPH_PORT="$3" page graph >&2 &
echo $!
wait
"""
STATUSES = """query ($asset: String!) {
  assetNodeOrError(assetKey: {path: [$asset]}) {... on AssetNode {assetPartitionStatuses {
    ... on DefaultPartitionStatuses {materializedPartitions failedPartitions materializingPartitions}
  }}}
}"""
RUNS = "{runsOrError {... on Runs {results {runId status assetSelection {path} tags {key value}}}}}"
AGAIN = """mutation ($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: FROM_FAILURE}) {
    ... on LaunchRunSuccess {run {runId}}
  }
}"""
pytestmark = pytest.mark.timeout(3600)  # a test waits as long as there is progress, see waiting.py
daemon = pytest.mark.daemon


@dataclass(slots=True)
class Machine:
    """A Dagster home, a store, and the processes that can be started and killed."""

    home: Path
    store: Path
    embedding_url: str
    page: int = 0
    graph: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    make: int = 0
    """Process ID of make, 0 unless it is running."""

    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TRANSCRIPTION_") or name == "TRANSCRIPTION_MODELS_DIR"
        }
        return inherited | {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "TRANSCRIPTION_STORE": str(self.store),
            "TRANSCRIPTION_WHISPER_MODEL": "tiny.en",
            "TRANSCRIPTION_SENSOR_INTERVAL_S": "5",
            "TRANSCRIPTION_SETTLE_S": str(SETTLE_S),
            "TRANSCRIPTION_EMBEDDING_URL": self.embedding_url,
        }

    def start(self) -> None:
        """Start search page and Dagster as a background job of a script, unless they are running, and wait for them."""
        if not self.make:
            self.kill()  # a daemon that a failed test left
            self.page, self.graph = free_port(), free_port()
            ports = (str(self.page), str(self.graph))
            self.process = self.started("sh", "-c", SCRIPT, "sh", str(BIN), *ports, stdout=subprocess.PIPE)
            assert self.process.stdout
            self.make = int(self.process.stdout.readline())
        urls = (f"{self.at(self.graph)}/server_info", f"{self.at(self.page)}/healthz")
        waiting.until(
            "both servers respond", lambda: self.is_over() or all(map(responds, urls)), self.cpu_seconds, self.log
        )
        assert not self.is_over(), self.log()

    def start_daemon(self) -> None:
        """Start only Dagster's own daemon, which starts a code server, unless both are running."""
        if self.process is None:
            self.process = self.started(str(BIN / "dagster-daemon"), "run", "--workspace", "workspace.yaml")

    def started(self, *command: str, stdout: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        with (self.home / "log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=self.environment(), stdout=stdout, stderr=log)

    def is_over(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def wait_for_end(self) -> None:
        """Wait until no process is left."""
        waiting.until("all processes have ended", lambda: not self.left_behind(), self.left_behind, self.log)
        self.close()

    def kill(self) -> None:
        """Kill all processes at once, as a power cut does."""
        stopped: set[int] = set()
        while more := set(self.left_behind()) - stopped:  # until none has started another one meanwhile
            send(signal.SIGSTOP, more)  # stopped, none sees another one end
            stopped |= more
        until = time.monotonic() + 60
        while (left := self.left_behind()) and time.monotonic() < until:
            send(signal.SIGKILL, left)
            if self.process:
                self.process.poll()
            time.sleep(0.1)
        assert not self.left_behind()
        self.close()

    def close(self) -> None:
        if self.process:
            if self.process.stdout:
                self.process.stdout.close()
            self.process.wait(60)
            self.process, self.make = None, 0

    def left_behind(self) -> list[int]:
        """Return the processes with this home in their environment (empty without /proc)."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"DAGSTER_HOME={self.home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found

    def drop_folder(self, name: str, files: Path) -> None:
        """Move a folder into the inbox once all its files have settled, so that one sensor tick finds all of them."""
        youngest = max(file.stat().st_ctime for file in files.iterdir())
        while time.time() < youngest + SETTLE_S:
            time.sleep(0.1)
        files.replace(self.store / name)

    def has_passages(self, names: set[str]) -> bool:
        """Return whether all of these recordings have rows in the search table."""
        if not all((self.store / f"embeddings/{name}.parquet").is_file() for name in names):
            return False
        table = Index(str(self.store / "lancedb"))
        return all(table.rows(name) for name in names)

    def search(self, question: str) -> list[dict[str, Any]]:
        """Return the moments that the search page finds, none while it is too busy to answer in time."""
        try:
            response = httpx2.get(f"{self.at(self.page)}/api/search", params={"q": question}, timeout=120)
        except httpx2.TransportError:
            return []
        return response.json()["moments"] if response.is_success else []

    def at(self, port: int) -> str:
        return f"http://localhost:{port}"

    def ask(self, query: str, **variables: str) -> Any:
        """Send a query to the webserver's GraphQL API and return its data."""
        document = {"query": query, "variables": variables}
        return httpx2.post(f"{self.at(self.graph)}/graphql", json=document, timeout=120).json()["data"]

    def statuses(self, asset: str, keys: set[str]) -> dict[str, set[str]]:
        """Return which of these partitions are materialised, failed and in progress, as the UI shows them."""
        found = self.ask(STATUSES, asset=asset)["assetNodeOrError"]["assetPartitionStatuses"]
        return {name.removesuffix("Partitions"): keys.intersection(found[name]) for name in found}

    def runs(self, status: str) -> list[dict[str, Any]]:
        """Return the runs with this status, the newest first."""
        found = self.ask(RUNS)["runsOrError"]["results"]
        return [run for run in found if run["status"] == status]

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        waiting.until(what, condition, self.progress, self.log)

    def progress(self) -> object:
        """Return events, files in the store and CPU time of runs, but not the daemon's heartbeats and ticks."""
        runs = [pid for pid in self.left_behind() if RUN in command_line(pid)]
        return waiting.files(self.home / "history/runs", self.store), waiting.cpu_seconds(runs)

    def cpu_seconds(self) -> object:
        return waiting.cpu_seconds(self.left_behind())

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-5000:]


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to those of the processes that have not ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def responds(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(url, timeout=60).status_code == httpx2.codes.OK
    return False


def command_line(pid: int) -> bytes:
    with suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def beginning(path: Path, seconds: float) -> Path:
    """Write the first seconds of the wizard's story to `path`."""
    return recordings.make(path, "-i", str(WIZARD), "-t", str(seconds), "-c", "copy")


class WordVectors(BaseHTTPRequestHandler):
    """FAKE: an embedding service for which texts are similar if they have the same words."""

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        words = HashEncoder(dimension=64)
        sums = [words.encode(re.findall(r"\w+", text.lower()) or [""]).sum(axis=0) for text in texts]
        vectors = [{"index": number, "embedding": vector.tolist()} for number, vector in enumerate(sums)]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": vectors}).encode())

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, tiny_model: models.Located) -> Iterator[Machine]:
    """One for all tests, which start what they need: a start takes longer than most of them."""
    assert tiny_model.path.is_dir()
    root = tmp_path_factory.mktemp("daemon")
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), WordVectors)) as service:
        made = Machine(root / "home", root / "store", f"{service}/v1")
        made.home.mkdir()
        (made.store / "video").mkdir(parents=True)
        ours = (ROOT / "dagster_home/dagster.yaml").read_text()
        assert "poll_interval_seconds: 30" in ours
        (made.home / "dagster.yaml").write_text(ours.replace("poll_interval_seconds: 30", "poll_interval_seconds: 5"))
        try:
            yield made
        finally:
            made.kill()
            shutil.rmtree(made.home, ignore_errors=True)


@daemon
@pytest.mark.models
def test_recordings_become_searchable_after_a_power_cut(machine: Machine, tmp_path: Path) -> None:
    batch = tmp_path / "lost"
    # Different lengths, because identical audio is transcribed only once.
    names = {f"video/lost/{beginning(batch / f'{number}.mp4', 11.5 + number).name}" for number in range(3)}
    machine.start_daemon()
    with machine.instance() as instance:
        earlier = set(instance.get_run_ids())
    machine.drop_folder("video/lost", batch)
    records = [machine.store / media_keys.audio_record(name) for name in names]
    machine.wait_for("the first sound is extracted", lambda: any(record.exists() for record in records))
    machine.kill()
    assert not machine.left_behind()
    finished = [record.with_suffix(".flac") for record in records if record.exists()]
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert not all((machine.store / media_keys.transcript(name)).exists() for name in names), "killed too late"

    machine.start()
    machine.wait_for("all recordings can be found", lambda: machine.has_passages(names))
    assert all(path.stat().st_mtime_ns == then for path, then in before.items()), "finished work was repeated"
    with machine.instance() as instance:
        runs = [record for record in instance.get_run_records() if record.dagster_run.run_id not in earlier]
        oldest = min(runs, key=lambda record: record.create_timestamp)
        assert oldest.dagster_run.status == dg.DagsterRunStatus.FAILURE
    question = "lit forty lamps with a single word"
    machine.wait_for("the page finds a sentence", lambda: bool(machine.search(question)))
    moment = machine.search(question)[0]
    assert moment["key"] in names
    assert moment["start"] == pytest.approx(5.29, abs=2.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """A processed batch with one broken recording, whose failure was recorded as a run."""

    good: set[str]
    broken: str
    failed_run: dict[str, Any]


@pytest.fixture(scope="module")
def batch(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    machine.start()
    folder = tmp_path_factory.mktemp("inbox") / "batch"
    good = {f"video/batch/{beginning(folder / f'good {number}.mp4', 6.0 + number).name}" for number in range(2)}
    (folder / "broken.mp4").write_bytes(b"not a recording at all " * 500)
    broken = "video/batch/broken.mp4"
    machine.drop_folder("video/batch", folder)
    machine.wait_for("the good ones can be found", lambda: machine.has_passages(good))
    # Rows are published a moment before Dagster stores the materialisation, and Dagster's cache can lag some seconds.
    machine.wait_for("they are green", lambda: machine.statuses("embeddings", good)["materialized"] == good)
    tag = {"key": "dagster/partition", "value": broken}
    (failed,) = [run for run in machine.runs("FAILURE") if tag in run["tags"]]
    return Batch(good, broken, failed)


@daemon
@pytest.mark.models
def test_bad_recording_is_failed_only_at_its_failed_step(machine: Machine, batch: Batch) -> None:
    everything, nothing = batch.good | {batch.broken}, set[str]()
    green = {"materialized": batch.good, "failed": nothing, "materializing": nothing}
    expected = dict.fromkeys(CHAIN, green) | {"video": green | {"failed": {batch.broken}}}
    machine.wait_for(
        "one recording is red, the others are green",
        lambda: {asset: machine.statuses(asset, everything) for asset in CHAIN} == expected,
    )
    assert batch.failed_run["assetSelection"] == [{"path": ["video"]}]
    with machine.instance() as instance:
        (said,) = failures(instance, batch.failed_run["runId"])
    assert batch.broken in said
    assert "Invalid data" in said
    assert not (machine.store / f"embeddings/{batch.broken}.parquet").exists()
    with browsing.started() as browser, browsing.opening(browser, machine.at(machine.graph)) as opened:
        page = opened("/assets/video?view=partitions")
        page.get_by_text("Failed (1)").wait_for(timeout=120_000)
        browsing.picture(page, "dagster-partitions")


def failures(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Return the message of every failed step of the run, as the UI shows it."""
    said: list[str] = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        data: Any = entry.get_dagster_event().event_specific_data
        said.append(data.user_failure_data.description if data.user_failure_data else str(data.error))
    return said


@daemon
@pytest.mark.models
def test_reexecuting_the_recorded_failure_tries_it_again(machine: Machine, batch: Batch) -> None:
    machine.start()
    again = machine.ask(AGAIN, run=batch.failed_run["runId"])["launchRunReexecution"]["run"]["runId"]
    machine.wait_for("it has been tried", lambda: again in {run["runId"] for run in machine.runs("FAILURE")})
    assert machine.statuses("video", {batch.broken})["failed"] == {batch.broken}
    assert machine.statuses("audio", {batch.broken})["failed"] == set()


@daemon
def test_sigterm_ends_all_servers_started_by_a_script(machine: Machine) -> None:
    machine.start()
    commands = b"\n".join(map(command_line, machine.left_behind()))
    for name in (b"serve", b"defs.dev", b"code-server", b"dagster._daemon", b"defs.webserver"):
        assert name in commands
    os.kill(machine.make, signal.SIGTERM)
    machine.wait_for_end()


def test_is_alive_rejects_ended_processes_and_reused_pids() -> None:
    code = "import time; print(flush=True); time.sleep(60)  # like a run: multiprocessing"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout
            running.stdout.readline()
            assert is_alive(running.pid)
        finally:
            running.kill()
        running.wait()
        assert not is_alive(running.pid)
    if Path("/proc").is_dir():
        assert not is_alive(1), "PID 1 belongs to another program"


def test_run_on_another_machine_is_reported_as_running(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        launcher = LocalRunLauncher()
        launcher.register_instance(instance)
        for tags in ({}, {".dagster/grpc_info": '{"host": "code-server", "port": 4000}'}):
            run = instance.create_run_for_job(_job(), tags=tags)
            assert launcher.check_run_worker_health(run).status.value == "RUNNING"


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def empty() -> None:
        nothing()

    return empty
