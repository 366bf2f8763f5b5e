"""Step timing, from the request for the step's process, and its distribution over the recordings.

Queue and start times exist only where each step has its own process (pods, multiprocess).
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from transcription_assets.costs import timing
from transcription_assets.costs.timing import StepTime, share_time

PROC = Path("/proc")
_LOADED = time.time()

Metadata = dict[str, dg.MetadataValue]


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
        asked = _asked_for(context)
        if asked is None:
            return cls(0.0, 0.0, price)
        began = max(process_start(), asked)  # the kernel's boot time is in whole seconds
        return cls(began - asked, max(now - began, 0.0), price)

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

    def _shared_out(self, own_s: Sequence[float], keys: Sequence[str]) -> Sequence[float]:
        weights = [self._weights.get(key, 0.0) for key in keys]
        return [sum(own_s) * weight / sum(weights) for weight in weights] if sum(weights) else own_s

    def shown(self, keys: Sequence[str]) -> dict[str, Metadata]:
        """Return the metadata of each of these recordings: its step timing, and its cost if the step has a price."""
        return {key: self._shown(spent) for key, spent in self.spent(keys).items()}

    def _shown(self, spent: StepTime) -> Metadata:
        shown: Metadata = {
            "queue_s": _seconds(spent.queue_s),
            "start_s": _seconds(spent.start_s),
            "load_s": _seconds(spent.load_s),
            "compute_s": _seconds(spent.compute_s),
        }
        if self._price:
            shown |= {
                "cpu_seconds": _seconds(spent.held_s * self._price["cpus"]),
                "gpu_seconds": _seconds(spent.held_s * self._price["gpus"]),
                "cost_usd": dg.MetadataValue.float(round(spent.usd(self._price["usd_per_hour"]), 8)),
            }
        return shown


class FirstProgress:
    """Time from the start of this process to its first decoded audio: the cost of a cold start."""

    def __init__(self) -> None:
        self._after_s: float | None = None
        self._told = False

    def progress(self, _key: str, _seconds: float) -> None:
        """Accept a progress report of an engine."""
        if self._after_s is None:
            self._after_s = time.time() - process_start()

    def shown(self) -> Metadata:
        """Return the metadata for the first recording; empty in later calls."""
        if self._after_s is None or self._told:
            return {}
        self._told = True
        return {"first_decoded_s": _seconds(self._after_s)}


def price_of(context: dg.AssetExecutionContext) -> Mapping[str, float]:
    """Return cores, GPUs and $ per hour from the asset's metadata, empty if it has no price (see definitions.py)."""
    metadata = context.assets_def.get_asset_spec(context.asset_key).metadata
    if "usd_per_hour" not in metadata:
        return {}
    return {name: float(_plain(metadata[name])) for name in ("cpus", "gpus", "usd_per_hour")}


def _plain(value: object) -> float:
    return value.value if isinstance(value, dg.FloatMetadataValue | dg.IntMetadataValue) else value  # type: ignore[return-value]


def _asked_for(context: dg.AssetExecutionContext) -> float | None:
    """Return when the executor requested a process for this attempt of the step, None if it uses the run's."""
    step = context.op_execution_context.get_step_execution_context().step.key
    asked = [
        entry.timestamp
        for entry in context.instance.all_logs(context.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING)
        if entry.step_key == step
    ]
    return max(asked, default=None)


def _seconds(value: float) -> dg.MetadataValue:
    return dg.MetadataValue.float(round(value, 3))
