"""Steps as pods: dagster-k8s's executor, with an end to all that it would wait for, and the pod's reason in words.

Loaded only where TRANSCRIPTION_EXECUTOR=k8s. dagster-k8s looks at nothing but the Job's `failed`: a pod that is never
placed, whose image or secret is missing, or that leaves without a word keeps its step in progress for ever; and it
tries every failed pod again, also one that is sure to run out of memory again.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import IStepContext
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.executor.init import InitExecutorContext
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandlerContext
from dagster_k8s import K8sRunLauncher, k8s_job_executor
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from dagster_shared.error import SerializableErrorInfo

from transcription_assets.defs.batch import KUBERNETES, RETRY_RUN
from transcription_assets.defs.endings import Again, Ending, Pod, Seen, ending, is_erring
from transcription_assets.defs.flight import keys_of
from transcription_assets.defs.partitions import recordings
from transcription_assets.failures import PermanentFailure

DAY_S = 86_400.0
LENGTH_KNOWN = {"transcript", "embeddings"}
"""The steps behind the one that decodes."""
VERSIONS = 4
"""Materialisations of one recording that are looked through, on average, for the newest of each."""
WARNINGS = 3
"""So many of the cluster's last warnings about a pod are quoted."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: until a pod must run, and that it may then work: `floor_s`, plus `per_second` x its sound."""

    start_s: float
    floor_s: float
    per_second: float

    def deadline(self, sounds_s: float | None) -> int:
        """From when its node knows of it; pulling the image is a part of starting, waiting for a node is not.

        None where the length is not known yet: then the step itself limits the time for each recording.
        """
        work_s = DAY_S if sounds_s is None else self.floor_s + self.per_second * sounds_s
        return int(self.start_s + work_s)

    @property
    def look_every_s(self) -> int:
        """Often enough to notice the end of its patience soon after."""
        return max(1, min(20, int(self.start_s / 4)))


