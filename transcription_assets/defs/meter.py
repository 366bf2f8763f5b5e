"""The time of a step, from the moment its pod was asked for, and what of it each recording has spent.

Only where each step has a process of its own (pods, multiprocess) is there anything to wait for and to start.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from transcription_assets import loading
from transcription_assets.costs import Spent, shared

PROC = Path("/proc")
_LOADED = time.time()

Metadata = dict[str, dg.MetadataValue]


def process_start() -> float:
    """When this process began (seconds since 1970): as the kernel says, else when this module was loaded."""
    try:
        ticks = int((PROC / "self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        booted = next(line for line in (PROC / "stat").read_text(encoding="ascii").splitlines() if "btime" in line)
        return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return _LOADED


class Meter:
    """Measures one step; `queue_s` and `start_s` are known when it begins."""

    def __init__(self, queue_s: float, start_s: float, price: Mapping[str, float]) -> None:
        self._queue_s = queue_s
        self._start_s = start_s
        self._price = price
        self._own_s: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._common_s = 0.0
        self._loaded_before = loading.weights.seconds

    @classmethod
    def begin(cls, context: dg.AssetExecutionContext) -> "Meter":
        """Now, where the body of the asset begins."""
        now, price = time.time(), price_of(context)
        asked = _asked_for(context)
        if asked is None:
            return cls(0.0, 0.0, price)
        began = max(process_start(), asked)  # the boot time is in whole seconds
        return cls(began - asked, max(now - began, 0.0), price)

    @contextmanager
    def recording(self, key: str) -> Iterator[None]:
        """The work for this one alone; weights that load meanwhile load for all."""
        loaded, started = loading.weights.seconds, time.monotonic()
        try:
            yield
        finally:
            self._own_s[key] = time.monotonic() - started - (loading.weights.seconds - loaded)

    def owned(self, key: str, own_s: float) -> None:
        """What this one took, where several are worked on at once: the time of all is shared out by that."""
        self._weights[key] = own_s

    @contextmanager
    def common(self) -> Iterator[None]:
        """Work for all recordings at once."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._common_s += time.monotonic() - started

    def spent(self, keys: Sequence[str]) -> dict[str, Spent]:
        """What each of these has spent; they also bear what was spent on those that failed."""
        if not keys:
            return {}
        lost_s = sum(seconds for key, seconds in self._own_s.items() if key not in set(keys))
        common = Spent(
            self._queue_s,
            self._start_s,
            loading.weights.seconds - self._loaded_before,
            self._common_s + lost_s,
        )
        return dict(zip(keys, shared(self._shared_out([self._own_s[key] for key in keys], keys), common), strict=True))

    def _shared_out(self, own_s: Sequence[float], keys: Sequence[str]) -> Sequence[float]:
        weights = [self._weights.get(key, 0.0) for key in keys]
        return [sum(own_s) * weight / sum(weights) for weight in weights] if sum(weights) else own_s

    def shown(self, keys: Sequence[str]) -> dict[str, Metadata]:
        """The same as the UI shows it, with its price where the step has one."""
        return {key: self._shown(spent) for key, spent in self.spent(keys).items()}

    def _shown(self, spent: Spent) -> Metadata:
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


class First:
    """When the first sound of this process was decoded: what a cold pod costs until it is of use."""

    def __init__(self) -> None:
        self._after_s: float | None = None
        self._told = False

    def progress(self, _key: str, _seconds: float) -> None:
        """To be called with each progress of an engine."""
        if self._after_s is None:
            self._after_s = time.time() - process_start()

    def shown(self) -> Metadata:
        """Once, for the recording that was the first."""
        if self._after_s is None or self._told:
            return {}
        self._told = True
        return {"first_decoded_s": _seconds(self._after_s)}


def price_of(context: dg.AssetExecutionContext) -> Mapping[str, float]:
    """What definitions.py wrote on the asset: cores, GPUs, $ an hour; empty where nothing is paid by the hour."""
    metadata = context.assets_def.get_asset_spec(context.asset_key).metadata
    if "usd_per_hour" not in metadata:
        return {}
    return {name: float(_plain(metadata[name])) for name in ("cpus", "gpus", "usd_per_hour")}


def _plain(value: object) -> float:
    return value.value if isinstance(value, dg.FloatMetadataValue | dg.IntMetadataValue) else value  # type: ignore[return-value]


def _asked_for(context: dg.AssetExecutionContext) -> float | None:
    """When the executor asked for a process for this attempt of the step; None where it runs in the run's own."""
    step = context.op_execution_context.get_step_execution_context().step.key
    asked = [
        entry.timestamp
        for entry in context.instance.all_logs(context.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING)
        if entry.step_key == step
    ]
    return max(asked, default=None)


def _seconds(value: float) -> dg.MetadataValue:
    return dg.MetadataValue.float(round(value, 3))
