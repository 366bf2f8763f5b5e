"""Time of a batch: at most 1.15 x that of the bare engines on the same files, with the models on disk.

python -m benchmarks.pipeline [RECORDINGS] [--rounds N]

Every measurement is a fresh process, so the time includes interpreter start, imports and model loading. Baseline:
`bare.py`. Ours: `transcription-assets process`, and the Dagster graph with the batch as one partition range in one run.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import recordings
from benchmarks.machine import MODELS, Run, describe, measured, quietest
from transcription_assets import models

BAR = 1.15
Contestant = Callable[[Path, Path], Run]
BIN = Path(sys.executable).parent
CHAIN = "video,audio,transcript,embeddings"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", nargs="?", type=Path, help="folder; default: made from demo/recordings")
    parser.add_argument("--rounds", type=int, default=3, help="how often each of the three runs, alternating")
    chosen = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = chosen.recordings or folder / "recordings"
        if chosen.recordings is None:
            recordings.batch(source)
        files = recordings.found(source)
        print(f"{len(files)} recordings, {sum(map(recordings.seconds, files)) / 60:.1f} minutes")
        return _compare(source.resolve(), folder, chosen.rounds)


def _compare(source: Path, folder: Path, rounds: int) -> int:
    contestants: dict[str, Contestant] = {"bare": _bare, "process": _process, "dagster": _dagster}
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            runs[name].append(quietest(partial(_in_new_place, run, source, folder)))
            print(f"{name:8} {runs[name][-1]}", flush=True)
    ratios = {name: _ratio(runs[name], runs["bare"]) for name in ("process", "dagster")}
    for name, (wall, cpu) in ratios.items():
        verdict = "held" if wall <= BAR else "MISSED"
        print(f"{name}: {wall:.3f} x the bare engines' wall time ({cpu:.3f} x their CPU), the bar is {BAR}: {verdict}")
    return int(any(wall > BAR for wall, _ in ratios.values()))


def _in_new_place(run: Contestant, source: Path, folder: Path) -> Run:
    """Run in a new folder, so that every run does all of the work."""
    return run(source, Path(tempfile.mkdtemp(dir=folder)))


def _ratio(ours: list[Run], bare: list[Run]) -> tuple[float, float]:
    """Return the ratios of the medians of wall time and of CPU time."""
    wall = statistics.median(run.wall_s for run in ours) / statistics.median(run.wall_s for run in bare)
    return wall, statistics.median(run.cpu_s for run in ours) / statistics.median(run.cpu_s for run in bare)


def _bare(source: Path, place: Path) -> Run:
    speech = models.locate("base", "speech", MODELS).path
    encoder = models.locate("all-MiniLM-L6-v2", "encoder", MODELS).path
    return measured([sys.executable, Path(__file__).with_name("bare.py"), source, place / "made", speech, encoder])


def _process(source: Path, place: Path) -> Run:
    _inbox(source, place)
    return measured([BIN / "transcription-assets", "process"], _settings(place))


def _dagster(source: Path, place: Path) -> Run:
    keys = _inbox(source, place)
    home = place / "dagster_home"
    home.mkdir()
    _register(home, keys)
    graph = ["-m", "transcription_assets.definitions", "--select", CHAIN]
    batch = ["--partition-range", f"{keys[0]}...{keys[-1]}"]
    return measured(
        [BIN / "dagster", "asset", "materialize", *graph, *batch],
        {**_settings(place), "DAGSTER_HOME": str(home)},
    )


def _settings(place: Path) -> dict[str, str]:
    """Return the default settings, except that new files are processed at once: links are complete immediately."""
    return {"TRANSCRIPTION_STORE": str(place), "TRANSCRIPTION_SETTLE_S": "0"}


def _inbox(source: Path, place: Path) -> list[str]:
    """Link the batch into a new store, and return its keys in order."""
    inbox = place / "video"
    inbox.mkdir()
    for path in recordings.found(source):
        target = inbox / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return sorted(f"video/{path.relative_to(source)}" for path in recordings.found(source))


def _register(home: Path, keys: list[str]) -> None:
    """Add the partitions, as the sensor does before it requests a run."""
    from dagster import DagsterInstance  # noqa: TID251 -- it measures the Dagster graph

    from transcription_assets.defs.jobs import recordings as partitions

    with DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions(str(partitions.name), keys)


if __name__ == "__main__":
    sys.exit(main())
