"""Resources and prices of steps, and list prices of hosted services.

The pods' resource requests and their prices come from the same table, so that the reported costs match the requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

CPU_USD_PER_HOUR = 0.048
"""One vCPU with 4 GiB: AWS EC2 m6i, on demand, us-east-1, list price of June 2026."""
GPU_USD_PER_HOUR = 1.006
"""A node with one A10G (24 GB), 4 vCPU, 16 GiB: AWS EC2 g5.xlarge, on demand, us-east-1, list price of June 2026."""
SPOT_SHARE = 0.4
"""Share of the list price that spot nodes are assumed to cost; the actual price varies by hour and zone."""


@dataclass(frozen=True, slots=True)
class Size:
    """Resources of a step's pod (cores, GiB of memory and of scratch disk, GPUs), and its price in $ per hour."""

    cpus: float
    memory_gib: float
    disk_gib: float
    gpus: int
    usd_per_hour: float

    def scaled(self, factor: float) -> "Size":
        """Return this size with all but the GPUs multiplied; a pod with a GPU uses a whole node, so its price stays."""
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
"""Resources of a node with 4 vCPU and 16 GiB that its system pods leave."""

CPU_SIZES: Mapping[str, Size] = {
    "sources": _on_cpu(0.5, 2.0, 12.0),
    "video": _on_cpu(1.0, 2.0, 2.0),
    "audio": _on_cpu(1.0, 2.0, 12.0),
    "transcript": _on_cpu(4.0, 8.0, 8.0),
    "speakers": _on_cpu(2.0, 4.0, 8.0),
    "slides": _on_cpu(2.0, 4.0, 2.0),
    "embeddings": _on_cpu(2.0, 6.0, 2.0),
    "search_index": _on_cpu(1.0, 4.0, 4.0),
    "costs": _on_cpu(0.5, 2.0, 1.0),
}
"""Size of each step. Memory does not depend on the length of a recording: audio is read in windows of ten minutes.

Disk does: `audio` writes 0.107 GiB for each hour and track, and a FLAC of the mix, at worst as large. 48 h of one track
are 10.3 GiB; a recording that needs more (eight tracks: after 13 h) fails before its pod is evicted.
"""

COORDINATOR = _on_cpu(0.5, 2.0, 2.0)
"""Size of a step whose work is done by worker pods: it waits for them, and merges their checkpoints."""

GPU_SIZES: Mapping[str, Size] = {"transcript": _GPU_NODE, "embeddings": _GPU_NODE}
"""Size of the steps that can use a GPU, if they get one."""


def size(step: str, *, gpu: bool, spot: bool = False, scale: float = 1.0) -> Size:
    """Return the resources and the price of the step's pod.

    Raises:
        KeyError: The step is unknown, or cannot use a GPU.

    """
    chosen = (GPU_SIZES if gpu else CPU_SIZES)[step].scaled(scale)
    return replace(chosen, usd_per_hour=chosen.usd_per_hour * SPOT_SHARE) if spot else chosen


@dataclass(frozen=True, slots=True)
class ListPrice:
    """List price of a hosted service for an audio hour, its source, and the date on which it was read."""

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