class PodStepHandler(K8sStepHandler):
    """As `k8s_job_executor` configured it, with a time limit on each pod and an answer to how it ended."""

    def __init__(self, configured: K8sStepHandler, patience: Patience) -> None:
        # Taken over as it is: its own constructor would read the cluster's configuration once more.
        self.__dict__.update(vars(configured))
        self._patience = patience
        self._deadlines: dict[str, int] = {}
        self._endings: dict[str, Ending] = {}
        self._erring: dict[str, float] = {}
        self._done: set[str] = set()

    def ending_of(self, step_key: str) -> Ending | None:
        """How the step's last pod ended, where that was noticed from outside."""
        return self._endings.get(step_key)

    def _get_container_context(self, step_handler_context: StepHandlerContext) -> K8sContainerContext:
        """With the time limit of this batch. The pod's own, for a Job's counts the wait for a node as well."""
        step = self._get_step_key(step_handler_context)
        if step not in self._deadlines:
            length = sounds_s(step_handler_context) if step in LENGTH_KNOWN else None
            self._deadlines[step] = self._patience.deadline(length)
        limit = UserDefinedDagsterK8sConfig(pod_spec_config={"active_deadline_seconds": self._deadlines[step]})
        return super()._get_container_context(step_handler_context).merge(K8sContainerContext(run_k8s_config=limit))

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Unhealthy where the pod died, never began in time, or left without saying how the step ended."""
        step = self._get_step_key(step_handler_context)
        self._endings.pop(step, None)
        job = self._get_k8s_step_job_name(step_handler_context)
        namespace = self._get_container_context(step_handler_context).namespace
        status = self._api_client.get_job_status(job_name=job, namespace=namespace)
        if status is None:
            return self._ended(step, Ending(f"its Job {job} is gone: somebody deleted it", Again.STEP), "")
        pods = self._api_client.get_pods_in_job(job_name=job, namespace=namespace)
        seen = self._seen(job, status, [Pod.of(pod) for pod in pods])
        found = ending(seen, datetime.now(UTC), self._patience.start_s)
        if found is None or (seen.succeeded and self._is_news(job)):
            return CheckStepHealthResult.healthy()
        about = [job, *(pod.name for pod in seen.pods)]
        result = self._ended(step, found, self._warnings(namespace, about))
        if not seen.failed:
            # Else it might begin after all, beside the pod of the retry.
            self._api_client.delete_job(job_name=job, namespace=namespace)
        return result

    def _seen(self, job: str, status: Any, pods: list[Pod]) -> Seen:
        if is_erring(pods):
            self._erring.setdefault(job, time.monotonic())
        else:
            self._erring.pop(job, None)
        return Seen(
            asked=status.start_time or datetime.now(UTC),
            failed=bool(status.failed),
            succeeded=bool(status.succeeded),
            pods=pods,
            erring_s=time.monotonic() - self._erring.get(job, time.monotonic()),
        )

    def _is_news(self, job: str) -> bool:
        """At the first look its last words may be on their way; they are read before the second."""
        seen_before = job in self._done
        self._done.add(job)
        return not seen_before

    def _warnings(self, namespace: str | None, names: list[str]) -> str:
        events = [event for name in names for event in self._api_client.retrieve_pod_events(name, namespace or "")]
        said = [f"{event.reason}: {event.message}" for event in events if event.type == "Warning"]
        return "; ".join(list(dict.fromkeys(said))[-WARNINGS:])

    def _ended(self, step: str, found: Ending, warnings: str) -> CheckStepHealthResult:
        self._endings[step] = found
        return CheckStepHealthResult.unhealthy(found.reason + (f". The cluster says: {warnings}" if warnings else ""))


class PodExecutor(StepDelegatingExecutor):
    """Tries a step again only where another pod can help."""

    def __init__(self, handler: PodStepHandler, made: StepDelegatingExecutor, look_every_s: int) -> None:
        super().__init__(
            handler,
            retries=made.retries,
            check_step_health_interval_seconds=look_every_s,
            should_verify_step=True,
            step_dependency_config=made.step_dependency_config,
        )
        self._pods = handler

    def log_failure_or_retry_event_after_error(
        self, step_context: IStepContext, err_info: SerializableErrorInfo, known_state: KnownExecutionState
    ) -> DagsterEvent:
        """Where another pod cannot help, the step fails at once; where later can, the run is marked for a retry."""
        found = self._pods.ending_of(step_context.step.key)
        if found is not None and found.again is not Again.NEVER:
            # Also for when the step's own retries are used up: nodes are lost in swarms.
            step_context.instance.add_run_tags(step_context.run_id, {RETRY_RUN: "true"})
        if found is None or found.again is Again.STEP:
            return super().log_failure_or_retry_event_after_error(step_context, err_info, known_state)
        failure = StepFailureData(err_info, user_failure_data=None)  # type: ignore[no-untyped-call]
        return DagsterEvent.step_failure_event(step_context, failure)


def sounds_s(context: StepHandlerContext) -> float | None:
    """Seconds of sound in the run's recordings, as `audio` has told of each; None where it has not."""
    instance = context.instance
    keys = keys_of(context.dagster_run.tags, instance.get_dynamic_partitions(str(recordings.name)))
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("audio"), asset_partitions=list(keys)), limit=VERSIONS * max(1, len(keys))
    )
    lengths: dict[str, float] = {}
    for record in found.records:  # the newest first
        told = record.asset_materialization and record.asset_materialization.metadata.get("duration_s")
        if record.partition_key and isinstance(told, dg.FloatMetadataValue):
            lengths.setdefault(record.partition_key, told.value or 0.0)
    return sum(lengths.values()) if keys and lengths.keys() >= set(keys) else None


def executor(pods: Mapping[str, Mapping[str, Any]], patience: Patience) -> dg.ExecutorDefinition:
    """Each step in a pod of its own. `pods`: dagster-k8s's configuration for each step, by its name."""

    def made(context: InitExecutorContext) -> PodExecutor:
        if not isinstance(context.instance.run_launcher, K8sRunLauncher):
            raise PermanentFailure(
                "TRANSCRIPTION_EXECUTOR=k8s needs K8sRunLauncher in dagster.yaml, whose pods are like the steps': "
                "see k8s/, or choose in_process"
            )
        configured: Any = k8s_job_executor.executor_creation_fn(context)  # type: ignore[misc]
        # It is asked for its handler in no other way.
        handler = PodStepHandler(configured._step_handler, patience)  # noqa: SLF001
        return PodExecutor(handler, configured, patience.look_every_s)

    in_pods = dg.ExecutorDefinition(
        name=KUBERNETES,
        config_schema=k8s_job_executor.config_schema.as_field(),
        requirements=multiple_process_executor_requirements(),
        executor_creation_fn=made,
    )
    configured: dg.ExecutorDefinition = in_pods.configured(
        {
            "per_step_k8s_config": {step: dict(config) for step, config in pods.items()},
            "enable_owner_references": True,  # a run that is deleted takes its steps along
        },
        name=KUBERNETES,
    )
    return configured
