"""Simulation of up to 100 workers on one recording of 10 hours, from measured times, and its check against real runs.

python -m benchmarks.simulate [--minutes 40] [--model base] [--speech FOLDER] [--runs FILE] [--chart FILE.svg]

The times come from real runs with 1, 2 and 4 workers of one thread each. They are seconds of CPU time, because other
work on the machine does not change those much; on a core of its own a thread takes as many seconds of wall time.
`--runs` keeps the measurements in a file, or takes them from it if it exists.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from benchmarks import recordings
from benchmarks.chart import Line, chart
from benchmarks.machine import MODELS, describe
from transcription_assets import media
from transcription_assets.costs.timing import WorkerUse
from transcription_assets.pipeline import audio, shard_status, transcript, video, window_plan
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.settings import Settings
from transcription_assets.speech import AudioSource, PlannedWindow, recognition
from transcription_assets.speech.windowing import EARLIEST_SHARE, WINDOW_S
from transcription_assets.storage import Store
from transcription_assets.wiring import Services, locate_installed
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.launcher import Launched, Launcher, ShardState
from transcription_assets.workers.manifest import Manifest

if TYPE_CHECKING:
    from transcription_assets.workers.coordinator import WorkerTranscriber

BAR_S = 60.0
HOURS = 10.0
WORKERS = (1, 2, 4, 8, 16, 32, 48, 64, 100)
REAL = (1, 2, 4)
ROUNDS = 50
KEY = "video/long.mp4"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Group:
    """Windows that a worker decoded together: seconds of audio and of CPU time."""

    audio_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """A real run, in seconds of CPU time except for `wall_s`, `last_s` and `load`.

    `starts` are the times of each worker until it begins to decode (interpreter, imports, model, first windows read).
    `shards` are the groups of each. `merge_s` is what the coordinator needs after the last window, `last_s` the same as
    wall time, `coordinator_s` all of its time. `planning_s` is the step `audio`.
    """

    workers: int
    audio_s: float
    wall_s: float
    cpu_s: float
    planning_s: float
    planning_wall_s: float
    coordinator_s: float
    merge_s: float
    last_s: float
    starts: list[float]
    shards: list[list[Group]]
    load: float

    @property
    def rate(self) -> float:
        """CPU seconds that the run got in each second of wall time."""
        return self.cpu_s / self.wall_s

    @property
    def slowest_s(self) -> float:
        """CPU time of the slowest shard."""
        return max(sum(group.cpu_s for group in shard) for shard in self.shards)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Seconds that the simulation uses; `planning`, `groups` and `merge` for each second of audio.

    `groups` has one value for each measured group, from which the simulation draws.
    """

    planning: float
    start: float
    groups: tuple[float, ...]
    merge: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Inputs":
        """Return the inputs that runs give."""
        return cls(
            planning=statistics.median(run.planning_s / run.audio_s for run in runs),
            start=statistics.median(start for run in runs for start in run.starts),
            groups=tuple(group.cpu_s / group.audio_s for run in runs for shard in run.shards for group in shard),
            merge=statistics.median(run.merge_s / run.audio_s for run in runs),
        )


@dataclass(frozen=True, slots=True)
class Simulated:
    """Wall seconds: of the slowest shard, of the step `transcript`, and of planning before it."""

    shards: int
    slowest_s: float
    transcript_s: float
    planning_s: float


