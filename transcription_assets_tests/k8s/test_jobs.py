"""The Jobs of all steps as dagster-k8s really builds them, held against those stored beside this test.

What changes them on purpose stores them again: `python -m transcription_assets_tests.k8s.test_jobs`; read the diff.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from transcription_assets.costs import report
from transcription_assets.defs.assets import GRAPH
from transcription_assets.defs.executors.deadlines import WORK_LIMIT
from transcription_assets.defs.executors.pod_failures import PodOutcome, Retry
from transcription_assets.defs.failed_runs import RETRY_RUN
from transcription_assets.defs.partitions import recordings as partitions
from transcription_assets.defs.sensor.sensor import RANGE_END, RANGE_START
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
    """An instance, and the Jobs that were asked of it: nothing answers."""

    instance: dg.DagsterInstance
    settings: Settings
    jobs: dict[str, Any] = field(default_factory=dict)
    """Of each step, by its name."""

    def executor(self) -> Any:
        """As the process of a run makes it."""
        executor = definitions.build(self.settings).executor
        assert isinstance(executor, dg.ExecutorDefinition)
        assert executor.executor_creation_fn
        job = InMemoryJob(self.job)
        return executor.executor_creation_fn(InitExecutorContext(job, executor, {}, self.instance))

    @property
    def job(self) -> dg.JobDefinition:
        return definitions.build(self.settings).resolve_implicit_global_asset_job_def()

    def all(self, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The Job of each step, by the step's name."""
        context = self.context(tags)
        origin, run = context.dagster_run.job_code_origin, context.dagster_run
        assert origin
        for step in context.execution_plan.steps:
            arguments = ExecuteStepArgs(origin, RUN, [step.key], instance_ref=None, retry_mode=RetryMode.ENABLED)
            handler = context.executor._step_handler  # type: ignore[attr-defined] # noqa: SLF001
            list(handler.launch_step(StepHandlerContext(self.instance, context, [step], arguments, run)))
        return self.jobs

    def context(self, tags: Mapping[str, str] | None = None) -> PlanOrchestrationContext:
        """That of a run over all steps; its executor asks this test instead of a cluster."""
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
        handler = executor._step_handler  # noqa: SLF001 -- who talks to the cluster
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


def built(folder: Path, **settings: Any) -> Built:
    kubeconfig = cluster_instance.write_kubeconfig(folder / "kubeconfig.json", "http://127.0.0.1:9")
    cluster_instance.write(folder / "home", kubeconfig)
    instance = dg.DagsterInstance.from_config(str(folder / "home"))
    instance.add_dynamic_partitions(str(partitions.name), KEYS)
    for key, seconds in zip(KEYS, (3600.0, 1800.0), strict=True):
        told = {"duration_s": dg.MetadataValue.float(seconds)}
        instance.report_runless_asset_event(dg.AssetMaterialization("audio", partition=key, metadata=told))
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
def test_the_jobs_are_those_that_are_stored_and_every_step_has_one(tmp_path: Path, cluster: str) -> None:
    found = built(tmp_path, **CLUSTERS[cluster])
    with found.instance:
        jobs = found.all()
    assert set(jobs) == {str(asset.key.to_user_string()) for asset in GRAPH if isinstance(asset, dg.AssetsDefinition)}
    assert jobs == json.loads((STORED / f"{cluster}.json").read_text(encoding="utf-8"))


def test_what_the_launcher_says_of_nodes_does_not_leak_into_steps(gpu: Built) -> None:
    for step, job in gpu.jobs.items():
        wanted = {"pool": "gpu"} if step == "transcript" else {"pool": "cpu"}
        assert pod(job)["nodeSelector"] == wanted, "a GPU step would wait for a node that is both"
        assert "only-for-runs" not in json.dumps(job)
        assert pod(job)["containers"][0]["resources"]["limits"]["memory"] != "1Gi", "that is the run's"


def test_a_launcher_that_selects_cpu_nodes_does_not_keep_a_gpu_step_without_a_selector_from_its_gpu(
    tmp_path: Path,
) -> None:
    found = built(tmp_path, device="cuda")
    with found.instance:
        assert pod(found.all()["transcript"])["nodeSelector"] == {}


def test_what_the_launcher_gives_to_all_reaches_the_steps(gpu: Built) -> None:
    for job in gpu.jobs.values():
        names = [next(iter(source.values()))["name"] for source in pod(job)["containers"][0]["envFrom"]]
        assert names == ["transcription-settings", "transcription-secrets"]


def test_no_step_is_ever_given_a_second_pod_by_its_job(gpu: Built) -> None:
    """It would find the step started and leave, and the run would wait for ever (dagster#33755)."""
    for job in gpu.jobs.values():
        assert job["spec"]["backoffLimit"] == 0
        assert "podFailurePolicy" not in job["spec"]
        assert pod(job)["restartPolicy"] == "Never"


