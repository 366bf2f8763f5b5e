"""Time of a step: its parts, its distribution over the recordings of a batch, and the time in which models load."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

HOUR_S = 3600.0


class Stopwatch:
    """Accumulates running time in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the time spent inside, also if it ends in an error."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started

    def add(self, seconds: float) -> None:
        """Add time that was measured elsewhere."""
        self.seconds += seconds


weights = Stopwatch()
"""Loading time of all models of this process and its workers: models load on first use, and that is no work."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Wall time of a pod in seconds: queue (placement and image), start of Python, loading of weights, computation."""

    queue_s: float = 0.0
    start_s: float = 0.0
    load_s: float = 0.0
    compute_s: float = 0.0

    @property
    def held_s(self) -> float:
        """Time during which the pod's cores and GPU were reserved."""
        return self.start_s + self.load_s + self.compute_s

    @property
    def priced_s(self) -> float:
        """Reserved time with the queue: in a pool that scales from zero, the node boots, at a cost, for this pod."""
        return self.queue_s + self.held_s

    def usd(self, usd_per_hour: float) -> float:
        """Return the price in $, an upper bound: on a node that was already running the queue costs nothing."""
        return self.priced_s / HOUR_S * usd_per_hour


@dataclass(frozen=True, slots=True)
class WorkerUse:
    """Machines that workers held beside that of the step: seconds of machines, cores and GPUs, and their price in $."""

    held_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    usd: float = 0.0

    def __add__(self, other: "WorkerUse") -> "WorkerUse":
        """Return the sum."""
        return WorkerUse(
            self.held_s + other.held_s, self.cpu_s + other.cpu_s, self.gpu_s + other.gpu_s, self.usd + other.usd
        )

    def __mul__(self, share: float) -> "WorkerUse":
        """Return a share."""
        return WorkerUse(self.held_s * share, self.cpu_s * share, self.gpu_s * share, self.usd * share)


def share_time(own_s: Sequence[float], common: StepTime) -> list[StepTime]:
    """Return the time of each recording of a batch: its own work, and a share of `common` in proportion to it.

    The results add up to `common` with all of `own_s` as computation. If no recording took time, all get equal shares.
    `own_s` must not be empty.
    """
    total = math.fsum(own_s)
    shares = [seconds / total for seconds in own_s] if total > 0 else [1 / len(own_s)] * len(own_s)
    return [
        StepTime(
            common.queue_s * share,
            common.start_s * share,
            common.load_s * share,
            common.compute_s * share + seconds,
        )
        for seconds, share in zip(own_s, shares, strict=True)
    ]