def main() -> int:
    """Print the measurements, the check and the simulation; return 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40.0, help="of speech in the real runs: five windows")
    parser.add_argument("--model", default="base")
    parser.add_argument("--speech", type=Path, help="folder of recordings to use besides the demo's")
    parser.add_argument("--runs", type=Path, help="file of the measurements")
    parser.add_argument("--chart", type=Path, help="write the simulation as SVG")
    parser.add_argument("--launch", type=float, default=0.0, help="seconds until a worker's process can start")
    chosen = parser.parse_args()
    print(describe())
    runs = _runs(chosen)
    _show_runs(runs)
    _show_check(runs)
    inputs = Inputs.of(runs)
    print(
        f"\ninputs: planning {1000 * inputs.planning:.2f} ms and merge {1000 * inputs.merge:.3f} ms for a second of"
        f" audio, start {inputs.start:.1f} s, decoding {min(inputs.groups):.4f} to {max(inputs.groups):.4f} s (median"
        f" {statistics.median(inputs.groups):.4f}) for a second of audio, launch {chosen.launch:.0f} s"
    )
    found = {count: _typical(inputs, count, chosen.launch) for count in WORKERS}
    _show(found)
    if chosen.chart:
        chosen.chart.parent.mkdir(parents=True, exist_ok=True)
        chosen.chart.write_text(_chart(found), encoding="utf-8")
    worst = max(item.transcript_s - item.slowest_s for item in found.values())
    total = max(item.planning_s + item.transcript_s - item.slowest_s for item in found.values())
    held = total <= BAR_S
    print(
        f"\nbeyond the slowest shard: transcript {worst:.1f} s at most, with planning {total:.1f} s at most,"
        f" the bar is {BAR_S:.0f} s: {'held' if held else 'MISSED'}"
    )
    return int(not held)


def _runs(chosen: argparse.Namespace) -> list[Run]:
    if chosen.runs and chosen.runs.is_file():
        stored = json.loads(chosen.runs.read_text(encoding="utf-8"))
        shards = [[[Group(**group) for group in shard] for shard in run.pop("shards")] for run in stored]
        return [Run(**run, shards=found) for run, found in zip(stored, shards, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "long.mp4"
        english = recordings.english() if chosen.model.endswith(".en") else ()
        recordings.long(speech, chosen.minutes * 60, english, chosen.speech)
        runs = [_real(Path(folder) / str(count), speech, count, chosen.model) for count in REAL]
    if chosen.runs:
        chosen.runs.write_text(json.dumps([asdict(run) for run in runs], indent=1), encoding="utf-8")
    return runs


def _real(folder: Path, speech: Path, count: int, model: str) -> Run:
    """Transcribe with `count` worker processes of one thread each."""
    settings = Settings(
        store=str(folder),
        models_dir=MODELS,
        whisper_model=model,
        device="cpu",
        cpu_threads=count,
        worker_processes=count,
        ffmpeg=media.find_ffmpeg(),
    )
    services = Services(settings, locate_installed(settings))
    store = services.store
    store.put_media(KEY, speech)
    video.materialise(store, KEY, services.decoder)
    started, used = time.monotonic(), _used_s()
    audio.materialise(store, KEY, services.decoder)
    planning_wall_s, planning_s = time.monotonic() - started, _used_s() - used
    tools = services.transcript_tools
    transcriber = cast("WorkerTranscriber", tools.speech)
    watched = _WatchedLauncher(transcriber.launcher)
    tools = replace(tools, speech=replace(transcriber, launcher=watched))
    started, used, own = time.monotonic(), _used_s(), _own_s()
    made, _ = transcript.materialise(store, KEY, tools)
    ended, coordinator_s = time.monotonic(), _own_s() - own
    watched.close()  # now the time of the workers counts as that of children
    shards = watched.shards()
    last = watched.last()
    return Run(
        workers=count,
        audio_s=made.duration,
        wall_s=ended - started,
        cpu_s=_used_s() - used,
        planning_s=planning_s,
        planning_wall_s=planning_wall_s,
        coordinator_s=coordinator_s,
        merge_s=_own_s() - last.coordinator_s,
        last_s=ended - last.at,
        starts=watched.starts(),
        shards=shards,
        load=os.getloadavg()[1],
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    """A worker has begun a group or finished a window: when, and the CPU time that it had used."""

    at: float
    shard: int
    pid: int
    cpu_s: float
    done: int
    decoding: bool
    coordinator_s: float


@dataclass
class _WatchedLauncher:
    """A launcher that notes when its workers begin and finish their windows."""

    launcher: Launcher
    marks: list[_Mark] = field(default_factory=list)
    lengths: list[list[list[float]]] = field(default_factory=list)
    """Seconds of audio by shard, group and window."""

    @property
    def most(self) -> int:
        """Maximum number of workers at once."""
        return self.launcher.most

    @property
    def use(self) -> WorkerUse:
        """Machines that the workers have held."""
        return self.launcher.use

    def prepare(self, store: Store) -> None:
        """Start workers early."""
        self.launcher.prepare(store)

    def launch(self, store: Store, manifest: Manifest) -> "_WatchedWorkers":
        """Start the workers."""
        plans = {item.key: window_plan.load(store, item.key, item.sound) for item in manifest.recordings}
        known = {key: plan for key, plan in plans.items() if plan is not None}
        self.lengths = [
            [[known[key].channels[channel][number].length for key, channel, number in group] for group in shard]
            for shard in manifest.shards
        ]
        return _WatchedWorkers(self.launcher.launch(store, manifest), self)

    def close(self) -> None:
        """End the workers."""
        self.launcher.close()

    def note(self, shard: int, status: ShardStatus) -> None:
        """Note a status if it tells something new."""
        mark = _Mark(
            time.monotonic(),
            shard,
            status.pid,
            _process_s(status.pid),
            len(status.done),
            bool(status.current),
            _own_s(),
        )
        if (mark.done, mark.decoding) not in {(item.done, item.decoding) for item in self.marks if item.shard == shard}:
            self.marks.append(mark)

    def last(self) -> _Mark:
        """Return when the last window was finished; the coordinator merges them after that."""
        ends = [
            next(mark for mark in self.marks if mark.shard == shard and mark.done == sum(map(len, groups)))
            for shard, groups in enumerate(self.lengths)
        ]
        return max(ends, key=lambda mark: mark.at)

    def starts(self) -> list[float]:
        """Return the CPU time of each worker process until its first group."""
        first: dict[int, float] = {}
        for mark in self.marks:
            if mark.decoding:
                first.setdefault(mark.pid, mark.cpu_s)
        return [*first.values()]

    def shards(self) -> list[list[Group]]:
        """Return the groups of each shard."""
        found = []
        for shard, groups in enumerate(self.lengths):
            own = [mark for mark in self.marks if mark.shard == shard]
            before = next(mark.cpu_s for mark in own if mark.decoding)
            rows, count = [], 0
            for group in groups:
                count += len(group)
                after = next(mark.cpu_s for mark in own if mark.done >= count)
                rows.append(Group(sum(group), after - before))
                before = after
            found.append(rows)
        return found


@dataclass
class _WatchedWorkers:
    """Workers whose statuses are noted."""

    workers: Launched
    launcher: _WatchedLauncher

    def states(self) -> Mapping[int, ShardState]:
        """Return the state of each shard."""
        return self.workers.states()

    def statuses(self) -> Mapping[int, ShardStatus]:
        """Return and note the status of each shard."""
        found = self.workers.statuses()
        for shard, status in found.items():
            self.launcher.note(shard, status)
        return found

    def wait(self) -> None:
        """Wait for news."""
        self.workers.wait()

    def __enter__(self) -> Self:
        """Return the workers."""
        self.workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers that still run."""
        self.workers.__exit__(kind, error, trace)


