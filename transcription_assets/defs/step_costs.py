"""Time and cost of steps in Dagster: measured in a step, written as metadata, and read from there for the cost report.

A step is timed from the request for its process. Queue and start times exist only where each step has its own process
(pods, multiprocess).
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from transcription_assets.costs import timing
from transcription_assets.costs.prices import HOSTED
from transcription_assets.costs.report import DailyCost, PricedStep
from transcription_assets.costs.timing import StepTime, WorkerUse, share_time
from transcription_assets.costs.usage import PARTS, STEPS, StepUsage
from transcription_assets.defs.metadata import fitting

PROC = Path("/proc")
_LOADED = time.time()

Metadata = dict[str, dg.MetadataValue]

DAYS = 30
PROGRESS_EVERY_S = 15.0
PAGE = 1000
BAR = 24
"""Length of the longest bar in characters."""


def process_start() -> float:
    """Return when this process started (Unix time), from the kernel if possible, else when this module was loaded."""
    try:
        ticks = int((PROC / "self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        booted = next(line for line in (PROC / "stat").read_text(encoding="ascii").splitlines() if "btime" in line)
        return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return _LOADED


class StepTimer:
    """Measures one step; all times are in seconds."""

    def __init__(self, queue_s: float, start_s: float, price: Mapping[str, float]) -> None:
        self._queue_s = queue_s
        self._start_s = start_s
        self._price = price
        self._own_s: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._common_s = 0.0
        self._loaded_before = timing.weights.seconds

    @classmethod
    def begin(cls, context: dg.AssetExecutionContext) -> "StepTimer":
        """Start measuring; to be called where the body of the asset begins."""
        now, price = time.time(), price_of(context)
        requested = _requested_at(context)
        if requested is None:
            return cls(0.0, 0.0, price)
        began = max(process_start(), requested)  # the kernel's boot time is in whole seconds
        return cls(began - requested, max(now - began, 0.0), price)

    @contextmanager
    def recording(self, key: str) -> Iterator[None]:
        """Measure the work for one recording, without the time in which weights load, which all recordings share."""
        loaded, started = timing.weights.seconds, time.monotonic()
        try:
            yield
        finally:
            self._own_s[key] = time.monotonic() - started - (timing.weights.seconds - loaded)

    def owned(self, key: str, own_s: float) -> None:
        """Set the processing time of one of several concurrent recordings, whose total is divided in proportion."""
        self._weights[key] = own_s

    @contextmanager
    def common(self) -> Iterator[None]:
        """Measure work for all recordings together."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._common_s += time.monotonic() - started

    def spent(self, keys: Sequence[str]) -> dict[str, StepTime]:
        """Return the step timing of each of these recordings, with a share of the time of those that failed."""
        if not keys:
            return {}
        lost_s = sum(seconds for key, seconds in self._own_s.items() if key not in set(keys))
        common = StepTime(
            self._queue_s,
            self._start_s,
            timing.weights.seconds - self._loaded_before,
            self._common_s + lost_s,
        )
        return dict(
            zip(keys, share_time(self._shared_out([self._own_s[key] for key in keys], keys), common), strict=True)
        )

    def usage(self, gpus: int) -> StepUsage:
        """Return what the step used so far; `gpus` counts if the step has no price."""
        load_s = timing.weights.seconds - self._loaded_before
        spent = StepTime(self._queue_s, self._start_s, load_s, self._common_s + sum(self._own_s.values()))
        cpus = self._price.get("cpus", 0.0)
        return StepUsage(
            **{part: getattr(spent, part) for part in PARTS},
            cpu_s=spent.held_s * cpus,
            gpu_s=spent.held_s * self._price.get("gpus", gpus),
            usd=spent.usd(self._price.get("usd_per_hour", 0.0)),
        )

    def _shared_out(self, own_s: Sequence[float], keys: Sequence[str]) -> Sequence[float]:
        weights = [self._weights.get(key, 0.0) for key in keys]
        return [sum(own_s) * weight / sum(weights) for weight in weights] if sum(weights) else own_s

    def metadata(self, keys: Sequence[str], use: WorkerUse | None = None) -> dict[str, Metadata]:
        """Return the metadata of each of these recordings: its step timing, and its cost if the step has a price.

        What workers used (`use`) is shared out as the time of the step is.
        """
        spent = self.spent(keys)
        total = sum(self._weights.get(key, 0.0) for key in keys)
        shares = {key: self._weights.get(key, 0.0) / total if total else 1 / len(keys) for key in keys}
        return {key: self._metadata(time_, (use or WorkerUse()) * shares[key]) for key, time_ in spent.items()}

    def _metadata(self, spent: StepTime, use: WorkerUse) -> Metadata:
        metadata: Metadata = {
            "queue_s": _seconds(spent.queue_s),
            "start_s": _seconds(spent.start_s),
            "load_s": _seconds(spent.load_s),
            "compute_s": _seconds(spent.compute_s),
        }
        if use.held_s:
            metadata["worker_s"] = _seconds(use.held_s)
        if self._price or use.usd:
            price = self._price or {"cpus": 0.0, "gpus": 0.0, "usd_per_hour": 0.0}
            metadata |= {
                "cpu_seconds": _seconds(spent.held_s * price["cpus"] + use.cpu_s),
                "gpu_seconds": _seconds(spent.held_s * price["gpus"] + use.gpu_s),
                "cost_usd": dg.MetadataValue.float(round(spent.usd(price["usd_per_hour"]) + use.usd, 8)),
            }
        return metadata


