"""Reasons for pods that end or never start, and the retry decision for their steps."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import (
    V1Container,
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodCondition,
    V1PodSpec,
    V1PodStatus,
    V1ResourceRequirements,
)

from transcription_assets.defs.executors.pod_failures import JobObservation, Retry, is_erring, job_outcome
from transcription_assets.workers.pods import ERRORS, Pod

T0 = datetime(2026, 11, 21, tzinfo=UTC)
LIMIT_S = 900.0


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def pod(
    phase: str,
    *,
    placed: bool = True,
    reason: str = "",
    waiting: str = "",
    ended: str = "",
    code: int = 0,
    disrupted: str = "",
    leaving: datetime | None = None,
) -> Pod:
    """Build a pod from the client's own classes, as the API returns it."""
    conditions = [
        V1PodCondition(
            type="PodScheduled",
            status="True" if placed else "False",
            reason=None if placed else "Unschedulable",
            message=None if placed else "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            last_transition_time=T0,
        )
    ]
    if disrupted:
        conditions.append(V1PodCondition(type="DisruptionTarget", status="True", reason=disrupted))
    state = V1ContainerState(
        waiting=V1ContainerStateWaiting(reason=waiting, message="what it said") if waiting else None,
        terminated=V1ContainerStateTerminated(reason=ended, exit_code=code) if ended else None,
    )
    container = V1ContainerStatus(name="dagster", image="i", image_id="", ready=False, restart_count=0, state=state)
    limits = V1ResourceRequirements(limits={"memory": "8192Mi"})
    return Pod.of(
        V1Pod(
            metadata=V1ObjectMeta(name="a-pod", creation_timestamp=T0, deletion_timestamp=leaving),
            spec=V1PodSpec(containers=[V1Container(name="dagster", resources=limits)]),
            status=V1PodStatus(
                phase=phase,
                reason=reason or None,
                conditions=conditions,
                container_statuses=[container] if waiting or ended else None,
            ),
        )
    )


def seen(*pods: Pod, failed: bool = False, succeeded: bool = False, erring_s: float = 0.0) -> JobObservation:
    return JobObservation(T0, failed, succeeded, pods, erring_s)


@pytest.mark.parametrize(
    ("what", "at_s", "again", "said"),
    [
        (seen(pod("Failed", ended="OOMKilled", code=137), failed=True), 60, Retry.NEVER, "8192Mi"),
        (seen(pod("Failed", reason="Evicted"), failed=True), 60, Retry.STEP, "Evicted"),
        (seen(pod("Failed", reason="OutOfnvidia.com/gpu"), failed=True), 60, Retry.STEP, "OutOfnvidia.com/gpu"),
        (
            seen(pod("Failed", ended="Error", code=137, disrupted="PreemptionByScheduler"), failed=True),
            60,
            Retry.STEP,
            "PreemptionByScheduler",
        ),
        (seen(pod("Failed", ended="Error", code=137), failed=True), 60, Retry.STEP, "exit code 137"),
        (seen(pod("Failed", ended="Error", code=1), failed=True), 60, Retry.STEP, "exit code 1"),
        (seen(pod("Failed", ended="StartError", code=128), failed=True), 60, Retry.NEVER, "StartError"),
        (seen(pod("Failed", reason="DeadlineExceeded", ended="Error", code=137), failed=True), 60, Retry.NEVER, "Dead"),
        (seen(failed=True), 60, Retry.STEP, ""),
        (seen(), LIMIT_S + 1, Retry.NEVER, "quota"),
        (seen(pod("Pending", placed=False)), LIMIT_S + 1, Retry.RUN, "3 Insufficient nvidia.com/gpu"),
        (seen(pod("Pending", waiting="ErrImagePull"), erring_s=121), 130, Retry.NEVER, "what it said"),
        (seen(pod("Pending", waiting="InvalidImageName")), 1, Retry.NEVER, "InvalidImageName"),
        (
            seen(pod("Pending", waiting="CreateContainerConfigError"), erring_s=121),
            130,
            Retry.NEVER,
            "CreateContainerConfigError",
        ),
        (
            seen(pod("Pending", waiting="ContainerCreating")),
            LIMIT_S + 1,
            Retry.NEVER,
            "ContainerCreating",
        ),
        (seen(pod("Succeeded", ended="Completed"), succeeded=True), 60, Retry.STEP, "p"),
        (seen(pod("Running", leaving=T0)), 130, Retry.STEP, "p"),
        (seen(pod("Running", leaving=T0), failed=True), 10, Retry.STEP, "p"),
    ],
)
def test_ended_pods_have_a_reason_and_a_retry_decision(
    what: JobObservation, at_s: float, again: Retry, said: str
) -> None:
    found = job_outcome(what, after(at_s), LIMIT_S)
    assert found
    assert found.retry is again
    assert said in found.reason
    assert "\n" not in found.reason, "shown in one line in the list of runs"


@pytest.mark.parametrize(
    ("what", "at_s"),
    [
        (seen(), 10),
        (seen(pod("Pending", placed=False)), LIMIT_S - 1),
        (seen(pod("Pending", waiting="ContainerCreating")), LIMIT_S - 1),
        (seen(pod("Pending", waiting="ImagePullBackOff"), erring_s=60), 60),
        (seen(pod("Running")), 100 * LIMIT_S),
        (seen(pod("Running", leaving=T0)), 60),
    ],
)
def test_pod_that_may_still_start_or_finish_has_no_outcome(what: JobObservation, at_s: float) -> None:
    assert job_outcome(what, after(at_s), LIMIT_S) is None


@given(
    phase=st.sampled_from(["Pending", "Failed", "Succeeded", "Unknown"]),
    placed=st.booleans(),
    waiting=st.sampled_from(["", "ContainerCreating", "SomethingNew", *ERRORS]),
    failed=st.booleans(),
    succeeded=st.booleans(),
    with_pod=st.booleans(),
)
def test_every_pod_except_a_running_one_fails_after_its_limit(
    *, phase: str, placed: bool, waiting: str, failed: bool, succeeded: bool, with_pod: bool
) -> None:
    pods = [pod(phase, placed=placed, waiting=waiting)] if with_pod else []
    what = seen(*pods, failed=failed, succeeded=succeeded, erring_s=LIMIT_S + 1)
    lost = phase == "Unknown" and not failed and not succeeded and with_pod
    assert lost or job_outcome(what, after(LIMIT_S + 1), LIMIT_S) is not None


def test_container_creation_is_not_an_error() -> None:
    assert is_erring([pod("Pending", waiting="ErrImagePull")])
    assert not is_erring([pod("Pending", waiting="ContainerCreating")])
