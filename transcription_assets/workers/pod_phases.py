"""The phase of each shard of an Indexed Job, from the state of its pods. Pure decisions, no cluster access."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from transcription_assets.workers.launcher import Phase, ShardState
from transcription_assets.workers.pods import (
    CANNOT_START,
    ERROR_LIMIT_S,
    ERRORS,
    LEAVING_LIMIT_S,
    NEVER_STARTS,
    NODE_FAILURES,
    Pod,
)
from transcription_assets.workers.worker import ExitCode

SIGTERM_CODE = 143
SIGNALS = {134: "SIGABRT", 137: "SIGKILL, perhaps because memory ran out", 139: "SIGSEGV"}
"""Exit codes of processes that a signal ended."""
PULLS = {"ErrImagePull", "ImagePullBackOff", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
"""Errors before the start that may pass; the others of `ERRORS` are those of a setting."""
LOG_LINES = 5
"""Lines of a worker's log in its reason."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """State of an Indexed Job; `failure` is the reason if the whole Job failed or is gone."""

    completed: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long (s) a shard has been in a state that must not last, 0 if it is not in it."""

    unplaced_s: float = 0.0
    starting_s: float = 0.0
    erring_s: float = 0.0
    leaving_s: float = 0.0


def indexes(text: str | None) -> frozenset[int]:
    """Parse the indexes of a Job's status, as in `1,3-5`."""
    found: set[int] = set()
    for part in filter(None, (text or "").split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def live_state(index: int, pod: Pod | None, job: JobProgress, since: Patience, limit_s: float) -> ShardState | None:
    """Return the state of a shard, or None if its pod failed: then `failed_state` tells how.

    Args:
        index: The shard.
        pod: Its newest pod.
        job: The Job.
        since: Durations of states that must not last.
        limit_s: Seconds in which a pod must start.

    """
    if index in job.completed or (pod and pod.phase == "Succeeded"):
        return ShardState(Phase.ENDED)
    if pod is not None and pod.phase == "Failed":
        is_replaced = pod.disrupted and index not in job.failed and not job.failure
        return ShardState(Phase.WAITING) if is_replaced else None
    if job.failure:
        return ShardState(Phase.LOST, job.failure)
    if pod is None:
        return _without_pod(index, job, since, limit_s)
    if since.leaving_s > LEAVING_LIMIT_S:
        said = f"pod {pod.name} was told to leave and does not: its node is lost{_said(pod.disrupted)}"
        return ShardState(Phase.LOST, said)
    return ShardState(Phase.RUNNING) if pod.phase == "Running" else _pending(pod, since, limit_s)


def failed_state(pod: Pod, log: str, *, has_status: bool) -> ShardState:
    """Return how a pod failed.

    Args:
        pod: A pod whose phase is Failed.
        log: The end of its log.
        has_status: Whether the worker left a status of its shard; asked where the log does not tell the end.

    """
    if pod.ended == "OOMKilled":
        return _died(f"pod {pod.name}: OOMKilled, more than its limit of {pod.memory_limit or 'the node'}", log)
    if (
        pod.disrupted
        or pod.reason in NODE_FAILURES
        or pod.reason.startswith("OutOf")
        or pod.reason == "DeadlineExceeded"
    ):
        return _lost(f"pod {pod.name}: {pod.reason or 'disrupted'}{_said(pod.message or pod.disrupted)}")
    if pod.ended in CANNOT_START:
        reason = f"pod {pod.name}: {pod.ended}, its command cannot be run in this image"
        return ShardState(Phase.REFUSED, reason)
    if pod.exit_code in {ExitCode.PERMANENT, ExitCode.TRANSIENT}:
        return _ended(pod, log, has_status=has_status)
    if pod.exit_code is None or pod.exit_code == SIGTERM_CODE:
        return _lost(f"pod {pod.name}: {pod.reason or 'ended from outside'}{_said(pod.message)}")
    how = SIGNALS.get(pod.exit_code, f"exit code {pod.exit_code}")
    return _died(f"pod {pod.name}: {how}{_said(pod.message)}", log)


def _ended(pod: Pod, log: str, *, has_status: bool) -> ShardState:
    """Return the state after a worker's own exit code: its last event tells whether it had begun."""
    event = last_event(log)
    if event.get("event") == "done" or (not event and has_status):
        return ShardState(Phase.ENDED)
    said = str(event.get("reason", "")) or _tail(log) or f"exit code {pod.exit_code}"
    permanent = pod.exit_code == ExitCode.PERMANENT
    return ShardState(Phase.REFUSED if permanent else Phase.LOST, f"pod {pod.name}: {said}")


def last_event(log: str) -> Mapping[str, object]:
    """Return the event that ends a worker's output, empty if there is none."""
    for line in reversed(log.splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") in {"done", "error"}:
            return event
    return {}


def _without_pod(index: int, job: JobProgress, since: Patience, limit_s: float) -> ShardState:
    if index in job.failed:
        return _lost("its pod is gone: somebody deleted it, or its node was lost")
    if since.unplaced_s > limit_s:
        return _lost(f"no pod was made for it within {limit_s:.0f} s: a quota or an admission policy forbids it")
    return ShardState(Phase.WAITING)


def _pending(pod: Pod, since: Patience, limit_s: float) -> ShardState:
    if pod.placed is None:
        if since.unplaced_s <= limit_s:
            return ShardState(Phase.WAITING)
        return _lost(
            f"pod {pod.name}: Unschedulable for {limit_s:.0f} s (TRANSCRIPTION_K8S_START_LIMIT_S){_said(pod.unplaced)}"
        )
    if pod.waiting in ERRORS and (pod.waiting in NEVER_STARTS or since.erring_s > ERROR_LIMIT_S):
        phase = Phase.LOST if pod.waiting in PULLS else Phase.REFUSED
        return ShardState(phase, f"pod {pod.name}: {pod.waiting}, {ERRORS[pod.waiting]}{_said(pod.waiting_message)}")
    if since.starting_s > limit_s:
        what = pod.waiting or "ContainerCreating"
        return _lost(f"pod {pod.name}: {what} for {limit_s:.0f} s after it was placed{_said(pod.waiting_message)}")
    return ShardState(Phase.WAITING)


def _lost(reason: str) -> ShardState:
    return ShardState(Phase.LOST, reason)


def _died(reason: str, log: str) -> ShardState:
    return ShardState(Phase.DIED, f"{reason}{_said(_tail(log))}")


def _tail(log: str) -> str:
    """Return the last lines that are not events."""
    return " | ".join([line for line in log.splitlines() if line.strip() and not line.startswith("{")][-LOG_LINES:])


def _said(message: str) -> str:
    return f": {message.strip()}" if message.strip() else ""
