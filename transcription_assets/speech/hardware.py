"""Where and how a model calculates, and what of it is found out by itself."""

import ctypes
from contextlib import suppress
from dataclasses import dataclass

_ARENA_MAX = -8
"""M_ARENA_MAX of glibc's malloc.h."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where and how Whisper calculates; changes how fast it is, not what it hears (but for `compute_type`).

    `batch_size`, `cpu_threads` and `workers`: 0 = found out. `devices`: numbers of the GPUs to use.
    """

    device: str = "auto"
    compute_type: str = "auto"
    cpu_threads: int = 0
    workers: int = 0
    batch_size: int = 0
    devices: tuple[int, ...] = (0,)

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU, once `auto` is resolved."""
        return resolve_device(self.device) == "cuda"

    @property
    def at_once(self) -> int:
        """Batches that are decoded at the same time: on a CPU one for each core, each with one thread."""
        if self.workers:
            return self.workers
        return len(self.devices) if self.on_gpu else max(1, self._cores)

    @property
    def threads_each(self) -> int:
        """Threads of one worker."""
        return max(1, self._cores // self.at_once)

    @property
    def _cores(self) -> int:
        return self.cpu_threads or usable_cores()


def usable_cores() -> int:
    """Cores that this process may use: a container is given some of those that it sees."""
    from joblib import cpu_count

    return int(cpu_count())


def share_memory() -> None:
    """Let all threads take memory from one place: glibc gives each its own, and what one frees no other may use.

    Two workers take 0.2 GB less so, in the same time.
    """
    with suppress(OSError, AttributeError):  # only glibc has it, and only glibc needs it
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_memory_back() -> None:
    """Return what decoding freed to the system: glibc keeps 0.4 GB of it, where the sentence encoder comes on top."""
    with suppress(OSError, AttributeError):  # only glibc has it, and only glibc needs it
        ctypes.CDLL(None).malloc_trim(0)


def resolve_device(device: str) -> str:
    """`auto` is the GPU where CTranslate2 sees one."""
    if device != "auto":
        return device
    import ctranslate2

    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def resolve_compute_type(compute_type: str, device: str) -> str:
    """`auto` is what is fast without losing words: float16 on a GPU, int8 on a CPU."""
    if compute_type != "auto":
        return compute_type
    return "float16" if device == "cuda" else "int8"
