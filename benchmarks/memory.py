"""A recording of 3 hours stays under 1.5 GB of resident memory, from file to search table, with the base model.

python -m benchmarks.memory [--hours 3] [--chart docs/images/memory.svg]

Memory is watched, not time: it runs at the lowest priority beside other work.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks import recordings
from benchmarks.chart import Line, chart
from benchmarks.machine import ROOT, describe, environment

BAR_MB = 1500
EVERY_S = 1.0
ROWS = 12


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident megabytes at a moment (seconds from the start): the process itself, and all of its children."""

    at: float
    own: float
    children: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--chart", type=Path, help="write memory over time as SVG")
    chosen = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        video = Path(place) / "video" / "long.mp4"
        video.parent.mkdir()
        sources = recordings.found(recordings.DEMO)
        round_s = sum(map(recordings.seconds, sources))
        recordings.repeated(sources, video, round(chosen.hours * 3600 / round_s))
        print(f"{recordings.seconds(video) / 3600:.2f} h of speech, {video.stat().st_size / 1e6:.0f} MB")
        settings = {"TRANSCRIPTION_STORE": place, "TRANSCRIPTION_SETTLE_S": "0"}
        samples, peaks = _watched([Path(sys.executable).parent / "transcription-assets", "process"], settings)
    _show(samples, peaks)
    if chosen.chart:
        lines = [
            Line("process", [(sample.at / 60, sample.own) for sample in samples]),
            Line("its children (ffmpeg)", [(sample.at / 60, sample.children) for sample in samples]),
        ]
        title = f"Resident memory while a recording of {chosen.hours:g} hours is processed"
        chosen.chart.parent.mkdir(parents=True, exist_ok=True)
        chosen.chart.write_text(chart(title, "minutes", "MB", lines, bar=("bar", BAR_MB)), encoding="utf-8")
    most = max(sample.own + sample.children for sample in samples)
    most = max(most, peaks["process"])
    print(f"most at once {most:.0f} MB, the bar is {BAR_MB} MB: {'held' if most < BAR_MB else 'MISSED'}")
    return int(most >= BAR_MB)


def _watched(command: Sequence[str | Path], settings: Mapping[str, str]) -> tuple[list[Sample], dict[str, float]]:
    """Memory over time, and the peak (as the kernel counted it) of the process and of each kind of child."""
    samples: list[Sample] = []
    peaks = {"process": 0.0}
    started = time.monotonic()
    nice = ["nice", "-n", "19", *map(str, command)]
    with subprocess.Popen(nice, cwd=ROOT, env=environment(settings), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            own = _megabytes(process.pid, peaks, "process")
            children = [_megabytes(child, peaks, _name(child)) for child in _children(process.pid)]
            samples.append(Sample(time.monotonic() - started, own, sum(children)))
            time.sleep(EVERY_S)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return samples, peaks


def _megabytes(pid: int, peaks: dict[str, float], name: str) -> float:
    """Resident now; `peaks` takes the highest ever. A process that is gone has none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    peaks[name] = max(peaks.get(name, 0.0), int(values.get("VmHWM", 0)) * 1024 / 1e6)
    return int(values.get("VmRSS", 0)) * 1024 / 1e6


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return "gone"


def _children(pid: int) -> Iterator[int]:
    """All processes below `pid`."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in found:
            yield child
            yield from _children(child)


def _show(samples: Sequence[Sample], peaks: Mapping[str, float]) -> None:
    """The peaks, and memory over time in twelve rows: the most of each twelfth."""
    print(f"{samples[-1].at / 60:.1f} minutes at nice 19 on {os.cpu_count()} cores")
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
        print(f"peak of {name}: {peak:.0f} MB")
    print("| minute | process, MB | children, MB |\n| --- | --- | --- |")
    edges = [round(len(samples) * number / ROWS) for number in range(ROWS + 1)]
    for first, last in pairwise(edges):
        part = samples[first:last]
        if part:
            own, children = max(sample.own for sample in part), max(sample.children for sample in part)
            print(f"| {part[0].at / 60:.1f} to {part[-1].at / 60:.1f} | {own:.0f} | {children:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
