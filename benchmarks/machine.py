"""Description of the machine, and wall and CPU time of fresh processes. Linux only."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("TRANSCRIPTION_MODELS_DIR", Path.home() / ".cache" / "transcription_assets" / "models"))
PACKAGES = (
    "dagster",
    "faster-whisper",
    "ctranslate2",
    "sentence-transformers",
    "torch",
    "lancedb",
    "polars",
    "obstore",
)

QUIET_SHARE = 0.1
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Run:
    """Wall and CPU seconds of one fresh process and its children, from start to end.

    `others` is the share of the machine's cores that all other processes used meanwhile: unless it is near 0, the wall
    time is not reliable.
    """

    wall_s: float
    cpu_s: float
    others: float

    def __str__(self) -> str:
        return f"{self.wall_s:7.2f} s wall, {self.cpu_s:7.2f} s CPU, others took {self.others:.0%} of the machine"


def describe() -> str:
    """Return date, processor, cores, memory and versions, as lines of Markdown."""
    facts = dict(
        line.split(":", 1) for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if ":" in line
    )
    processor = next((value.strip() for name, value in facts.items() if name.strip() == "model name"), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor}, {os.cpu_count()} cores, {memory:.0f} GiB of memory, no GPU used\n"
        f"Python {sys.version.split()[0]}, {packages}"
    )


def measured(command: Sequence[str | Path], settings: Mapping[str, str] | None = None) -> Run:
    """Run a fresh process with these settings in its environment.

    Raises:
        RuntimeError: it failed; the message quotes the end of its standard error.

    """
    busy = _busy_s()
    started = time.monotonic()
    with subprocess.Popen(
        [str(part) for part in command],
        env=environment(settings or {}),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {said.decode(errors='replace')[-2000:]}")
    cpu_s = used.ru_utime + used.ru_stime
    others = max(_busy_s() - busy - cpu_s, 0.0) / (wall_s * (os.cpu_count() or 1))
    return Run(wall_s, cpu_s, others)


def quietest(measure: Callable[[], Run], tries: int = 2) -> Run:
    """Measure again while other processes are busy, and return the run that they disturbed least.

    Raises:
        Exception: any exception of `measure`.

    """
    runs: list[Run] = []
    while not runs or (runs[-1].others > QUIET_SHARE and len(runs) < tries):
        wait_until_quiet()
        runs.append(measure())
    return min(runs, key=lambda run: run.others)


def wait_until_quiet(patience_s: float = 60.0) -> None:
    """Wait until other processes use less than a tenth of the machine for 3 s, at most `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        busy = _busy_s()
        time.sleep(3)
        if _busy_s() - busy < QUIET_SHARE * 3 * (os.cpu_count() or 1):
            return


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with `settings` and without those of the user, so that the defaults are measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRANSCRIPTION_")}
    return {**kept, "TRANSCRIPTION_MODELS_DIR": str(MODELS), "DAGSTER_DISABLE_TELEMETRY": "1", **settings}


def descendants(pid: int) -> Iterator[int]:
    """Yield the process ids of all descendants of a process."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in found:
            yield child
            yield from descendants(child)


def _busy_s() -> float:
    """Return the CPU seconds that all processes have used since the machine started."""
    user, nice, system, _idle, _iowait, irq, soft = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + soft) * TICK_S
