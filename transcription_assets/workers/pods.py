"""The state of a pod in the cluster, and what its reasons mean; no cluster access."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

ERROR_LIMIT_S = 120.0
"""Seconds that an image or a secret may be missing: registries and controllers can be slow."""
LEAVING_LIMIT_S = 120.0
"""Seconds after which a pod that is still terminating is taken to be on a lost node."""

NEVER_STARTS = {"InvalidImageName", "ErrImageNeverPull"}
ERRORS = {
    "CreateContainerConfigError": "a Secret or ConfigMap that it refers to is missing",
    "CreateContainerError": "its container cannot be created",
    "CrashLoopBackOff": "its container exits again and again",
    "ErrImageNeverPull": "its image is not on the node, and the pull policy is Never",
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
    "InvalidImageName": "the name of its image is invalid",
    "RunContainerError": "its container cannot be started",
}
NODE_FAILURES = {"Evicted", "NodeAffinity", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated"}
"""Pod reasons that mean the node failed, not the pod; so does `OutOf...` (cpu, memory, nvidia.com/gpu)."""
CANNOT_START = {"ContainerCannotRun", "StartError"}


@dataclass(frozen=True, slots=True)
class Pod:
    """State of a pod in the cluster; unknown texts are empty, unknown times None.

    `placed` is when it was scheduled, `leaving` when its deletion was requested, `unplaced` why it is not scheduled,
    `disrupted` the message of its DisruptionTarget condition, `waiting` and `ended` the reasons of its container.
    """

    name: str
    phase: str
    created: datetime
    placed: datetime | None = None
    leaving: datetime | None = None
    reason: str = ""
    message: str = ""
    unplaced: str = ""
    disrupted: str = ""
    waiting: str = ""
    waiting_message: str = ""
    ended: str = ""
    exit_code: int | None = None
    memory_limit: str = ""

    @classmethod
    def of(cls, pod: Any) -> "Pod":
        """Create it from the client's V1Pod, whose first container is the step's."""
        status, conditions = pod.status, {item.type: item for item in pod.status.conditions or ()}
        scheduled, disrupted = conditions.get("PodScheduled"), conditions.get("DisruptionTarget")
        placed = scheduled if scheduled and scheduled.status == "True" else None
        state = (status.container_statuses or [None])[0]
        waiting = state.state.waiting if state and state.state else None
        ended = state.state.terminated if state and state.state else None
        container = pod.spec.containers[0]
        limits = (container.resources.limits if container.resources else None) or {}
        return cls(
            name=pod.metadata.name,
            phase=status.phase or "",
            created=pod.metadata.creation_timestamp,
            placed=(placed.last_transition_time or pod.metadata.creation_timestamp) if placed else None,
            leaving=pod.metadata.deletion_timestamp,
            reason=status.reason or "",
            message=status.message or "",
            unplaced=(scheduled.message or scheduled.reason or "") if scheduled and not placed else "",
            disrupted=(disrupted.message or disrupted.reason or "") if disrupted and disrupted.status == "True" else "",
            waiting=(waiting.reason or "") if waiting else "",
            waiting_message=(waiting.message or "") if waiting else "",
            ended=(ended.reason or "") if ended else "",
            exit_code=ended.exit_code if ended else None,
            memory_limit=limits.get("memory", ""),
        )
