"""Pod failures: the state of a step's pod, and which of its states end the step. Pure decisions, no cluster access."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from transcription_assets.workers.pods import (
    CANNOT_START,
    ERROR_LIMIT_S,
    ERRORS,
    LEAVING_LIMIT_S,
    NEVER_STARTS,
    NODE_FAILURES,
    Pod,
)

TOO_LONG = (
    "DeadlineExceeded, it exceeded the time limit for its recordings. A decoder hangs, or the node is slow: in the "
    "latter case raise TRANSCRIPTION_STEP_PER_SECOND"
)


class Retry(Enum):
    """The retry that can help."""

    STEP = "the step in another pod"
    RUN = "the run, later"
    NEVER = "nothing but a person"


@dataclass(frozen=True, slots=True)
class PodOutcome:
    """The reason why the step cannot continue in this pod, and the retry that can help."""

    reason: str
    retry: Retry


@dataclass(frozen=True, slots=True)
class JobObservation:
    """State of a step's Job.

    `created` is its time of creation, `erring_s` how long its pod has been reporting a container error.
    """

    created: datetime
    failed: bool
    succeeded: bool
    pods: Sequence[Pod]
    erring_s: float = 0.0

    @property
    def has_begun(self) -> bool:
        """True if a process of it may have run."""
        return self.failed or self.succeeded or any(pod.phase != "Pending" for pod in self.pods)


def job_outcome(observation: JobObservation, now: datetime, start_limit_s: float) -> PodOutcome | None:
    """Return why the step cannot continue, or None if it may; `start_limit_s` is the deadline for a pod to start."""
    pod = max(observation.pods, key=lambda item: item.created, default=None)
    if pod is None:
        return _without_pod(observation, now, start_limit_s)
    if pod.phase == "Failed" or pod.exit_code:
        return _failed(pod)
    if observation.failed:
        return PodOutcome(f"pod {pod.name} is being evicted{_suffix(pod.disrupted)}", Retry.STEP)
    if observation.succeeded or pod.phase == "Succeeded":
        return PodOutcome(
            f"pod {pod.name} exited without an event that ends the step: it was interrupted, or it lost the database",
            Retry.STEP,
        )
    if pod.leaving is not None and (now - pod.leaving).total_seconds() > LEAVING_LIMIT_S:
        return PodOutcome(f"pod {pod.name} does not terminate: its node is lost{_suffix(pod.disrupted)}", Retry.STEP)
    return _not_begun(pod, observation, now, start_limit_s)


def _without_pod(observation: JobObservation, now: datetime, start_limit_s: float) -> PodOutcome | None:
    if observation.failed or observation.succeeded:
        return PodOutcome("its pod no longer exists: it was deleted, or its node was lost", Retry.STEP)
    if (now - observation.created).total_seconds() > start_limit_s:
        return PodOutcome(
            f"no pod was created for it within {start_limit_s:.0f} s: a quota or an admission policy forbids it",
            Retry.NEVER,
        )
    return None


def _failed(pod: Pod) -> PodOutcome:
    if pod.ended == "OOMKilled":
        return PodOutcome(
            f"pod {pod.name}: OOMKilled, it exceeded its memory limit of {pod.memory_limit or 'the node'}, and would "
            "again. Raise TRANSCRIPTION_K8S_SCALE or the step's size in costs/prices.py, or use a smaller "
            "TRANSCRIPTION_BATCH_SIZE or model",
            Retry.NEVER,
        )
    if pod.reason == "DeadlineExceeded":
        return PodOutcome(f"pod {pod.name}: {TOO_LONG}", Retry.NEVER)
    if pod.disrupted or pod.reason in NODE_FAILURES or pod.reason.startswith("OutOf"):
        reason = pod.reason or "disrupted"
        return PodOutcome(f"pod {pod.name}: {reason}{_suffix(pod.message or pod.disrupted)}", Retry.STEP)
    if pod.ended in CANNOT_START:
        return PodOutcome(f"pod {pod.name}: {pod.ended}, its command cannot be run in this image", Retry.NEVER)
    what = f"exit code {pod.exit_code}" if pod.exit_code is not None else pod.reason or "failed"
    killed = ", killed by a signal: its node was lost or preempted" if pod.exit_code in KILLED_BY_SIGNAL else ""
    return PodOutcome(f"pod {pod.name}: {what}{killed}{_suffix(pod.message)}", Retry.STEP)


KILLED_BY_SIGNAL = {137, 143}


def _not_begun(pod: Pod, observation: JobObservation, now: datetime, start_limit_s: float) -> PodOutcome | None:
    if pod.phase != "Pending":
        return None
    if pod.placed is None:
        if (now - pod.created).total_seconds() <= start_limit_s:
            return None
        return PodOutcome(
            f"pod {pod.name}: Unschedulable for {start_limit_s:.0f} s (TRANSCRIPTION_K8S_START_LIMIT_S)"
            f"{_suffix(pod.unplaced)}",
            Retry.RUN,
        )
    placed_s = (now - pod.placed).total_seconds()
    limit_s = 0.0 if pod.waiting in NEVER_STARTS else ERROR_LIMIT_S
    if pod.waiting in ERRORS and (observation.erring_s >= limit_s or placed_s > start_limit_s):
        return PodOutcome(
            f"pod {pod.name}: {pod.waiting}, {ERRORS[pod.waiting]}{_suffix(pod.waiting_message)}", Retry.NEVER
        )
    if placed_s > start_limit_s:
        what = pod.waiting or "ContainerCreating"
        return PodOutcome(
            f"pod {pod.name}: {what} for {start_limit_s:.0f} s after it was scheduled: check its volumes and the size"
            " of its image"
            f"{_suffix(pod.waiting_message)}",
            Retry.NEVER,
        )
    return None


def is_erring(pods: Sequence[Pod]) -> bool:
    """Return whether a container cannot be created, which may be temporary."""
    return any(pod.waiting in ERRORS for pod in pods)


def _suffix(message: str) -> str:
    return f": {message.strip()}" if message.strip() else ""
