"""What the end of a serverless job says about its shard.

The service tells a state, and in words why; the exit code of the worker is in these words only. What the words leave
open is taken from the status that the worker left in the store.
"""

import re
import signal
from dataclasses import dataclass

from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.workers.launcher import Phase, ShardState
from transcription_assets.workers.worker import ExitCode

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "ERROR"})
_EXIT_CODE = re.compile(
    r"exit(?:ed|s)?[\s_-]*(?:with[\s_-]*)?(?:non-zero[\s_-]*)?(?:code|status)?\W*(\d{1,3})\b", re.IGNORECASE
)
_PREEMPTED = re.compile(r"pre-?empt|evict|spot", re.IGNORECASE)
_IMAGE = re.compile(r"image|manifest unknown|registry|pull", re.IGNORECASE)
_MEMORY = re.compile(r"\boom|out of memory", re.IGNORECASE)
_NOT_STARTED = frozenset({2, 126, 127})
"""Exit codes of a command that is wrong, not executable, or not found."""
_ENDED_FROM_OUTSIDE = frozenset({128 + signal.SIGINT, 128 + signal.SIGTERM})


@dataclass(frozen=True, slots=True)
class Ending:
    """A job that has ended: its state, and the code and message of its details.

    `began` says whether its container ever started, `over_time` whether it worked for all of its time limit,
    `machine_taken` whether it was preemptible and its machine is stopped.
    """

    state: str
    code: str = ""
    message: str = ""
    began: bool = True
    over_time: bool = False
    machine_taken: bool = False

    @property
    def text(self) -> str:
        """Code and message."""
        return ": ".join(filter(None, (self.code, self.message))) or "no reason given"

    @property
    def exit_code(self) -> int | None:
        """The exit code of the container; None if the job does not tell it."""
        found = _EXIT_CODE.search(self.text)
        if found:
            return int(found[1])
        return 128 + signal.SIGKILL if _MEMORY.search(self.text) else None


def state(ending: Ending, status: ShardStatus | None) -> ShardState:
    """Return the state of the shard; `status` is what its worker left in the store."""
    if ending.state == "COMPLETED":
        return ShardState(Phase.ENDED)
    return _by_service(ending) or _by_exit_code(ending.exit_code, status, ending.text)


def _by_service(ending: Ending) -> ShardState | None:
    """Return the state if the service or the machine ended the job, not the worker."""
    said = ending.text
    if _PREEMPTED.search(said) or (ending.machine_taken and ending.exit_code is None):
        return ShardState(Phase.LOST, f"the machine was preempted ({said})")
    if not ending.began and ending.state != "CANCELLED" and _IMAGE.search(said):
        return ShardState(Phase.REFUSED, f"the image cannot be pulled ({said}): see TRANSCRIPTION_NEBIUS_IMAGE")
    if ending.over_time:
        return ShardState(Phase.DIED, f"the job reached its time limit, TRANSCRIPTION_NEBIUS_TIMEOUT_S ({said})")
    if ending.state == "CANCELLED":
        return ShardState(Phase.LOST, f"the job was cancelled, not by its run ({said})")
    if ending.state == "ERROR" or not ending.began:
        return ShardState(Phase.LOST, f"Nebius could not run the job ({said})")
    return None


def _by_exit_code(code: int | None, status: ShardStatus | None, said: str) -> ShardState:
    """Return the state after a worker that ended by itself or was killed."""
    if code is None:  # the status decides: what it was decoding is a suspect
        return ShardState(Phase.DIED, f"the job failed ({said})")
    if code == ExitCode.DONE or (code in {ExitCode.PERMANENT, ExitCode.TRANSIENT} and status and status.failed):
        return ShardState(Phase.ENDED)
    if code == ExitCode.TRANSIENT or code in _ENDED_FROM_OUTSIDE:
        return ShardState(Phase.LOST, f"the worker could not go on ({said})")
    if code == ExitCode.PERMANENT or code in _NOT_STARTED or (code == 1 and status is None):
        return ShardState(Phase.REFUSED, f"the worker could not begin ({said}): see the log of the job")
    name = next((item.name for item in signal.Signals if item == code - 128), "")
    perhaps = ", perhaps because memory ran out" if name == "SIGKILL" else ""
    return ShardState(Phase.DIED, f"exit code {code} {name}{perhaps} ({said})")
