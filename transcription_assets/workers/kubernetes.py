"""Launcher for workers that are pods: one Indexed Job for each manifest. The coordinator must be a pod itself."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transcription_assets.costs.timing import HOUR_S, WorkerUse
from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.pipeline import shard_status
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.settings import OwnPod
from transcription_assets.storage import Store
from transcription_assets.workers.kubernetes_job import API_TOKENS, MANIFEST_LABEL, OWNER_LABEL, Json, WorkerJob, label
from transcription_assets.workers.launcher import Phase, ShardState, stored_statuses
from transcription_assets.workers.manifest import Manifest
from transcription_assets.workers.nodes import Cluster
from transcription_assets.workers.pod_phases import Durations, JobProgress, failed_state, indexes, live_state
from transcription_assets.workers.pods import ERROR_LIMIT_S, ERRORS, Pod

COMMAND = ("transcription-assets", "work")
WAIT_S = 2.0
SHORT_WAIT_S = 0.3
STATUSES_S = 5.0
"""Seconds between two reads of what workers have written about themselves to the store."""
END_S = 90.0
"""Seconds that pods have to end; a pod on a lost node does not, and must not hold up the others."""
REQUEST_S = 30.0
LOG_LINES = 100
DAY_S = 86_400
INDEX = "batch.kubernetes.io/job-completion-index"
DENIED = {401, 403}
NOT_FOUND = 404

log = logging.getLogger(__name__)


class Api:
    """The requests to the API server, with the errors of this library; the namespace is that of this pod."""

    def __init__(self) -> None:
        from kubernetes import client, config  # type: ignore[import-untyped]

        configuration = client.Configuration()
        self._own = OwnPod()
        try:
            if self._own.kubernetes_service_host:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(self._own.kubeconfig or None, client_configuration=configuration)
        except config.ConfigException as error:
            raise PermanentFailure(
                "TRANSCRIPTION_LAUNCHER=kubernetes needs a coordinator that is a pod with a service account token: see "
                f"docs/how-to/launcher.md ({error})"
            ) from error
        configuration.retries = 3
        self._client = client.ApiClient(configuration)
        self._jobs = client.BatchV1Api(self._client)
        self._pods = client.CoreV1Api(self._client)
        self.namespace = self._own.pod_namespace or _namespace()

    def own_pod(self) -> Json:
        """Return the pod of this process.

        Raises:
            TranscriptionError: the API server refuses or does not answer.

        """
        name = self._own.name
        found = self._request(self._pods.read_namespaced_pod, name) if name else None
        if found is None:
            raise PermanentFailure(
                f"there is no pod {name} in {self.namespace}: TRANSCRIPTION_LAUNCHER=kubernetes needs a coordinator "
                "that is a pod and knows its name (POD_NAME): see docs/how-to/launcher.md"
            )
        body: Json = self._client.sanitize_for_serialization(found)
        return body

    def create(self, body: Json) -> None:
        """Create a Job.

        Raises:
            TranscriptionError: the API server refuses or does not answer.

        """
        self._request(self._jobs.create_namespaced_job, body=body)

    def job(self, name: str) -> Any:
        """Return a Job, None if it does not exist.

        Raises:
            TranscriptionError: the API server refuses or does not answer.

        """
        return self._request(self._jobs.read_namespaced_job, name)

    def jobs_of(self, owner: str) -> list[str]:
        """Return the names of the Jobs of a run.

        Raises:
            TranscriptionError: the API server refuses or does not answer.

        """
        found = self._request(self._jobs.list_namespaced_job, label_selector=f"{OWNER_LABEL}={owner}")
        return [job.metadata.name for job in found.items] if found else []

    def pods(self, identifier: str) -> dict[int, Pod]:
        """Return the newest pod of each shard of a manifest.

        Raises:
            TranscriptionError: the API server refuses or does not answer.

        """
        found = self._request(self._pods.list_namespaced_pod, label_selector=f"{MANIFEST_LABEL}={identifier}")
        newest: dict[int, Pod] = {}
        for item in found.items if found else ():
            known = {**(item.metadata.labels or {}), **(item.metadata.annotations or {})}
            pod = Pod.of(item)
            if INDEX in known:
                index = int(known[INDEX])
                newest[index] = max(newest.get(index, pod), pod, key=lambda item: (item.created, item.name))
        return newest

    def log(self, pod: str) -> str:
        """Return the end of a pod's log; empty if it cannot be read, since it explains a failure only."""
        from urllib3.exceptions import HTTPError

        try:
            # The client would turn bytes into their Python literal, and a single line of JSON into that of a dict.
            found = self._request(self._pods.read_namespaced_pod_log, pod, tail_lines=LOG_LINES, _preload_content=False)
            return str(found.data.decode(errors="replace")) if found else ""
        except (TranscriptionError, HTTPError) as error:
            log.info("the log of pod %s cannot be read: %s", pod, error)
            return ""

    def delete(self, job: str) -> None:
        """Delete a Job with its pods.

        Raises:
            TranscriptionError: the API server refuses or does not answer.

        """
        self._request(self._jobs.delete_namespaced_job, job, propagation_policy="Foreground")

    def _request(self, method: Callable[..., Any], *names: str, **options: Any) -> Any:
        """Return the answer to a request, None if the object does not exist."""
        from kubernetes.client import ApiException  # type: ignore[import-untyped]
        from urllib3.exceptions import HTTPError

        try:
            return method(*names, namespace=self.namespace, _request_timeout=REQUEST_S, **options)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            message = f"the cluster's API answered {error.status} {error.reason} to {method.__name__}"
            if error.status in DENIED:
                message += ": the service account of the coordinator lacks a right, see k8s/components/workers"
            permanent = bool(error.status) and error.status < 500 and error.status != 429  # noqa: PLR2004 -- HTTP
            raise (PermanentFailure if permanent else TransientFailure)(f"{message} ({error.body})") from error
        except (HTTPError, OSError) as error:
            raise TransientFailure(f"the cluster's API does not answer: {error}") from error


