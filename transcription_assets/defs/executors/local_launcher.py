"""A run launcher that starts runs as processes of this machine and detects runs whose process has died.

Dagster's default launcher cannot detect it. A run whose process was killed together with its code server (power
failure, out of memory, container stopped) would stay STARTED, occupy a place in the queue, and block automation.
`dagster.yaml` configures this launcher; run monitoring calls it and fails such a run, and run retries start it again.
"""

import json
import os
from pathlib import Path

import dagster as dg

from transcription_assets.defs.dagster_internals import GRPC_INFO_TAG, CheckRunHealthResult, WorkerStatus

PROC = Path("/proc")


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default launcher with a check of the process table."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True, which enables run monitoring."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return FAILED if the run's process has ended, RUNNING if it exists or cannot be seen from this machine."""
        pid = self._pid(run)
        if pid is None or is_alive(pid):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"the process of this run (PID {pid}) no longer exists: it was killed, or the machine stopped",
        )

    def _pid(self, run: dg.DagsterRun) -> int | None:
        """Return the process that logged the start of the run, None if its code server may be on another machine."""
        if "socket" not in json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
            return None
        started = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_START)
        return started[-1].get_dagster_event().pid if started else None


def is_alive(pid: int) -> bool:
    """Return whether the process exists; with `/proc`, a PID that another program has reused does not count."""
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