class StepProgress:
    """Progress of a step: a message now and then, and the time from the start of the process to the first audio."""

    def __init__(self, log: Callable[[str], None], done: str) -> None:
        self._log = log
        self._done = done
        self._logged = time.monotonic()
        self._first_s: float | None = None
        self._given = False

    def report(self, key: str, done_s: float) -> None:
        """Note the seconds of a recording that are done."""
        if self._first_s is None:
            self._first_s = time.time() - process_start()
        if time.monotonic() - self._logged >= PROGRESS_EVERY_S:
            self._logged = time.monotonic()
            self._log(f"{key}: {done_s:.0f} s are {self._done}")

    def cold_start(self) -> Metadata:
        """Return the time to the first audio for the first recording; empty in later calls."""
        if self._first_s is None or self._given:
            return {}
        self._given = True
        return {"first_decoded_s": _seconds(self._first_s)}


def price_of(context: dg.AssetExecutionContext) -> Mapping[str, float]:
    """Return cores, GPUs and $ per hour from the asset's metadata, empty if it has no price (see definitions.py)."""
    metadata = context.assets_def.get_asset_spec(context.asset_key).metadata
    if "usd_per_hour" not in metadata:
        return {}
    return {name: float(_plain(metadata[name])) for name in ("cpus", "gpus", "usd_per_hour")}


def _plain(value: object) -> float:
    return value.value if isinstance(value, dg.FloatMetadataValue | dg.IntMetadataValue) else value  # type: ignore[return-value]


def _requested_at(context: dg.AssetExecutionContext) -> float | None:
    """Return when the executor requested a process for this attempt of the step, None if it uses the run's."""
    step = context.op_execution_context.get_step_execution_context().step.key
    times = [
        entry.timestamp
        for entry in context.instance.all_logs(context.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING)
        if entry.step_key == step
    ]
    return max(times, default=None)


def _seconds(value: float) -> dg.MetadataValue:
    return dg.MetadataValue.float(round(value, 3))


def priced_steps(instance: dg.DagsterInstance, now: datetime) -> Iterator[PricedStep]:
    """Yield the cost of each materialisation of the last `DAYS` days that has a price, fetched in pages of `PAGE`."""
    since = (now - timedelta(days=DAYS)).timestamp()
    for step in STEPS:
        records_filter, cursor = dg.AssetRecordsFilter(dg.AssetKey(step), after_timestamp=since), None
        while True:
            found = instance.fetch_materializations(records_filter, limit=PAGE, cursor=cursor)
            yield from (item for record in found.records if (item := _priced(step, record)))
            cursor = found.cursor
            if not found.has_more:
                break


def _priced(step: str, record: dg.EventLogRecord) -> PricedStep | None:
    materialisation = record.asset_materialization
    values = {name: value.value for name, value in materialisation.metadata.items()} if materialisation else {}
    figures = {name: value for name, value in values.items() if isinstance(value, int | float)}
    if "cost_usd" not in figures:
        return None
    is_transcribed = step == "transcript" and not figures.get("reused")
    parts = StepTime(*(figures.get(part, 0.0) for part in ("queue_s", "start_s", "load_s", "compute_s")))
    return PricedStep(
        datetime.fromtimestamp(record.timestamp, UTC).date(),
        step,
        parts,
        figures.get("cpu_seconds", 0.0),
        figures.get("gpu_seconds", 0.0),
        figures["cost_usd"],
        figures.get("duration_s", 0.0) if is_transcribed else 0.0,
    )