def test_the_tags_of_a_run_do_not_reach_step_pods(gpu: Built) -> None:
    """Why sizes are the executor's: what a person writes on the run changes the run's own pod only."""
    tag = {"dagster-k8s/config": json.dumps({"container_config": {"resources": {"limits": {"cpu": "9"}}}})}
    assert gpu.all(tag) == json.loads((STORED / "gpu.json").read_text(encoding="utf-8"))


def test_a_job_holds_no_secret_and_no_key_to_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = built(tmp_path, **CLUSTERS["gpu"])
    with found.instance:
        jobs = found.all()
    for job in jobs.values():
        assert SECRET not in json.dumps(job)
        assert pod(job)["automountServiceAccountToken"] is False


def test_the_wait_for_a_node_is_no_part_of_the_time_limit(gpu: Built) -> None:
    """A Job's own `activeDeadlineSeconds` begins when it is made, a pod's when a node has it."""
    settings = gpu.settings
    for step, job in gpu.jobs.items():
        assert "activeDeadlineSeconds" not in job["spec"]
        sounds = 5400 * settings.step_per_second + settings.step_floor_s
        known = step in {"transcript", "embeddings"}
        limit = settings.k8s_start_limit_s + (sounds if known else 86_400)
        assert pod(job)["activeDeadlineSeconds"] == limit, "it follows from what the batch lasts, where that is known"
        told = {item["name"]: item.get("value") for item in pod(job)["containers"][0]["env"]}
        assert float(told[WORK_LIMIT] or 0) == limit - settings.k8s_start_limit_s, "else it takes that for an eviction"
        assert told["OMP_NUM_THREADS"], "nothing else of the step's environment is lost by that"


def test_pods_are_priced_as_they_are_made(gpu: Built) -> None:
    """One table says both."""
    specs = {spec.key.to_user_string(): spec for spec in definitions.build(gpu.settings).resolve_all_asset_specs()}
    for step, job in gpu.jobs.items():
        asked, told = pod(job)["containers"][0]["resources"], specs[step].metadata
        assert asked["requests"] | {"cpu": asked["limits"]["cpu"]} == asked["limits"], "none is evicted before others"
        assert asked["requests"]["cpu"] == f"{told['cpus'] * 1000:.0f}m"
        assert int(asked["requests"].get("nvidia.com/gpu", 0)) == told["gpus"]
    spot = report.GPU_USD_PER_HOUR * report.SPOT_SHARE
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
def test_a_run_comes_again_only_where_automation_would_not_carry_on_by_itself(
    tmp_path: Path, step: str, again: Retry, *, retried: bool
) -> None:
    """Seen on a cluster: after a GPU pod that found no node, two runs for the same recording."""
    found = built(tmp_path, **CLUSTERS["gpu"])
    with found.instance:
        context = found.context()
        found.instance.add_run(context.dagster_run)
        executor: Any = context.executor
        executor._step_handler._endings[step] = PodOutcome("no node", again)  # noqa: SLF001 -- as the cluster told
        (planned,) = (item for item in context.execution_plan.steps if item.key == step)
        error = SerializableErrorInfo("no node", [], None)
        event = executor.log_failure_or_retry_event_after_error(context.for_step(planned), error, KnownExecutionState())
        run = found.instance.get_run_by_id(RUN)
    assert run
    assert (RETRY_RUN in run.tags) is retried
    assert event.is_step_up_for_retry is (again is Retry.STEP)


def test_who_may_not_read_events_still_learns_that_a_pod_never_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster would only log the error, at every look, for two days."""
    found = built(tmp_path)

    def refused(*_names: str) -> list[Any]:
        raise ApiException(status=403, reason="Forbidden")

    with found.instance:
        handler = found.executor()._step_handler  # noqa: SLF001 -- who talks to the cluster
        monkeypatch.setattr(handler._api_client, "retrieve_pod_events", refused)  # noqa: SLF001
        assert handler._warnings(cluster_instance.NAMESPACE, ["dagster-step-1"]) == ""  # noqa: SLF001


def test_without_the_launcher_of_the_cluster_it_is_said_what_to_mend() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        found = Built(instance, Settings.model_validate({"executor": "k8s"}))
        with pytest.raises(PermanentFailure, match=r"needs K8sRunLauncher in dagster\.yaml"):
            found.executor()


if __name__ == "__main__":
    STORED.mkdir(exist_ok=True)
    for name, settings in CLUSTERS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = built(Path(folder), **settings)
            with found.instance:
                text = json.dumps(found.all(), indent=1, ensure_ascii=False, sort_keys=True)
        (STORED / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    sys.stdout.write(f"stored in {STORED.name}/\n")
