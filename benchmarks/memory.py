"""Resident memory with the base model: 3 hours from file to search table under 1.5 GB, 10 hours of engine under 1.2 GB.

python -m benchmarks.memory [--hours 3] [--chart docs/images/memory.svg]
python -m benchmarks.memory --engine [--hours 10] [--chart docs/images/memory-engine.svg]

Only memory is measured, not time: the process runs at the lowest priority beside other work.
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
from benchmarks.machine import MODELS, ROOT, describe, environment
from transcription_assets import media, models
from transcription_assets.speech import AudioSource, Whisper, transcribe_one

PROCESS_BAR_MB = 1500
ENGINE_BAR_MB = 1200
EVERY_S = 1.0
ROWS = 12


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory in MB of the process itself and of all its children, at a time in seconds from the start."""

    at: float
    own: float
    children: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, help="of speech; 3, or 10 for the engine")
    parser.add_argument("--engine", action="store_true", help="the speech engine alone")
    parser.add_argument("--chart", type=Path, help="write memory over time as SVG")
    parser.add_argument("--hear", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.transcribe:
        return _hear(chosen.transcribe)
    hours = chosen.hours or (10.0 if chosen.engine else 3.0)
    what, bar = ("engine", ENGINE_BAR_MB) if chosen.engine else ("process", PROCESS_BAR_MB)
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        video = Path(place) / "video" / "long.mp4"
        video.parent.mkdir()
        sources = recordings.found(recordings.DEMO)
        round_s = sum(map(recordings.seconds, sources))
        recordings.repeated(sources, video, round(hours * 3600 / round_s))
        print(f"{recordings.seconds(video) / 3600:.2f} h of speech, {video.stat().st_size / 1e6:.0f} MB")
        settings = {"TRANSCRIPTION_STORE": place, "TRANSCRIPTION_SETTLE_S": "0"}
        command: list[str | Path] = [Path(sys.executable).parent / "transcription-assets", "process"]
        if chosen.engine:
            command = [sys.executable, "-m", "benchmarks.memory", "--hear", video]
        samples, peaks = _watched(command, settings)
    _show(samples, peaks)
    if chosen.chart:
        lines = [
            Line(what, [(sample.at / 60, sample.own) for sample in samples]),
            Line("its children (ffmpeg)", [(sample.at / 60, sample.children) for sample in samples]),
        ]
        title = f"Resident memory while a recording of {hours:g} hours is {'heard' if chosen.engine else 'processed'}"
        chosen.chart.parent.mkdir(parents=True, exist_ok=True)
        chosen.chart.write_text(chart(title, "minutes", "MB", lines, bar=("bar", bar)), encoding="utf-8")
    most = max(sample.own + sample.children for sample in samples)
    most = max(most, peaks["process"])
    print(f"most at once {most:.0f} MB, the bar is {bar} MB: {'held' if most < bar else 'MISSED'}")
    return int(most >= bar)


def _hear(video: Path) -> int:
    """Run the speech engine alone, in the process that is measured; return the exit status."""
    engine = Whisper(models.locate("base", "speech", MODELS).path, name="base", revision="")
    ffmpeg = media.find_ffmpeg()
    heard = transcribe_one(
        engine, AudioSource(lambda _channel, start: media.read_samples(video, ffmpeg=ffmpeg, start=start))
    )
    return int(heard.duration <= 0)


def _watched(command: Sequence[str | Path], settings: Mapping[str, str]) -> tuple[list[Sample], dict[str, float]]:
    """Return memory over time, and the peak (from the kernel) of the process and of each kind of child."""
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
    """Return the resident memory, 0 if the process has ended; write the peak to `peaks`."""
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
    """Yield all descendants of `pid`."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in found:
            yield child
            yield from _children(child)


def _show(samples: Sequence[Sample], peaks: Mapping[str, float]) -> None:
    """Print the peaks, and memory over time in twelve rows, each the maximum of one twelfth."""
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