def report_metadata(found: Sequence[DailyCost]) -> Metadata:
    """Return the metadata of the report: summary, chart and tables as Markdown, all days as a table, and totals."""
    if not found:
        return {"summary": dg.MetadataValue.md(NOTHING)}
    usd, audio_h = sum(day.usd for day in found), sum(day.audio_h for day in found)
    figures: Metadata = {
        "usd": dg.MetadataValue.float(round(usd, 6)),
        "audio_hours": dg.MetadataValue.float(round(audio_h, 4)),
        "gpu_hours": dg.MetadataValue.float(round(sum(day.gpu_h for day in found), 4)),
        "cpu_hours": dg.MetadataValue.float(round(sum(day.cpu_h for day in found), 4)),
    }
    if audio_h:
        figures["usd_per_audio_hour"] = dg.MetadataValue.float(round(usd / audio_h, 6))
    return {
        "summary": dg.MetadataValue.md(_summary(usd, audio_h, len(found))),
        "chart": dg.MetadataValue.md(chart(found)),
        "days": dg.MetadataValue.md(table(found)),
        "all days": dg.MetadataValue.table([_record(day) for day in reversed(found)]),
        "hosted": dg.MetadataValue.table(_hosted()),
        **figures,
    }


NOTHING = (
    "No costs in the last 30 days. Only steps in pods (`TRANSCRIPTION_EXECUTOR=k8s`) have a price, that of the "
    "resources that the pod reserves."
)
BOUND = (
    "By list prices; queue time is priced as if the node were booting for this pod. **Not included**: work of pods "
    "that failed or were evicted (their recordings count as reused, without $ and hours), `search_index` and this "
    "report, the pods of runs, the servers, the bucket."
)


def _summary(usd: float, audio_h: float, days: int) -> str:
    price = f"**{usd / audio_h:.3f} $ per audio hour**" if audio_h else "**No audio was transcribed**"
    return f"{price}: {audio_h:.2f} audio hours on {days} days for {usd:.2f} $. {BOUND}"


def chart(found: Sequence[DailyCost]) -> str:
    """Return $ per audio hour as bars of text: the last seven days that have one, newest first, and hosted services.

    Text, because the UI has no inline charts: it hides a data URI of more than a thousand characters behind a link, and
    some Content-Security-Policies block it.
    """
    ours = [(f"{day.day:%d %b}", day.usd_per_audio_hour) for day in reversed(found)]
    priced = [(name, value) for name, value in ours if value is not None][:7]
    theirs = [(item.service, item.usd_per_audio_hour) for item in HOSTED]
    rows = [*priced, *theirs]
    most, width = max(value for _, value in rows), max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}} {_bar(value / most)} {value:.3f} $" for name, value in rows]
    return "\n".join(["```", *lines, "```"])


def _bar(share: float) -> str:
    """Return a bar for a share in [0, 1]; it is never empty."""
    eighths = max(1, round(share * BAR * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def table(found: Sequence[DailyCost]) -> str:
    """Return the last days as a Markdown table, newest first, cut to the length that the UI shows inline."""
    head = ["| day | audio | $ | $/audio hour | queue | start | load | compute |", "| --- |" + " ---: |" * 7]
    rows = [
        f"| {day.day:%Y-%m-%d} | {day.audio_h:.2f} h | {day.usd:.3f} | {_or_dash(day.usd_per_audio_hour)} "
        f"| {day.usd_queue:.3f} | {day.usd_start:.3f} | {day.usd_load:.3f} | {day.usd_compute:.3f} |"
        for day in reversed(found)
    ]
    return fitting([*head, *rows], "\n")


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _record(day: DailyCost) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "day": day.day.isoformat(),
            "sound_h": round(day.audio_h, 4),
            "usd_per_audio_hour": _or_dash(day.usd_per_audio_hour),
            "usd": round(day.usd, 6),
            "queue": round(day.usd_queue, 6),
            "start": round(day.usd_start, 6),
            "load": round(day.usd_load, 6),
            "compute": round(day.usd_compute, 6),
            "gpu_h": round(day.gpu_h, 4),
            "cpu_h": round(day.cpu_h, 4),
        }
    )


def _hosted() -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "service": item.service,
                "usd_per_audio_hour": item.usd_per_audio_hour,
                "source": item.source,
                "read": item.read.isoformat(),
            }
        )
        for item in HOSTED
    ]
