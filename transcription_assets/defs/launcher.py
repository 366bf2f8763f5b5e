"""Runs as processes of this machine, and an answer to whether the process of a run still lives.

Dagster's own launcher cannot tell. A run whose process was killed together with its code server (power cut, out of
memory, container stopped) would stay STARTED for ever, keep its place in the queue, and automation would wait for it.
`dagster.yaml` names this launcher; run monitoring asks it, fails such a run, and run retries start it again.
"""

import json
import os
from pathlib import Path

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

PROC = Path("/proc")


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default launcher, with a look at the process table."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Makes run monitoring ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED where the process is gone; RUNNING where it lives, and where that cannot be seen from here."""
        pid = self._pid(run)
        if pid is None or is_alive(pid):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"the process of this run ({pid}) is gone: it was killed, or the machine stopped",
        )

    def _pid(self, run: dg.DagsterRun) -> int | None:
        """The process that logged the start of the run; only a code server behind a socket is on this machine."""
        if "socket" not in json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
            return None
        started = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_START)
        return started[-1].get_dagster_event().pid if started else None


def is_alive(pid: int) -> bool:
    """Whether the process lives; where the system tells, a number that another program has now does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        called = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return not PROC.is_dir()
    return b"multiprocessing" in called
