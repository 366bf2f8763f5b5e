"""Resident memory with the base model, 3 or 10 hours from file to search table: under 1.2 GB in any process.

python -m benchmarks.memory [--hours 3] [--model base] [--speech FOLDER] [--chart docs/images/memory.svg]
python -m benchmarks.memory --engine [--hours 10] [--chart docs/images/memory-engine.svg]

`--speech` adds the recordings of a folder to the demo's. Only memory is measured, not time: the process runs at a low
priority beside other work.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks import recordings
from benchmarks.chart import Line, chart
from benchmarks.machine import MODELS, ROOT, descendants, describe, environment
from transcription_assets import media, models
from transcription_assets.speech import AudioSource, Whisper, transcribe_one

BAR_MB = 1200
EVERY_S = 1.0
NICE = 10
ROWS = 12


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory in MB by kind of process, summed over those of a kind, at a time in seconds from the start."""

    at: float
    resident: Mapping[str, float]


def main() -> int:
    """Print memory over time and the peaks, and return 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, help="of speech; 3, or 10 for the engine")
    parser.add_argument("--engine", action="store_true", help="the speech engine alone")
    parser.add_argument("--model", default="base")
    parser.add_argument("--speech", type=Path, help="folder of recordings to use besides the demo's")
    parser.add_argument("--chart", type=Path, help="write memory over time as SVG")
    parser.add_argument("--hear", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.hear:
        return _hear(chosen.hear, chosen.model)
    hours = chosen.hours or (10.0 if chosen.engine else 3.0)
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        video = Path(place) / "video" / "long.mp4"
        video.parent.mkdir()
        recordings.long(video, hours * 3600, more=chosen.speech)
        print(f"{recordings.seconds(video) / 3600:.2f} h of speech, {video.stat().st_size / 1e6:.0f} MB")
        settings = {
            "TRANSCRIPTION_STORE": place,
            "TRANSCRIPTION_SETTLE_S": "0",
            "TRANSCRIPTION_WHISPER_MODEL": chosen.model,
        }
        command: list[str | Path] = [Path(sys.executable).parent / "transcription-assets", "process"]
        if chosen.engine:  # like the product, it reads FLAC: joined films have gaps, behind which seeking is inexact
            sound = video.with_suffix(".flac")
            recordings.make("-i", video, "-vn", "-ac", "1", "-ar", "16000", sound)
            command = [sys.executable, "-m", "benchmarks.memory", "--hear", sound, "--model", chosen.model]
        samples, peaks = _watched(command, settings)
    _show(samples, peaks)
    if chosen.chart:
        lines = [
            Line(kind, [(sample.at / 60, sample.resident.get(kind, 0.0)) for sample in samples])
            for kind in sorted(peaks)
        ]
        title = f"Resident memory while a recording of {hours:g} hours is {'heard' if chosen.engine else 'processed'}"
        chosen.chart.parent.mkdir(parents=True, exist_ok=True)
        chosen.chart.write_text(chart(title, "minutes", "MB", lines, bar=("bar", BAR_MB)), encoding="utf-8")
    most = max(sum(sample.resident.values()) for sample in samples)
    largest = max(peaks.values())
    held = largest <= BAR_MB
    print(f"all together at most {most:.0f} MB (samples)")
    print(f"largest process {largest:.0f} MB, the bar is {BAR_MB} MB: {'held' if held else 'MISSED'}")
    return int(not held)


def _hear(video: Path, model: str) -> int:
    """Run the speech engine alone, in the process that is measured; return the exit status."""
    engine = Whisper(models.locate(model, "speech", MODELS).path, name=model, revision="")
    ffmpeg = media.find_ffmpeg()
    heard = transcribe_one(
        engine, AudioSource(lambda _channel, start: media.read_samples(video, ffmpeg=ffmpeg, start=start))
    )
    return int(heard.duration <= 0)


def _watched(command: Sequence[str | Path], settings: Mapping[str, str]) -> tuple[list[Sample], dict[str, float]]:
    """Return memory over time, and the peak (from the kernel) of a single process of each kind."""
    samples: list[Sample] = []
    peaks: dict[str, float] = {}
    started = time.monotonic()
    nice = ["nice", "-n", str(NICE), *map(str, command)]
    with subprocess.Popen(nice, cwd=ROOT, env=environment(settings), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            resident: dict[str, float] = {}
            for pid in [process.pid, *descendants(process.pid)]:
                if kind := _kind(pid):
                    resident[kind] = resident.get(kind, 0.0) + _megabytes(pid, peaks, kind)
            samples.append(Sample(time.monotonic() - started, resident))
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


def _kind(pid: int) -> str:
    """Return the kind of a process from its command; empty if it has ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
    except OSError:
        return ""
    if "--serve" in command:
        return "worker"
    if "process" in command:
        return "coordinator"
    return "engine" if "--hear" in command else Path(command[0]).name.split("-")[0]


def _show(samples: Sequence[Sample], peaks: Mapping[str, float]) -> None:
    """Print the peaks, and memory over time in twelve rows, each the maximum of one twelfth."""
    load = os.getloadavg()
    print(f"{samples[-1].at / 60:.1f} minutes at nice {NICE} on {os.cpu_count()} cores, load {load[1]:.1f} at the end")
    kinds = sorted(peaks, key=lambda kind: -peaks[kind])
    for kind in kinds:
        print(f"peak of {kind}: {peaks[kind]:.0f} MB")
    print(f"| minute | {', MB | '.join(kinds)}, MB |\n| --- |{' --- |' * len(kinds)}")
    edges = [round(len(samples) * number / ROWS) for number in range(ROWS + 1)]
    for first, last in pairwise(edges):
        part = samples[first:last]
        if part:
            most = [f"{max(sample.resident.get(kind, 0.0) for sample in part):.0f}" for kind in kinds]
            print(f"| {part[0].at / 60:.1f} to {part[-1].at / 60:.1f} | {' | '.join(most)} |")


if __name__ == "__main__":
    sys.exit(main())