def _process_s(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) * TICK_S


def _own_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _used_s() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _own_s() + used.ru_utime + used.ru_stime


def _windows(audio_s: float, chance: random.Random) -> list[recognition.WindowJob]:
    """Return windows as planning makes them: each ends at a pause in the last fifth of its longest length."""
    source = AudioSource(lambda _channel, _start: [])
    found: list[recognition.WindowJob] = []
    start = 0.0
    while start < audio_s:
        end = min(audio_s, start + chance.uniform(EARLIEST_SHARE, 1.0) * WINDOW_S)
        found.append(recognition.WindowJob("long", 0, len(found), PlannedWindow(start, end), source))
        start = end
    return found


def _simulated(inputs: Inputs, workers: int, launch_s: float, chance: random.Random) -> Simulated:
    """Simulate one recording of HOURS with a core for each worker."""
    audio_s = HOURS * 3600
    windows = {shard_status.reference(job): job.plan.length for job in _windows(audio_s, chance)}
    groups = recognition.grouped(windows, windows.__getitem__, EARLIEST_SHARE * WINDOW_S)
    lengths = [sum(map(windows.__getitem__, group)) for group in groups]
    shards = manifests.shards(groups, lengths, 0.0, workers)
    work = [
        sum(sum(map(windows.__getitem__, group)) * chance.choice(inputs.groups) for group in shard) for shard in shards
    ]
    ends = finish_times(work, workers, start_s=launch_s + inputs.start, cores=workers)
    return Simulated(len(shards), max(work), max(ends) + inputs.merge * audio_s, inputs.planning * audio_s)


