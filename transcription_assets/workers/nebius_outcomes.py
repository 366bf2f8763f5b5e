"""The state of a shard after its serverless job has ended. Pure decisions.

The service gives a state and a message; the exit code of the worker is in the message only. What the message leaves
open is taken from the status that the worker left in the store.
"""

import re
import signal
from dataclasses import dataclass

from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.workers.launcher import Phase, ShardState, exit_state

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "ERROR"})
_EXIT_CODE = re.compile(
    r"exit(?:ed|s)?[\s_-]*(?:with[\s_-]*)?(?:non-zero[\s_-]*)?(?:code|status)?\W*(\d{1,3})\b", re.IGNORECASE
)
_PREEMPTED = re.compile(r"pre-?empt|evict|spot", re.IGNORECASE)
_IMAGE = re.compile(r"image|manifest unknown|registry|pull", re.IGNORECASE)
_MEMORY = re.compile(r"\boom|out of memory", re.IGNORECASE)
_NOT_STARTED = frozenset({2, 126, 127})
"""Exit codes of a command that is wrong, not executable, or not found."""


@dataclass(frozen=True, slots=True)
class JobOutcome:
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


def shard_state(outcome: JobOutcome, status: ShardStatus | None) -> ShardState:
    """Return the state of the shard; `status` is what its worker left in the store."""
    if outcome.state == "COMPLETED":
        return ShardState(Phase.ENDED)
    return _by_service(outcome) or _by_exit_code(outcome.exit_code, status, outcome.text)


def _by_service(outcome: JobOutcome) -> ShardState | None:
    """Return the state if the service or the machine ended the job, not the worker."""
    text = outcome.text
    if _PREEMPTED.search(text) or (outcome.machine_taken and outcome.exit_code is None):
        return ShardState(Phase.LOST, f"the machine was preempted ({text})")
    if not outcome.began and outcome.state != "CANCELLED" and _IMAGE.search(text):
        return ShardState(Phase.REFUSED, f"the image cannot be pulled ({text}): see TRANSCRIPTION_NEBIUS_IMAGE")
    if outcome.over_time:
        return ShardState(Phase.DIED, f"the job reached its time limit, TRANSCRIPTION_NEBIUS_TIMEOUT_S ({text})")
    if outcome.state == "CANCELLED":
        return ShardState(Phase.LOST, f"the job was cancelled, not by its run ({text})")
    if outcome.state == "ERROR" or not outcome.began:
        return ShardState(Phase.LOST, f"Nebius could not run the job ({text})")
    return None


def _by_exit_code(code: int | None, status: ShardStatus | None, detail: str) -> ShardState:
    """Return the state after a worker that ended by itself or was killed."""
    if code is None:  # the status decides: what it was decoding is a suspect
        return ShardState(Phase.DIED, f"the job failed ({detail})")
    if code in _NOT_STARTED or (code == 1 and status is None):
        return ShardState(Phase.REFUSED, f"the worker cannot begin ({detail}): see the log of the job")
    return exit_state(code, detail, is_reported=bool(status and status.failed))
