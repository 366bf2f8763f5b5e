"""A real daemon with its code server and run processes: files added to the inbox become searchable."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from transcription_assets import models
from transcription_assets.defs.executors.local_launcher import LocalRunLauncher, is_alive
from transcription_assets.defs.jobs import recordings as partitions
from transcription_assets.search.index import Index
from transcription_assets_tests import recordings, waiting
from transcription_assets_tests.demo import ROOT, WIZARD
from transcription_assets_tests.graph_runs import CHAIN

BIN = Path(sys.executable).parent
SETTLE_S = 1
RUN = b"multiprocessing"
"""Part of a run process's command line that the daemon and its code server do not have."""
pytestmark = pytest.mark.timeout(3600)  # a test waits as long as there is progress, see waiting.py
daemon = pytest.mark.daemon


@dataclass(slots=True)
class Machine:
    """A Dagster home, a store, and a daemon that can be started, stopped and killed."""

    home: Path
    store: Path
    process: "subprocess.Popen[bytes] | None" = None

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
        }

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "dagster-daemon", "run", "-m", "transcription_assets.definitions"],
                cwd=ROOT,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Send SIGTERM, then kill the daemon and everything that it started."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.kill()

    def kill(self) -> None:
        """Kill the daemon, its code server and the run in progress at once, as a power cut does."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        until = time.monotonic() + 10
        while (left := self.left_behind()) and time.monotonic() < until:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def left_behind(self) -> list[int]:
        """Return the processes with this home in their environment (empty without /proc)."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"DAGSTER_HOME={self.home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found

    def drop(self, name: str, seconds: float = 11.5) -> str:
        """Move the first seconds of the wizard's story into the inbox in one rename."""
        beginning(self.home / "copy.mp4", seconds).replace(self.store / name)
        return name

    def drop_folder(self, name: str, files: Path) -> None:
        """Move a folder into the inbox once all its files have settled, so that one sensor tick finds all of them."""
        youngest = max(file.stat().st_ctime for file in files.iterdir())
        while time.time() < youngest + SETTLE_S:
            time.sleep(0.1)
        files.replace(self.store / name)

    def found(self) -> set[str]:
        """Return the recordings that have rows in the search table."""
        table = Index(str(self.store / "lancedb"))
        folder = self.store / "embeddings"
        keys = {str(path.relative_to(folder)).removesuffix(".parquet") for path in folder.rglob("*.parquet")}
        return {key for key in keys if table.rows(key)}

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

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-5000:]


def command_line(pid: int) -> bytes:
    with suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def beginning(path: Path, seconds: float) -> Path:
    """Write the first seconds of the wizard's story to `path`."""
    return recordings.make(path, "-i", str(WIZARD), "-t", str(seconds), "-c", "copy")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, tiny_model: models.Located) -> Iterator[Machine]:
    """Start one daemon for all tests: its start takes longer than most of them."""
    assert tiny_model.path.is_dir()
    root = tmp_path_factory.mktemp("daemon")
    made = Machine(root / "home", root / "store")
    made.home.mkdir()
    (made.store / "video").mkdir(parents=True)
    ours = (ROOT / "dagster_home/dagster.yaml").read_text()
    assert "poll_interval_seconds: 30" in ours
    (made.home / "dagster.yaml").write_text(ours.replace("poll_interval_seconds: 30", "poll_interval_seconds: 5"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.home, ignore_errors=True)


@daemon
@pytest.mark.models
def test_recording_added_to_the_inbox_becomes_searchable(running: Machine) -> None:
    name = running.drop("video/the wizard.mp4")
    running.wait_for("the recording can be found", lambda: name in running.found())
    command = [
        str(BIN / "transcription-assets"),
        "search",
        "--json",
        "--limit",
        "1",
        "lit forty lamps with a single word",
    ]
    answer = subprocess.run(command, env=running.environment(), capture_output=True, check=True, timeout=120)
    (moment,) = json.loads(answer.stdout)
    assert moment["media_key"] == name
    assert moment["start"] == pytest.approx(5.29, abs=2.0)


def failures(instance: dg.DagsterInstance) -> list[str]:
    """Return the message of every failed step, as the UI shows it."""
    said: list[str] = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
            data: Any = entry.get_dagster_event().event_specific_data
            said.append(data.user_failure_data.description if data.user_failure_data else str(data.error))
    return said


def status(instance: dg.DagsterInstance, asset: str, key: str) -> str:
    found = (instance.get_status_by_partition(dg.AssetKey(asset), [key], partitions) or {}).get(key)
    return found.value if found else ""


@daemon
@pytest.mark.models
def test_broken_recording_does_not_keep_others_out_of_the_index(running: Machine, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    good = {f"video/batch/{beginning(batch / f'good {number}.mp4', 6.0).name}" for number in range(4)}
    (batch / "broken.mp4").write_bytes(b"not a recording at all " * 500)
    running.drop_folder("video/batch", batch)
    running.wait_for("the four good ones can be found", lambda: good <= running.found())
    with running.instance() as instance:
        # Rows are published a moment before Dagster stores the materialisation.
        done = "the four good ones are green"
        running.wait_for(done, lambda: all(status(instance, "embeddings", key) == "MATERIALIZED" for key in good))
        assert status(instance, "video", "video/batch/broken.mp4") == "FAILED"
        assert any("video/batch/broken.mp4" in said and "Invalid data" in said for said in failures(instance))
        assert not any(status(instance, asset, "video/batch/broken.mp4") == "FAILED" for asset in CHAIN[1:])
    assert "video/batch/broken.mp4" not in running.found()


@daemon
@pytest.mark.models
def test_all_recordings_are_processed_after_a_power_cut(running: Machine, tmp_path: Path) -> None:
    batch = tmp_path / "lost"
    # Different lengths, because identical audio is transcribed only once.
    names = {f"video/lost/{beginning(batch / f'{number}.mp4', 13.5 + number).name}" for number in range(4)}
    with running.instance() as instance:
        earlier = set(instance.get_run_ids())
    running.drop_folder("video/lost", batch)
    transcripts, extracted = running.store / "transcripts/video/lost", running.store / "extracted/video/lost"
    running.wait_for("the first sound is extracted", lambda: bool([*extracted.glob("*.flac")]))
    running.kill()
    assert not running.left_behind()
    assert not names & running.found()
    before = {path: path.stat().st_mtime_ns for path in transcripts.glob("*.json")}
    assert len(before) < len(names), "killed too late for this test"

    running.start()
    running.wait_for("all recordings can be found", lambda: names <= running.found())
    assert all(path.stat().st_mtime_ns == then for path, then in before.items()), "finished work was repeated"
    with running.instance() as instance:
        records = [record for record in instance.get_run_records() if record.dagster_run.run_id not in earlier]
        oldest = min(records, key=lambda record: record.create_timestamp)
        assert oldest.dagster_run.status == dg.DagsterRunStatus.FAILURE
    running.stop()
    assert not running.left_behind()


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
