"""Resource use of steps: time and its parts, machines, dollars, audio, and failures, as totals that can be added up.

All sums are rounded to a fixed number of decimals, so that they do not depend on the order of addition: a counter that
falls by a rounding error would look like one that was reset.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Annotated, TypeVar

from pydantic import Field

from transcription_assets.costs import timing
from transcription_assets.costs.timing import WorkerUse
from transcription_assets.errors import failure_kind

DECIMALS = 6
STEPS = ("video", "audio", "transcript", "speakers", "slides", "embeddings")
PARTS = ("queue_s", "start_s", "load_s", "compute_s")
"""Fields of `StepUsage` that add up to the time of a step, see `StepTime`."""

Amount = Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False)]
Kind = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,80}$")]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class StepUsage:
    """Resource use of one step: seconds of its parts, of worker machines, cores and GPUs, and dollars.

    `recordings` counts new results, `audio_s` is their length in seconds; results that existed already do not count.
    `failures` counts failed attempts by kind (`errors.failure_kind`).
    """

    recordings: Annotated[int, Field(ge=0, le=10**9)] = 0
    audio_s: Amount = 0.0
    queue_s: Amount = 0.0
    start_s: Amount = 0.0
    load_s: Amount = 0.0
    compute_s: Amount = 0.0
    worker_s: Amount = 0.0
    cpu_s: Amount = 0.0
    gpu_s: Amount = 0.0
    usd: Amount = 0.0
    failures: Mapping[Kind, Annotated[int, Field(ge=0, le=10**9)]] = field(default_factory=dict)

    def __add__(self, other: "StepUsage") -> "StepUsage":
        """Return the sum, rounded to DECIMALS."""
        amounts = {name: round(getattr(self, name) + getattr(other, name), DECIMALS) for name in AMOUNTS}
        kinds = sorted({*self.failures, *other.failures})
        failures = {kind: self.failures.get(kind, 0) + other.failures.get(kind, 0) for kind in kinds}
        return StepUsage(self.recordings + other.recordings, **amounts, failures=failures)

    def clamped(self) -> "StepUsage":
        """Return the figures with 0 for amounts that are negative or not finite, as after a clock was set back."""
        amounts = {name: max(0.0, value) if math.isfinite(value := getattr(self, name)) else 0.0 for name in AMOUNTS}
        return StepUsage(self.recordings, **amounts, failures=self.failures)


AMOUNTS = tuple(item.name for item in fields(StepUsage) if item.name not in ("recordings", "failures"))

Usage = Mapping[str, StepUsage]
"""Resource use by the name of the step."""


def total(items: Iterable[Usage]) -> dict[str, StepUsage]:
    """Return the sum of several usages; steps that this release does not know are left out."""
    found: dict[str, StepUsage] = {}
    for item in items:
        for step in STEPS:
            if step in item:
                found[step] = found.get(step, StepUsage()) + item[step]
    return found


class UsageRecorder:
    """Adds up what the steps of one process use, until it is taken; `gpus` is the number that a step occupies.

    Time counts only with a new result, a failure or machines of workers: a step that finds all results made already has
    no usage.
    """

    def __init__(self, gpus: Mapping[str, int] | None = None) -> None:
        self._gpus = gpus or {}
        self._found: dict[str, StepUsage] = {}
        self._times: dict[str, list[StepUsage]] = {}
        self._workers: dict[str, WorkerUse] = {}

    def add(self, step: str, used: StepUsage) -> None:
        """Add to the figures of a step."""
        self._found[step] = self._found.get(step, StepUsage()) + used

    @contextmanager
    def measured(self, step: str) -> Iterator[None]:
        """Measure work of a step; a failure of the block is counted and raised, interrupted work counts too."""
        loaded, started = timing.weights.seconds, time.monotonic()
        try:
            yield
        except Exception as error:
            self.failed(step, error)
            raise
        except BaseException:
            self._found.setdefault(step, StepUsage())
            raise
        finally:
            load_s = timing.weights.seconds - loaded
            compute_s = max(0.0, time.monotonic() - started - load_s)
            gpu_s = (load_s + compute_s) * self._gpus.get(step, 0)
            self._times.setdefault(step, []).append(StepUsage(load_s=load_s, compute_s=compute_s, gpu_s=gpu_s))

    def each(self, step: str, items: Iterable[Item], is_reused: Callable[[Item], bool]) -> Iterator[Item]:
        """Yield the items, and measure the time in which those that are not reused are made."""
        made = iter(items)
        while True:
            with self.measured(step):
                found = list(zip(range(1), made, strict=False))
            if not found:
                return
            if is_reused(found[0][1]):
                self.reused(step)
            yield found[0][1]

    def finished(self, step: str, audio_s: float) -> None:
        """Count a new result of `audio_s` seconds of audio."""
        self.add(step, StepUsage(recordings=1, audio_s=audio_s))

    def reused(self, step: str) -> None:
        """Forget the block that was measured last: it found a result that existed already."""
        if times := self._times.get(step):
            times.pop()

    def failed(self, step: str, error: Exception) -> None:
        """Count a failed attempt."""
        self.add(step, StepUsage(failures={failure_kind(error): 1}))

    def workers(self, step: str, use: WorkerUse) -> None:
        """Add what workers have held since the last call; `use` is their total."""
        before = self._workers.get(step, WorkerUse())
        self._workers[step] = use
        if (new := of_workers(use + before * -1.0).clamped()) != StepUsage():
            self.add(step, new)

    def take(self) -> dict[str, StepUsage]:
        """Return the figures since the last call."""
        (found, times), self._found, self._times = (self._found, self._times), {}, {}
        all_of = {step: sum(times.get(step, []), used) for step, used in found.items()}
        return {step: used for step, used in all_of.items() if used != StepUsage()}


def of_workers(use: WorkerUse) -> StepUsage:
    """Return the figures of machines that workers held."""
    return StepUsage(worker_s=use.held_s, cpu_s=use.cpu_s, gpu_s=use.gpu_s, usd=use.usd)
