"""Steps as pods: dagster-k8s's executor with deadlines and with the reasons of pod failures.

Imported only in the process of a run with TRANSCRIPTION_EXECUTOR=k8s. dagster-k8s looks only at the Job's `failed`: a
pod that is never scheduled, whose image or secret is missing, or that exits without an event keeps its step in progress
forever; and it retries every failed pod, also one that will run out of memory again.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster_k8s import K8sRunLauncher, k8s_job_executor
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from kubernetes.client import ApiException  # type: ignore[import-untyped]

from transcription_assets.defs.dagster_internals import (
    CheckStepHealthResult,
    DagsterEvent,
    InitExecutorContext,
    IStepContext,
    KnownExecutionState,
    SerializableErrorInfo,
    StepDelegatingExecutor,
    StepFailureData,
    StepHandlerContext,
    process_config,
)
from transcription_assets.defs.executors.kubernetes import WORK_LIMIT, Deadlines
from transcription_assets.defs.executors.pod_failures import (
    JobObservation,
    PodOutcome,
    Retry,
    is_erring,
    job_outcome,
)
from transcription_assets.defs.jobs import recordings
from transcription_assets.defs.runs import keys_of, request_run_retry
from transcription_assets.errors import PermanentFailure
from transcription_assets.workers.pods import Pod

DURATION_KNOWN = {"transcript", "speakers", "embeddings"}
"""Steps that follow `audio`, which records the durations."""
VERSIONS = 4
"""Average number of materialisations of each recording that are searched for the newest one."""
WARNINGS = 3
"""Number of a pod's latest Warning events in its failure message."""


