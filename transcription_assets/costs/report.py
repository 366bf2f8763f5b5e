"""Cost report: costs of materialisations, and their totals by day."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from transcription_assets.costs.timing import HOUR_S, StepTime


@dataclass(frozen=True, slots=True)
class PricedStep:
    """Cost of one materialisation of one recording; `audio_s` is its duration if it was transcribed, else 0."""

    day: date
    step: str
    spent: StepTime
    cpu_s: float
    gpu_s: float
    usd: float
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DailyCost:
    """Totals of a day; `usd_*` are the parts of `usd`."""

    day: date
    audio_h: float
    cpu_h: float
    gpu_h: float
    usd: float
    usd_queue: float
    usd_start: float
    usd_load: float
    usd_compute: float

    @property
    def usd_per_audio_hour(self) -> float | None:
        """Cost of an audio hour, None if nothing was transcribed that day."""
        return self.usd / self.audio_h if self.audio_h > 0 else None


def daily_costs(items: Iterable[PricedStep]) -> list[DailyCost]:
    """Return the totals by day, in order."""
    grouped: dict[date, list[PricedStep]] = {}
    for item in items:
        grouped.setdefault(item.day, []).append(item)
    return [_day(day, grouped[day]) for day in sorted(grouped)]


def _day(day: date, items: Sequence[PricedStep]) -> DailyCost:
    def part(seconds: str) -> float:
        return math.fsum(
            item.usd * getattr(item.spent, seconds) / item.spent.priced_s for item in items if item.spent.priced_s
        )

    return DailyCost(
        day,
        audio_h=math.fsum(item.audio_s for item in items) / HOUR_S,
        cpu_h=math.fsum(item.cpu_s for item in items) / HOUR_S,
        gpu_h=math.fsum(item.gpu_s for item in items) / HOUR_S,
        usd=math.fsum(item.usd for item in items),
        usd_queue=part("queue_s"),
        usd_start=part("start_s"),
        usd_load=part("load_s"),
        usd_compute=part("compute_s"),
    )
