"""The phase of each shard of an Indexed Job, from the state of its pods. Pure decisions, no cluster access."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from transcription_assets.workers.launcher import Phase, ShardState, exit_state
from transcription_assets.workers.pods import (
    CANNOT_START,
    ERROR_LIMIT_S,
    ERRORS,
    LEAVING_LIMIT_S,
    NEVER_STARTS,
    NODE_FAILURES,
    Pod,
)

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
class Durations:
    """Seconds for which a shard has been in each state that must not last; 0 if it is not in it."""

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


def live_state(index: int, pod: Pod | None, job: JobProgress, since: Durations, limit_s: float) -> ShardState | None:
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
        return _lost(f"pod {pod.name} does not terminate: its node is lost{_suffix(pod.disrupted)}")
    return ShardState(Phase.RUNNING) if pod.phase == "Running" else _pending(pod, since, limit_s)


def failed_state(pod: Pod, log: str, *, has_status: bool) -> ShardState:
    """Return how a pod failed.

    Args:
        pod: A pod whose phase is Failed.
        log: The end of its log.
        has_status: Whether the worker left a status of its shard; used if the log does not tell the end.

    """
    if pod.ended == "OOMKilled":
        limit = pod.memory_limit or "the node"
        return ShardState(Phase.DIED, f"pod {pod.name}: OOMKilled, more than its limit of {limit}{_suffix(_tail(log))}")
    is_of_node = pod.reason in NODE_FAILURES or pod.reason.startswith("OutOf")
    if pod.disrupted or is_of_node or pod.reason == "DeadlineExceeded":
        return _lost(f"pod {pod.name}: {pod.reason or 'disrupted'}{_suffix(pod.message or pod.disrupted)}")
    if pod.ended in CANNOT_START:
        reason = f"pod {pod.name}: {pod.ended}, its command cannot be run in this image"
        return ShardState(Phase.REFUSED, reason)
    if pod.exit_code is None:
        return _lost(f"pod {pod.name}: {pod.reason or 'it was ended'}{_suffix(pod.message)}")
    event = last_event(log)
    detail = str(event.get("reason", "")) or " | ".join(filter(None, (pod.message.strip(), _tail(log))))
    is_reported = event.get("event") == "done" or (not event and has_status)
    state = exit_state(pod.exit_code, detail, is_reported=is_reported)
    return replace(state, reason=f"pod {pod.name}: {state.reason}") if state.reason else state


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


def _without_pod(index: int, job: JobProgress, since: Durations, limit_s: float) -> ShardState:
    if index in job.failed:
        return _lost("its pod is gone: somebody deleted it, or its node was lost")
    if since.unplaced_s > limit_s:
        return _lost(f"no pod was made for it within {limit_s:.0f} s: a quota or an admission policy forbids it")
    return ShardState(Phase.WAITING)


def _pending(pod: Pod, since: Durations, limit_s: float) -> ShardState:
    if pod.placed is None:
        if since.unplaced_s <= limit_s:
            return ShardState(Phase.WAITING)
        return _lost(
            f"pod {pod.name}: Unschedulable for {limit_s:.0f} s (see TRANSCRIPTION_K8S_START_LIMIT_S)"
            f"{_suffix(pod.unplaced)}"
        )
    if pod.waiting in ERRORS and (pod.waiting in NEVER_STARTS or since.erring_s > ERROR_LIMIT_S):
        phase = Phase.LOST if pod.waiting in PULLS else Phase.REFUSED
        return ShardState(phase, f"pod {pod.name}: {pod.waiting}, {ERRORS[pod.waiting]}{_suffix(pod.waiting_message)}")
    if since.starting_s > limit_s:
        what = pod.waiting or "ContainerCreating"
        return _lost(f"pod {pod.name}: {what} for {limit_s:.0f} s after it was placed{_suffix(pod.waiting_message)}")
    return ShardState(Phase.WAITING)


def _lost(reason: str) -> ShardState:
    return ShardState(Phase.LOST, reason)


def _tail(log: str) -> str:
    """Return the last lines that are not events."""
    return " | ".join([line for line in log.splitlines() if line.strip() and not line.startswith("{")][-LOG_LINES:])


def _suffix(message: str) -> str:
    return f": {message.strip()}" if message.strip() else ""
