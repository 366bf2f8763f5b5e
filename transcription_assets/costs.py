"""What a step needs and what that costs: the one table of sizes and prices, and the figures that follow from it.

Pods are made from this table and priced by it, so what is shown is what was asked for.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

HOUR_S = 3600.0

CPU_USD_PER_HOUR = 0.048
"""One vCPU with 4 GiB: AWS EC2 m6i, on demand, us-east-1, list price of June 2026."""
GPU_USD_PER_HOUR = 1.006
"""A node with one A10G (24 GB), 4 vCPU, 16 GiB: AWS EC2 g5.xlarge, on demand, us-east-1, list price of June 2026."""
SPOT_SHARE = 0.4
"""Of the list price; what spot nodes really cost changes by the hour and the zone."""


@dataclass(frozen=True, slots=True)
class Size:
    """What the pod of one step reserves (cores, GiB of memory and of scratch disk, GPUs), and its price ($ an hour)."""

    cpus: float
    memory_gib: float
    disk_gib: float
    gpus: int
    usd_per_hour: float

    def scaled(self, factor: float) -> "Size":
        """Smaller or larger in everything but GPUs; a pod with a GPU has its node for itself, so its price stays."""
        return replace(
            self,
            cpus=round(max(0.1, self.cpus * factor), 2),
            memory_gib=round(max(1.0, self.memory_gib * factor), 2),
            disk_gib=round(max(0.5, self.disk_gib * factor), 2),
            usd_per_hour=self.usd_per_hour if self.gpus else self.usd_per_hour * factor,
        )


def _on_cpu(cpus: float, memory_gib: float, disk_gib: float) -> Size:
    return Size(cpus, memory_gib, disk_gib, 0, cpus * CPU_USD_PER_HOUR)


_GPU_NODE = Size(3.0, 12.0, 8.0, 1, GPU_USD_PER_HOUR)
"""What a node of 4 vCPU and 16 GiB has left beside its own daemons."""

CPU_SIZES: Mapping[str, Size] = {
    "video": _on_cpu(1.0, 2.0, 2.0),
    "audio": _on_cpu(1.0, 2.0, 8.0),
    "transcript": _on_cpu(4.0, 8.0, 8.0),
    "embeddings": _on_cpu(2.0, 6.0, 2.0),
    "search_index": _on_cpu(1.0, 4.0, 4.0),
    "costs": _on_cpu(0.5, 2.0, 1.0),
}
"""For each step. Memory does not grow with the length of a recording: sound is read in windows of ten minutes."""

GPU_SIZES: Mapping[str, Size] = {"transcript": _GPU_NODE, "embeddings": _GPU_NODE}
"""For the steps that can use a GPU, where they are given one."""


def size(step: str, *, gpu: bool, spot: bool = False, scale: float = 1.0) -> Size:
    """What the step's pod reserves; KeyError for a step that is not in the table."""
    chosen = (GPU_SIZES if gpu else CPU_SIZES)[step].scaled(scale)
    return replace(chosen, usd_per_hour=chosen.usd_per_hour * SPOT_SHARE) if spot else chosen


@dataclass(frozen=True, slots=True)
class Spent:
    """Wall seconds of a pod: waiting to be placed and for its image, starting Python, loading weights, working."""

    queue_s: float = 0.0
    start_s: float = 0.0
    load_s: float = 0.0
    compute_s: float = 0.0

    @property
    def held_s(self) -> float:
        """For so long its cores and its GPU belonged to it alone."""
        return self.start_s + self.load_s + self.compute_s

    @property
    def priced_s(self) -> float:
        """With the wait: where a pool starts from zero, its node is booting, and billed, for just this pod."""
        return self.queue_s + self.held_s

    def usd(self, usd_per_hour: float) -> float:
        """Its price; an upper bound, for on a node that was there already the wait costs nothing."""
        return self.priced_s / HOUR_S * usd_per_hour


def shared(own_s: Sequence[float], common: Spent) -> list[Spent]:
    """What each recording of a batch has spent: its own work, and of what all have in common a share of that size.

    The sum over the batch is `common` with all of `own_s` as work; where nobody worked, all bear the same.
    """
    total = math.fsum(own_s)
    shares = [seconds / total for seconds in own_s] if total > 0 else [1 / len(own_s)] * len(own_s)
    return [
        Spent(
            common.queue_s * share,
            common.start_s * share,
            common.load_s * share,
            common.compute_s * share + seconds,
        )
        for seconds, share in zip(own_s, shares, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Priced:
    """What one materialisation of one recording cost; `audio_s` is its length where that was heard, else 0."""

    day: date
    step: str
    spent: Spent
    cpu_s: float
    gpu_s: float
    usd: float
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Day:
    """A day's sum; `usd_*` are the parts of `usd`."""

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
        """None where nothing was heard that day."""
        return self.usd / self.audio_h if self.audio_h > 0 else None


def days(items: Iterable[Priced]) -> list[Day]:
    """Summed by day, in order."""
    grouped: dict[date, list[Priced]] = {}
    for item in items:
        grouped.setdefault(item.day, []).append(item)
    return [_day(day, grouped[day]) for day in sorted(grouped)]


def _day(day: date, items: Sequence[Priced]) -> Day:
    def part(seconds: str) -> float:
        return math.fsum(
            item.usd * getattr(item.spent, seconds) / item.spent.priced_s for item in items if item.spent.priced_s
        )

    return Day(
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


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What a hosted service asks for an hour of sound, where that is said, and when it was read there."""

    service: str
    usd_per_audio_hour: float
    source: str
    read: date


_COMPARED = "apiscout.dev/blog/speech-to-text-api-comparison-2026"

HOSTED: Sequence[ListPrice] = (
    ListPrice("OpenAI whisper-1", 0.36, "developers.openai.com/api/docs/models/whisper-1", date(2026, 11, 21)),
    ListPrice("OpenAI gpt-4o-mini-transcribe", 0.18, _COMPARED, date(2026, 3, 16)),
    ListPrice("AssemblyAI, recorded", 0.37, _COMPARED, date(2026, 3, 16)),
    ListPrice(
        "Deepgram Nova",
        0.26,
        "codersarts.com/post/openai-whisper-vs-deepgram-vs-assemblyai-stt-guide-2026",
        date(2026, 7, 1),
    ),
    ListPrice("Google Chirp 3", 0.96, _COMPARED, date(2026, 3, 16)),
)
