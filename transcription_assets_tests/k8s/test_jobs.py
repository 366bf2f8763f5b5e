"""The Jobs of all steps as dagster-k8s builds them, compared with those stored beside this test.

After an intended change, store them again with `python -m transcription_assets_tests.k8s.test_jobs` and read the diff.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.context.system import PlanData, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import create_context_free_log_manager
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.init import InitExecutorContext
from dagster._core.executor.step_delegating import StepHandlerContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._grpc.types import ExecuteStepArgs
from dagster_shared.error import SerializableErrorInfo
from kubernetes.client import ApiClient, ApiException

from transcription_assets import definitions
from transcription_assets.costs import prices
from transcription_assets.defs.assets import GRAPH
from transcription_assets.defs.executors.kubernetes import WORK_LIMIT
from transcription_assets.defs.executors.pod_failures import PodOutcome, Retry
from transcription_assets.defs.jobs import recordings
from transcription_assets.defs.runs import RANGE_END, RANGE_START, RETRY_RUN
from transcription_assets.defs.sources import sources
from transcription_assets.errors import PermanentFailure
from transcription_assets.settings import Settings
from transcription_assets_tests.k8s import cluster_instance

STORED = Path(__file__).with_name("jobs")
RUN = "00000000-0000-4000-8000-000000000000"
KEYS = ["video/a.mp4", "video/b.mp4"]
SECRET = "never-in-a-job"
CLUSTERS: Mapping[str, Mapping[str, Any]] = {
    "gpu": {
        "device": "cuda",
        "encoder_device": "cpu",
        "k8s_gpu_image": "transcription-assets:gpu",
        "k8s_gpu_node_selector": "pool=gpu",
        "k8s_cpu_node_selector": "pool=cpu",
        "k8s_service_account": "transcription",
        "k8s_spot": True,
    },
    "local": {"device": "cpu", "k8s_scale": 0.25},
}


@dataclass(slots=True)
class Built:
    """A Dagster instance, and the Jobs that it would create; no API server is involved."""

    instance: dg.DagsterInstance
    settings: Settings
    jobs: dict[str, Any] = field(default_factory=dict)
    """Step -> Job."""

    def executor(self) -> Any:
        """Return the executor as the process of a run creates it."""
        executor = definitions.build(self.settings).executor
        assert isinstance(executor, dg.ExecutorDefinition)
        assert executor.executor_creation_fn
        job = InMemoryJob(self.job)
        return executor.executor_creation_fn(InitExecutorContext(job, executor, {}, self.instance))

    @property
    def job(self) -> dg.JobDefinition:
        return definitions.build(self.settings).resolve_implicit_global_asset_job_def()

    def all(self, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the Job of each step, by the step's name."""
        context = self.context(tags)
        origin, run = context.dagster_run.job_code_origin, context.dagster_run
        assert origin
        for step in context.execution_plan.steps:
            arguments = ExecuteStepArgs(origin, RUN, [step.key], instance_ref=None, retry_mode=RetryMode.ENABLED)
            handler = context.executor._step_handler  # type: ignore[attr-defined] # noqa: SLF001
            list(handler.launch_step(StepHandlerContext(self.instance, context, [step], arguments, run)))
        return self.jobs

    def context(self, tags: Mapping[str, str] | None = None) -> PlanOrchestrationContext:
        """Return the context of a run of all steps; its executor creates Jobs in this object, not in a cluster."""
        job = self.job
        plan = create_execution_plan(job)
        origin = RepositoryPythonOrigin(
            executable_path="python",
            code_pointer=ModuleCodePointer("transcription_assets.definitions", "defs"),
            container_image="transcription-assets:cpu",
            entry_point=["dagster"],
        )
        range_tags = {RANGE_START: KEYS[0], RANGE_END: KEYS[1]}
        run = dg.DagsterRun(
            "process_recordings",
            RUN,
            job_code_origin=JobPythonOrigin("process_recordings", origin),
            tags={**range_tags, **(tags or {})},
        )
        executor = self.executor()
        handler = executor._step_handler  # noqa: SLF001 -- calls the cluster
        handler._api_client.create_namespaced_job_with_retries = self._asked  # noqa: SLF001
        handler._detect_current_name_and_uid = lambda: ("pod-of-the-run", "uid-of-that-pod")  # noqa: SLF001
        return PlanOrchestrationContext(
            PlanData(InMemoryJob(job), run, self.instance, plan, retry_mode=RetryMode.ENABLED),
            create_context_free_log_manager(self.instance, run),
            executor,
            None,
        )

    def _asked(self, body: Any, namespace: str) -> None:
        assert namespace == cluster_instance.NAMESPACE
        job = ApiClient().sanitize_for_serialization(body)
        for variable in job["spec"]["template"]["spec"]["containers"][0]["env"]:
            if variable["name"] == "DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS":
                variable["value"] = "…"
            elif variable["name"] == "DAGSTER_HOME":
                variable["value"] = "/opt/dagster/dagster_home"
        self.jobs[job["metadata"]["labels"]["dagster/op"]] = job