class PodStepHandler(K8sStepHandler):
    """The step handler of `k8s_job_executor` with a deadline for each pod and the reasons of pod failures."""

    def __init__(self, configured: K8sStepHandler, deadlines: Deadlines) -> None:
        # Copies its state, because its constructor would load the cluster's configuration again.
        self.__dict__.update(vars(configured))
        self._deadlines = deadlines
        self._work_s: dict[str, float] = {}
        self._outcomes: dict[str, PodOutcome] = {}
        self._erring: dict[str, float] = {}
        self._done: set[str] = set()

    def outcome_of(self, step_key: str) -> PodOutcome | None:
        """Return how the step's last pod failed, None if no health check has detected a failure."""
        return self._outcomes.get(step_key)

    def _get_container_context(self, step_handler_context: StepHandlerContext) -> K8sContainerContext:
        """Return the context with the pod's deadline for this batch; a Job's would include the wait for a node."""
        step = self._get_step_key(step_handler_context)
        if step not in self._work_s:
            length = sounds_s(step_handler_context) if step in DURATION_KNOWN else None
            self._work_s[step] = self._deadlines.work_s(length)
        work_s = self._work_s[step]
        limit = UserDefinedDagsterK8sConfig(
            pod_spec_config={"active_deadline_seconds": self._deadlines.deadline(work_s)},
            # At the deadline the pod gets SIGTERM, as in an eviction; this lets it distinguish the two.
            container_config={"env": [{"name": WORK_LIMIT, "value": f"{work_s:.0f}"}]},
        )
        return super()._get_container_context(step_handler_context).merge(K8sContainerContext(run_k8s_config=limit))

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Return unhealthy if the pod failed, did not start in time, or exited without an event that ends the step."""
        step = self._get_step_key(step_handler_context)
        self._outcomes.pop(step, None)
        job = self._get_k8s_step_job_name(step_handler_context)
        namespace = self._get_container_context(step_handler_context).namespace
        status = self._api_client.get_job_status(job_name=job, namespace=namespace)
        if status is None:
            return self._ended(step, PodOutcome(f"its Job {job} no longer exists: it was deleted", Retry.STEP), "")
        pods = self._api_client.get_pods_in_job(job_name=job, namespace=namespace)
        observation = self._observe(job, status, [Pod.of(pod) for pod in pods])
        found = job_outcome(observation, datetime.now(UTC), self._deadlines.start_s)
        if found is None or (observation.has_begun and self._is_news(job)):
            return CheckStepHealthResult.healthy()
        names = [job, *(pod.name for pod in observation.pods)]
        result = self._ended(step, found, self._warnings(namespace, names))
        if not observation.failed:
            # Otherwise it might still start, concurrently with the pod of the retry.
            self._api_client.delete_job(job_name=job, namespace=namespace)
        return result

    def _observe(self, job: str, status: Any, pods: list[Pod]) -> JobObservation:
        if is_erring(pods):
            self._erring.setdefault(job, time.monotonic())
        else:
            self._erring.pop(job, None)
        return JobObservation(
            created=status.start_time or datetime.now(UTC),
            failed=bool(status.failed),
            succeeded=bool(status.succeeded),
            pods=pods,
            erring_s=time.monotonic() - self._erring.get(job, time.monotonic()),
        )

    def _is_news(self, job: str) -> bool:
        """Return whether this is the first health check that finds a failure of this Job.

        The pod may have logged the end of the step after the executor last read the events, so a second check decides:
        otherwise the step would end twice, which the executor does not survive.
        """
        seen_before = job in self._done
        self._done.add(job)
        return not seen_before

    def _warnings(self, namespace: str | None, names: list[str]) -> str:
        try:
            events = [event for name in names for event in self._api_client.retrieve_pod_events(name, namespace or "")]
        except ApiException:
            return ""  # warnings are optional: Dagster would only log this error, and the step would never end
        messages = [f"{event.reason}: {event.message}" for event in events if event.type == "Warning"]
        return "; ".join(list(dict.fromkeys(messages))[-WARNINGS:])

    def _ended(self, step: str, found: PodOutcome, warnings: str) -> CheckStepHealthResult:
        self._outcomes[step] = found
        return CheckStepHealthResult.unhealthy(found.reason + (f". Events: {warnings}" if warnings else ""))


class PodExecutor(StepDelegatingExecutor):
    """A step-delegating executor that retries a step only if another pod can help."""

    def __init__(self, handler: PodStepHandler, configured: StepDelegatingExecutor, health_check_s: int) -> None:
        super().__init__(
            handler,
            retries=configured.retries,
            check_step_health_interval_seconds=health_check_s,
            should_verify_step=True,
            step_dependency_config=configured.step_dependency_config,
        )
        self._pods = handler

    def log_failure_or_retry_event_after_error(
        self, step_context: IStepContext, err_info: SerializableErrorInfo, known_state: KnownExecutionState
    ) -> DagsterEvent:
        """Fail the step at once if another pod cannot help, and tag the run for a retry if a later run can."""
        found = self._pods.outcome_of(step_context.step.key)
        if found is not None and found.retry is not Retry.NEVER:
            # Tagged for Retry.STEP too: its retries may not suffice, since often many nodes are lost at once.
            request_run_retry(step_context.instance, step_context.run_id, step_context.step)
        if found is None or found.retry is Retry.STEP:
            return super().log_failure_or_retry_event_after_error(step_context, err_info, known_state)
        failure = StepFailureData(err_info, user_failure_data=None)  # type: ignore[no-untyped-call]
        return DagsterEvent.step_failure_event(step_context, failure)


def sounds_s(context: StepHandlerContext) -> float | None:
    """Return the total duration (s) of the run's recordings from the metadata of `audio`, None if one is missing."""
    instance = context.instance
    keys = keys_of(context.dagster_run.tags, instance.get_dynamic_partitions(str(recordings.name)))
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("audio"), asset_partitions=list(keys)), limit=VERSIONS * max(1, len(keys))
    )
    lengths: dict[str, float] = {}
    for record in found.records:  # the newest first
        duration = record.asset_materialization and record.asset_materialization.metadata.get("duration_s")
        if record.partition_key and isinstance(duration, dg.FloatMetadataValue):
            lengths.setdefault(record.partition_key, duration.value or 0.0)
    return sum(lengths.values()) if keys and lengths.keys() >= set(keys) else None


def executor(context: InitExecutorContext, pods: Mapping[str, Mapping[str, Any]], deadlines: Deadlines) -> PodExecutor:
    """Return an executor that runs each step in its own pod.

    Args:
        context: The context of the executor's creation.
        pods: dagster-k8s's configuration of each step's pod, by step name.
        deadlines: The deadlines of pods.

    Raises:
        PermanentFailure: The instance does not use K8sRunLauncher, or dagster-k8s rejects the configuration.

    """
    if not isinstance(context.instance.run_launcher, K8sRunLauncher):
        raise PermanentFailure(
            "TRANSCRIPTION_EXECUTOR=k8s requires K8sRunLauncher in dagster.yaml, whose pod settings the steps inherit:"
            " see k8s/, or use in_process",
            hint="configure K8sRunLauncher as in k8s/, or use in_process",
        )
    step_config = {
        "per_step_k8s_config": {step: dict(config) for step, config in pods.items()},
        "enable_owner_references": True,  # deleting a run's Job deletes those of its steps
    }
    checked = process_config(k8s_job_executor.config_schema.config_type, step_config)
    if not checked.success:
        raise PermanentFailure(f"dagster-k8s rejects the pod configuration: {checked.errors}")
    configured: Any = k8s_job_executor.executor_creation_fn(  # type: ignore[misc]
        InitExecutorContext(context.job, context.executor_def, checked.value or {}, context.instance)
    )
    # The handler has no public accessor.
    return PodExecutor(PodStepHandler(configured._step_handler, deadlines), configured, deadlines.health_check_s)  # noqa: SLF001