@dataclass(eq=False)
class KubernetesLauncher:
    """Launcher of at most `most` pods at once for one run; `start_limit_s` is the time (s) in which one must start."""

    cluster: Cluster
    most: int = 1
    start_limit_s: float = 900.0
    command: Sequence[str] = COMMAND
    wait_s: float = WAIT_S
    statuses_s: float = STATUSES_S
    use: WorkerUse = field(default_factory=WorkerUse, init=False)
    """Time from the placement to the end of all pods so far, with their cores, GPUs and price."""

    def prepare(self, store: Store) -> None:
        """Do nothing: a pod starts for a shard."""

    def launch(self, store: Store, manifest: Manifest) -> "LaunchedPods":
        """Create the Job of a manifest. Jobs that an earlier attempt of the same run left behind are deleted.

        Raises:
            PermanentFailure: this process is not in a pod, or lacks a right.
            TransientFailure: the API server does not answer.

        """
        api = self.api
        if manifest.owner and label(manifest.owner):
            for name in api.jobs_of(label(manifest.owner)):
                api.delete(name)
        own = api.own_pod()
        job = WorkerJob(self.cluster, self.most, self.command)
        body = job.body(manifest, own, _time_left(own))
        api.create(body)
        return LaunchedPods(self, api, store, manifest, body["metadata"]["name"])

    def close(self) -> None:
        """Do nothing: no pod is kept."""

    @cached_property
    def api(self) -> Api:
        """The API server.

        Raises:
            PermanentFailure: this process is not in a pod.

        """
        return Api()


