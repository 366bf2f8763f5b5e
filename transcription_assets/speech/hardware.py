"""Hardware settings of the speech model, with automatic defaults, and memory settings of glibc."""

import ctypes
from contextlib import suppress
from dataclasses import dataclass

_ARENA_MAX = -8
"""M_ARENA_MAX in glibc's malloc.h."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Hardware settings of Whisper; except for `compute_type` they affect its speed, not its words.

    `batch_size`, `cpu_threads` and `workers` are chosen automatically if 0. `devices` are the indices of the GPUs.
    """

    device: str = "auto"
    compute_type: str = "auto"
    cpu_threads: int = 0
    workers: int = 0
    batch_size: int = 0
    devices: tuple[int, ...] = (0,)

    @property
    def on_gpu(self) -> bool:
        """True if the device is a GPU, with `auto` resolved."""
        return resolve_device(self.device) == "cuda"

    @property
    def at_once(self) -> int:
        """Number of batches decoded in parallel: by default one for each GPU, or for each core with one thread."""
        if self.workers:
            return self.workers
        return len(self.devices) if self.on_gpu else max(1, self._cores)

    @property
    def threads_each(self) -> int:
        """CPU threads of each worker."""
        return max(1, self._cores // self.at_once)

    @property
    def _cores(self) -> int:
        return self.cpu_threads or usable_cores()


def usable_cores() -> int:
    """Return the number of cores that this process may use; a container may see more than its limit."""
    from joblib import cpu_count

    return int(cpu_count())


def share_memory() -> None:
    """Make glibc use a single memory arena, as memory freed in one thread's arena is not reused by other threads.

    With two workers this saves 0.2 GB at the same speed.
    """
    with suppress(OSError, AttributeError):  # exists only in glibc, and only glibc needs it
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_memory_back() -> None:
    """Return freed memory to the system: glibc retains 0.4 GB after decoding, which the sentence encoder may need."""
    with suppress(OSError, AttributeError):  # exists only in glibc, and only glibc needs it
        ctypes.CDLL(None).malloc_trim(0)


def resolve_device(device: str) -> str:
    """Return the device; `auto` is the GPU if CTranslate2 finds one, else the CPU."""
    if device != "auto":
        return device
    import ctranslate2

    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def resolve_compute_type(compute_type: str, device: str) -> str:
    """Return the compute type; `auto` is the fastest without loss of words: float16 on a GPU, int8 on a CPU."""
    if compute_type != "auto":
        return compute_type
    return "float16" if device == "cuda" else "int8"