def finish_times(work: Sequence[float], workers: int, *, start_s: float, cores: float) -> list[float]:
    """Return when each shard ends, in seconds after all workers were started.

    Each worker first works for `start_s`, then takes one shard after another, in order. All that are busy share `cores`
    evenly; none is faster than one core.

    Args:
        work: Seconds of one core for each shard.
        workers: Number of workers.
        start_s: Seconds of one core until a worker is ready.
        cores: Number of cores, or a part of them if other work uses the rest.

    """
    waiting = deque(range(len(work)))
    busy: dict[int, tuple[float, int | None]] = dict.fromkeys(range(min(workers, len(work))), (start_s, None))
    ends = [0.0] * len(work)
    now = 0.0
    while busy:
        rate = min(1.0, cores / len(busy))
        passed = min(left for left, _ in busy.values())
        now += passed / rate
        for number, (left, shard) in list(busy.items()):
            if left - passed > 1e-9:
                busy[number] = left - passed, shard
                continue
            if shard is not None:
                ends[shard] = now
            if waiting:
                taken = waiting.popleft()
                busy[number] = work[taken], taken
            else:
                del busy[number]
    return ends


def _typical(inputs: Inputs, workers: int, launch_s: float) -> Simulated:
    """Return the simulation with the median time of ROUNDS."""
    rounds = [_simulated(inputs, workers, launch_s, random.Random(seed)) for seed in range(ROUNDS)]  # noqa: S311
    return sorted(rounds, key=lambda item: item.transcript_s)[ROUNDS // 2]


def _show_runs(runs: Sequence[Run]) -> None:
    print("\n| real runs: workers | wall s | CPU s | start, CPU s | slowest shard, CPU s | merge, CPU s | load |")
    print("|" + " --- |" * 7)
    for run in runs:
        starts = ", ".join(f"{start:.1f}" for start in run.starts)
        print(
            f"| {run.workers} | {run.wall_s:.1f} | {run.cpu_s:.1f} | {starts} | {run.slowest_s:.1f}"
            f" | {run.merge_s:.2f} | {run.load:.1f} |"
        )
    for run in runs:
        print(
            f"{run.workers} workers: planning {run.planning_s:.1f} s of CPU, {run.planning_wall_s:.1f} s; after the"
            f" last window {run.last_s:.1f} s; coordinator {run.coordinator_s:.1f} s of CPU"
        )


def _show_check(runs: Sequence[Run]) -> None:
    """Compare the runs with what the simulation gives from the run with one worker, at the CPU time that each got."""
    first = runs[0]
    per_s = sum(group.cpu_s for shard in first.shards for group in shard) / first.audio_s
    start_s = first.starts[0]
    print("\n| check: workers | CPU s, real | simulated | slowest shard, real | simulated | wall s, real | simulated |")
    print("|" + " --- |" * 7)
    for run in runs:
        work = [sum(group.audio_s for group in shard) * per_s for shard in run.shards]
        wall_s = max(finish_times(work, run.workers, start_s=start_s, cores=run.rate)) + first.merge_s
        cpu_s = sum(work) + len(run.shards) * start_s + first.coordinator_s
        print(
            f"| {run.workers} | {run.cpu_s:.1f} | {cpu_s:.1f} | {run.slowest_s:.1f} | {max(work):.1f}"
            f" | {run.wall_s:.1f} | {wall_s:.1f} |"
        )


def _show(found: Mapping[int, Simulated]) -> None:
    """Print the simulation; beyond = planning + launch + start + slowest shard + merge, less the slowest shard."""
    print(f"\n| {HOURS:g} h: workers | shards | slowest shard, s | transcript, s | with planning, s | beyond, s | x |")
    print("|" + " --- |" * 7)
    one = found[min(found)].transcript_s
    for count, item in found.items():
        total = item.planning_s + item.transcript_s
        print(
            f"| {count} | {item.shards} | {item.slowest_s:.1f} | {item.transcript_s:.1f} | {total:.1f}"
            f" | {total - item.slowest_s:.1f} | {one / item.transcript_s:.1f} |"
        )


def _chart(found: Mapping[int, Simulated]) -> str:
    lines = [
        Line("audio and transcript", [(n, (item.planning_s + item.transcript_s) / 60) for n, item in found.items()]),
        Line("transcript", [(n, item.transcript_s / 60) for n, item in found.items()]),
        Line("slowest shard", [(n, item.slowest_s / 60) for n, item in found.items()]),
    ]
    title = f"A recording of {HOURS:g} hours with up to {max(found)} workers (simulated)"
    return chart(title, "workers", "minutes", lines, bar=("bar", BAR_S / 60))


if __name__ == "__main__":
    sys.exit(main())