@cache
def history() -> Mapping[str, bytes]:
    """Return the files of a Dagster home that knows the recordings: to create its tables takes more than a test."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "dagster.yaml").touch()
        with dg.DagsterInstance.from_config(folder) as instance:
            instance.add_dynamic_partitions(str(recordings.name), KEYS)
            for key, seconds in zip(KEYS, (3600.0, 1800.0), strict=True):
                told = {"duration_s": dg.MetadataValue.float(seconds)}
                instance.report_runless_asset_event(dg.AssetMaterialization("audio", partition=key, metadata=told))
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*.db")}


def built(folder: Path, **settings: Any) -> Built:
    for name, content in history().items():
        path = folder / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    kubeconfig = cluster_instance.write_kubeconfig(folder / "kubeconfig.json", "http://127.0.0.1:9")
    cluster_instance.write(folder / "home", kubeconfig)
    instance = dg.DagsterInstance.from_config(str(folder / "home"))
    return Built(instance, Settings.model_validate({"executor": "k8s", **settings}))


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    found = built(tmp_path_factory.mktemp("gpu"), **CLUSTERS["gpu"])
    with found.instance:
        found.all()
        yield found


def pod(job: Any) -> Any:
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_jobs_of_all_steps_equal_the_stored_ones(tmp_path: Path, cluster: str) -> None:
    found = built(tmp_path, **CLUSTERS[cluster])
    with found.instance:
        jobs = found.all()
    graph = [sources, *GRAPH]
    assert set(jobs) == {str(asset.key.to_user_string()) for asset in graph if isinstance(asset, dg.AssetsDefinition)}
    assert jobs == json.loads((STORED / f"{cluster}.json").read_text(encoding="utf-8"))


def test_node_settings_of_the_launcher_do_not_reach_steps(gpu: Built) -> None:
    for step, job in gpu.jobs.items():
        wanted = {"pool": "gpu"} if step == "transcript" else {"pool": "cpu"}
        assert pod(job)["nodeSelector"] == wanted, "no node is in both pools"
        assert "only-for-runs" not in json.dumps(job)
        assert pod(job)["containers"][0]["resources"]["limits"]["memory"] != "1Gi", "the limit of runs"


def test_cpu_node_selector_of_launcher_does_not_reach_gpu_steps(
    tmp_path: Path,
) -> None:
    found = built(tmp_path, device="cuda")
    with found.instance:
        assert pod(found.all()["transcript"])["nodeSelector"] == {}


def test_environment_sources_of_the_launcher_reach_the_steps(gpu: Built) -> None:
    for job in gpu.jobs.values():
        names = [next(iter(source.values()))["name"] for source in pod(job)["containers"][0]["envFrom"]]
        assert names == ["transcription-settings", "transcription-secrets"]


def test_jobs_of_steps_never_start_a_second_pod(gpu: Built) -> None:
    """A second pod would exit because the step has started, and the run would wait forever (dagster#33755)."""
    for job in gpu.jobs.values():
        assert job["spec"]["backoffLimit"] == 0
        assert "podFailurePolicy" not in job["spec"]
        assert pod(job)["restartPolicy"] == "Never"


def test_tags_of_a_run_do_not_reach_step_pods(gpu: Built) -> None:
    """Tags change only the run's own pod, so the executor sets the resources of steps."""
    tag = {"dagster-k8s/config": json.dumps({"container_config": {"resources": {"limits": {"cpu": "9"}}}})}
    assert gpu.all(tag) == json.loads((STORED / "gpu.json").read_text(encoding="utf-8"))


def test_jobs_contain_no_secrets_and_no_service_account_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = built(tmp_path, **CLUSTERS["gpu"])
    with found.instance:
        jobs = found.all()
    for job in jobs.values():
        assert SECRET not in json.dumps(job)
        assert pod(job)["automountServiceAccountToken"] is False


def test_time_waiting_for_a_node_is_not_part_of_the_limit(gpu: Built) -> None:
    """A Job's `activeDeadlineSeconds` starts at its creation, a pod's when it is scheduled."""
    settings = gpu.settings
    for step, job in gpu.jobs.items():
        assert "activeDeadlineSeconds" not in job["spec"]
        sounds = 5400 * settings.step_per_second + settings.step_floor_s
        known = step in {"transcript", "embeddings"}
        limit = settings.k8s_start_limit_s + (sounds if known else 86_400)
        assert pod(job)["activeDeadlineSeconds"] == limit, "from the batch's duration if known"
        told = {item["name"]: item.get("value") for item in pod(job)["containers"][0]["env"]}
        assert float(told[WORK_LIMIT] or 0) == limit - settings.k8s_start_limit_s, "tells it from an eviction"
        assert told["OMP_NUM_THREADS"], "the other variables are kept"


def test_prices_match_the_resources_of_the_pods(gpu: Built) -> None:
    """Prices and resource requests come from one table."""
    specs = {spec.key.to_user_string(): spec for spec in definitions.build(gpu.settings).resolve_all_asset_specs()}
    for step, job in gpu.jobs.items():
        asked, told = pod(job)["containers"][0]["resources"], specs[step].metadata
        assert asked["requests"] | {"cpu": asked["limits"]["cpu"]} == asked["limits"], "guaranteed QoS class"
        assert asked["requests"]["cpu"] == f"{told['cpus'] * 1000:.0f}m"
        assert int(asked["requests"].get("nvidia.com/gpu", 0)) == told["gpus"]
    spot = prices.GPU_USD_PER_HOUR * prices.SPOT_SHARE
    assert specs["transcript"].metadata["usd_per_hour"] == pytest.approx(spot)


@pytest.mark.parametrize(
    ("step", "again", "retried"),
    [
        ("video", Retry.RUN, True),
        ("video", Retry.STEP, True),
        ("video", Retry.NEVER, False),
        ("transcript", Retry.RUN, False),
    ],
)
def test_run_is_retried_only_if_automation_does_not_continue(
    tmp_path: Path, step: str, again: Retry, *, retried: bool
) -> None:
    """Otherwise a recording has two runs after a GPU pod found no node (observed on a cluster)."""
    found = built(tmp_path, **CLUSTERS["gpu"])
    with found.instance:
        context = found.context()
        found.instance.add_run(context.dagster_run)
        executor: Any = context.executor
        executor._step_handler._outcomes[step] = PodOutcome("no node", again)  # noqa: SLF001 -- as if observed
        (planned,) = (item for item in context.execution_plan.steps if item.key == step)
        error = SerializableErrorInfo("no node", [], None)
        event = executor.log_failure_or_retry_event_after_error(context.for_step(planned), error, KnownExecutionState())
        run = found.instance.get_run_by_id(RUN)
    assert run
    assert (RETRY_RUN in run.tags) is retried
    assert event.is_step_up_for_retry is (again is Retry.STEP)


def test_missing_permission_to_read_events_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Dagster only logs the error, at every poll, for two days."""
    found = built(tmp_path)

    def refused(*_names: str) -> list[Any]:
        raise ApiException(status=403, reason="Forbidden")

    with found.instance:
        handler = found.executor()._step_handler  # noqa: SLF001 -- calls the cluster
        monkeypatch.setattr(handler._api_client, "retrieve_pod_events", refused)  # noqa: SLF001
        assert handler._warnings(cluster_instance.NAMESPACE, ["dagster-step-1"]) == ""  # noqa: SLF001


def test_executor_requires_the_kubernetes_run_launcher() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        found = Built(instance, Settings.model_validate({"executor": "k8s"}))
        with pytest.raises(PermanentFailure) as caught:
            found.executor()
        assert "K8sRunLauncher" in caught.value.hint


if __name__ == "__main__":
    STORED.mkdir(exist_ok=True)
    for name, settings in CLUSTERS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = built(Path(folder), **settings)
            with found.instance:
                text = json.dumps(found.all(), indent=1, ensure_ascii=False, sort_keys=True)
        (STORED / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    sys.stdout.write(f"stored in {STORED.name}/\n")