class LaunchedPods:
    """The shards of one manifest, and the pods that work on them."""

    def __init__(self, launcher: KubernetesLauncher, api: Api, store: Store, manifest: Manifest, job: str) -> None:
        self._launcher = launcher
        self._api = api
        self._store = store
        self._manifest = manifest
        self._job = job
        self._states = {shard: ShardState(Phase.WAITING) for shard in range(len(manifest.shards))}
        self._since: dict[tuple[int, str], float] = {}
        self._launched = self._answered = time.monotonic()
        self._statuses: dict[int, ShardStatus] = {}
        self._placed: dict[int, float] = {}
        self._read_at = -math.inf
        self._is_last_read = False

    def states(self) -> Mapping[int, ShardState]:
        """Return the state of each shard; while the API server does not answer, the one that was last known.

        Raises:
            TranscriptionError: the API server refuses, or does not answer for two minutes.

        """
        try:
            job, pods = self._api.job(self._job), self._api.pods(self._manifest.identifier)
        except TransientFailure as error:
            if time.monotonic() - self._answered > ERROR_LIMIT_S:
                raise
            log.warning("%s", error)
            return dict(self._states)
        self._answered = time.monotonic()
        progress = _progress(job)
        is_busy = any(pod.phase == "Running" for pod in pods.values())
        for shard, known in self._states.items():
            if not known.is_final:
                pod = pods.get(shard)
                since = self._durations(shard, pod, is_busy=is_busy)
                state = live_state(shard, pod, progress, since, self._launcher.start_limit_s)
                self._states[shard] = state or self._failed(shard, pod)
                if pod is not None and pod.placed is not None:
                    self._placed.setdefault(shard, time.monotonic())
                if self._states[shard].is_final:
                    self._account(shard)
        if any(state.phase is Phase.REFUSED for state in self._states.values()):
            self._give_up()
        return dict(self._states)

    def statuses(self) -> Mapping[int, ShardStatus]:
        """Return the statuses in the store; they are read every few seconds, and once after the last worker has ended.

        Raises:
            TranscriptionError: the store refuses, or does not answer after the last worker has ended.

        """
        is_over = all(state.is_final for state in self._states.values())
        is_due = time.monotonic() - self._read_at >= self._launcher.statuses_s
        if self._is_last_read or not (is_over or is_due):
            return dict(self._statuses)
        try:
            self._statuses |= stored_statuses(self._store, self._manifest)
            self._is_last_read = is_over
        except TransientFailure as error:
            if is_over:
                raise
            log.warning("%s", error)
        self._read_at = time.monotonic()
        return dict(self._statuses)

    def wait(self) -> None:
        """Return after a tenth of the time since the launch, so that a short shard does not wait long for its end."""
        passed = time.monotonic() - self._launched
        time.sleep(min(self._launcher.wait_s, max(SHORT_WAIT_S, passed / 10)))

    def __enter__(self) -> Self:
        """Return the workers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the Job with its pods, and wait until they have ended; what ended by itself is not waited for."""
        for shard in list(self._placed):
            self._account(shard)
        try:
            self._api.delete(self._job)
            if all(state.phase is Phase.ENDED for state in self._states.values()):
                return
            ends = time.monotonic() + END_S
            while time.monotonic() < ends and self._api.job(self._job) is not None:
                time.sleep(min(0.5, self._launcher.wait_s))
        except TranscriptionError as failure:  # the cluster deletes it with the coordinator's pod, or at its deadline
            log.warning("the Job %s cannot be deleted: %s", self._job, failure)

    def _account(self, shard: int) -> None:
        """Add the time of the shard's pod, measured here because clocks of nodes differ."""
        if (placed := self._placed.pop(shard, None)) is None:
            return
        size, held_s = self._launcher.cluster.work_size(self._manifest.stage), time.monotonic() - placed
        usd = held_s / HOUR_S * size.usd_per_hour
        self._launcher.use += WorkerUse(held_s, held_s * size.cpus, held_s * size.gpus, usd)

    def _failed(self, shard: int, pod: Pod | None) -> ShardState:
        if pod is None:
            return ShardState(Phase.LOST, "its pod is gone")
        output = self._api.log(pod.name)
        place = shard_status.path(self._manifest.identifier, shard)
        state = failed_state(pod, output, has_status=shard_status.load(self._store, place) is not None)
        if state.reason:
            log.warning("shard %s: %s\n%s", shard, state.reason, output)
        return state

    def _give_up(self) -> None:
        """Give up the other shards: what one worker refuses, all refuse."""
        for shard, state in self._states.items():
            if not state.is_final:
                self._states[shard] = ShardState(Phase.LOST, "the worker of another shard refused the work")

    def _durations(self, shard: int, pod: Pod | None, *, is_busy: bool) -> Durations:
        pending = pod is not None and pod.phase == "Pending"
        placed = pod is not None and pod.placed is not None
        # A shard waits for the others of its Job as long as they work.
        unplaced = not is_busy and (pod is None or (pending and not placed))
        return Durations(
            unplaced_s=self._lasting(shard, "unplaced", holds=unplaced),
            starting_s=self._lasting(shard, "starting", holds=pending and placed),
            erring_s=self._lasting(shard, "erring", holds=pod is not None and pod.waiting in ERRORS),
            leaving_s=self._lasting(shard, "leaving", holds=pod is not None and pod.leaving is not None),
        )

    def _lasting(self, shard: int, what: str, *, holds: bool) -> float:
        """Return for how long (s) something holds; it is measured here, because clocks of nodes differ."""
        if not holds:
            self._since.pop((shard, what), None)
            return 0.0
        return time.monotonic() - self._since.setdefault((shard, what), time.monotonic())


def _progress(job: Any) -> JobProgress:
    if job is None:
        return JobProgress(failure="its Job is gone: somebody deleted it")
    status = job.status
    failed = next((item for item in status.conditions or () if item.type == "Failed" and item.status == "True"), None)
    failed_indexes = indexes(status.failed_indexes)
    # If all indexes have an end of their own, the Job's failure adds nothing.
    is_whole = failed is not None and failed.reason != "FailedIndexes"
    reason = f"its Job failed: {failed.reason}: {failed.message}" if failed is not None and is_whole else ""
    return JobProgress(indexes(status.completed_indexes), failed_indexes, reason)


def _time_left(own: Mapping[str, Any]) -> int:
    """Return the seconds that the coordinator's pod may still run; a day if it has no deadline."""
    deadline, started = own["spec"].get("activeDeadlineSeconds"), own.get("status", {}).get("startTime")
    if not deadline or not started:
        return DAY_S
    passed = (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    return max(60, int(deadline - passed))


def _namespace() -> str:
    try:
        return Path(API_TOKENS, "namespace").read_text(encoding="ascii").strip()
    except OSError:
        return "default"
