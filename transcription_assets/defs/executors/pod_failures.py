"""Pod failures: which states of a step's pod end the step. Pure decisions, no cluster access."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from transcription_assets.workers.pods import (
    CANNOT_START,
    ERROR_LIMIT_S,
    ERRORS,
    HOPELESS,
    LEAVING_LIMIT_S,
    NODE_SAYS,
    Pod,
)

TOO_LONG = (
    "DeadlineExceeded, it worked for longer than its recordings allow. A decoder hangs, or this node is slow: then "
    "raise TRANSCRIPTION_STEP_PER_SECOND"
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
    again: Retry


@dataclass(frozen=True, slots=True)
class JobObservation:
    """State of a step's Job.

    `asked` is when it was created, `erring_s` how long its pod has been reporting a container error.
    """

    asked: datetime
    failed: bool
    succeeded: bool
    pods: Sequence[Pod]
    erring_s: float = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether a process of it may have run."""
        return self.failed or self.succeeded or any(pod.phase != "Pending" for pod in self.pods)


def job_outcome(seen: JobObservation, now: datetime, start_limit_s: float) -> PodOutcome | None:
    """Return why the step cannot continue, or None if it may; `start_limit_s` is the deadline for a pod to start."""
    pod = max(seen.pods, key=lambda item: item.created, default=None)
    if pod is None:
        return _without_pod(seen, now, start_limit_s)
    if pod.phase == "Failed" or pod.exit_code:
        return _dead(pod)
    if seen.failed:
        return PodOutcome(f"pod {pod.name} is being taken away{_said(pod.disrupted)}", Retry.STEP)
    if seen.succeeded or pod.phase == "Succeeded":
        return PodOutcome(
            f"pod {pod.name} is done, but never said how the step ended: it was told to stop, or it lost the database",
            Retry.STEP,
        )
    if pod.leaving is not None and (now - pod.leaving).total_seconds() > LEAVING_LIMIT_S:
        return PodOutcome(
            f"pod {pod.name} was told to leave and does not: its node is lost{_said(pod.disrupted)}", Retry.STEP
        )
    return _not_begun(pod, seen, now, start_limit_s)


def _without_pod(seen: JobObservation, now: datetime, start_limit_s: float) -> PodOutcome | None:
    if seen.failed or seen.succeeded:
        return PodOutcome("its pod is gone: somebody deleted it, or its node was lost", Retry.STEP)
    if (now - seen.asked).total_seconds() > start_limit_s:
        return PodOutcome(
            f"no pod was made for it within {start_limit_s:.0f} s: a quota or an admission policy forbids it",
            Retry.NEVER,
        )
    return None


def _dead(pod: Pod) -> PodOutcome:
    if pod.ended == "OOMKilled":
        return PodOutcome(
            f"pod {pod.name}: OOMKilled, it needed more than its memory limit of {pod.memory_limit or 'the node'}, and "
            "would again. Raise TRANSCRIPTION_K8S_SCALE or the step's size in costs/prices.py; less is needed with a "
            "smaller TRANSCRIPTION_BATCH_SIZE or model",
            Retry.NEVER,
        )
    if pod.reason == "DeadlineExceeded":
        return PodOutcome(f"pod {pod.name}: {TOO_LONG}", Retry.NEVER)
    if pod.disrupted or pod.reason in NODE_SAYS or pod.reason.startswith("OutOf"):
        why = pod.reason or "disrupted"
        return PodOutcome(f"pod {pod.name}: {why}{_said(pod.message or pod.disrupted)}", Retry.STEP)
    if pod.ended in CANNOT_START:
        return PodOutcome(f"pod {pod.name}: {pod.ended}, its command cannot be run in this image", Retry.NEVER)
    what = f"exit code {pod.exit_code}" if pod.exit_code is not None else pod.reason or "failed"
    killed = ", killed from outside: its node was lost or preempted" if pod.exit_code in KILLED else ""
    return PodOutcome(f"pod {pod.name}: {what}{killed}{_said(pod.message)}", Retry.STEP)


KILLED = {137, 143}


def _not_begun(pod: Pod, seen: JobObservation, now: datetime, start_limit_s: float) -> PodOutcome | None:
    if pod.phase != "Pending":
        return None
    if pod.placed is None:
        if (now - pod.created).total_seconds() <= start_limit_s:
            return None
        return PodOutcome(
            f"pod {pod.name}: Unschedulable for {start_limit_s:.0f} s (TRANSCRIPTION_K8S_START_LIMIT_S)"
            f"{_said(pod.unplaced)}",
            Retry.RUN,
        )
    placed_s = (now - pod.placed).total_seconds()
    patience_s = 0.0 if pod.waiting in HOPELESS else ERROR_LIMIT_S
    if pod.waiting in ERRORS and (seen.erring_s >= patience_s or placed_s > start_limit_s):
        return PodOutcome(
            f"pod {pod.name}: {pod.waiting}, {ERRORS[pod.waiting]}{_said(pod.waiting_message)}", Retry.NEVER
        )
    if placed_s > start_limit_s:
        what = pod.waiting or "ContainerCreating"
        return PodOutcome(
            f"pod {pod.name}: {what} for {start_limit_s:.0f} s after it was placed: a volume, or a very large image"
            f"{_said(pod.waiting_message)}",
            Retry.NEVER,
        )
    return None


def is_erring(pods: Sequence[Pod]) -> bool:
    """Return whether a container cannot be created, which may be temporary."""
    return any(pod.waiting in ERRORS for pod in pods)


def _said(message: str) -> str:
    return f": {message.strip()}" if message.strip() else ""
