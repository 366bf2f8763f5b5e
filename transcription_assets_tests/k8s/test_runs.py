"""The real launcher and executor of dagster-k8s, over HTTP, with a stand-in for the cluster: each pod is a process.

The pods of one run start cold, as in a cluster; the others are forked with all imports done, which saves minutes.
"""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from transcription_assets import definitions
from transcription_assets.defs.executors.kubernetes import WORK_LIMIT
from transcription_assets.defs.jobs import recordings as partitions
from transcription_assets.defs.runs import RANGE_END, RANGE_START, RETRY_RUN
from transcription_assets.pipeline import audio, video
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.search.index import Index
from transcription_assets.settings import Settings
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, waiting
from transcription_assets_tests.demo import BEES, ROOT
from transcription_assets_tests.k8s import cluster_instance, forked
from transcription_assets_tests.k8s.standin_api_server import Cluster, Node, Pod, serve

pytestmark = pytest.mark.timeout(3600)  # a test waits as long as there is progress, see waiting.py

CHAIN = ("video", "audio", "transcript", "embeddings")
IMPORTED = (
    "transcription_assets_tests.k8s.standin_definitions",
    "transcription_assets.defs.executors.pods",
    "dagster._cli",
)
SETTINGS = {
    "TRANSCRIPTION_EXECUTOR": "k8s",
    "TRANSCRIPTION_DEVICE": "cuda",
    "TRANSCRIPTION_ENCODER_DEVICE": "cpu",
    "TRANSCRIPTION_K8S_GPU_NODE_SELECTOR": "pool=gpu",
    "TRANSCRIPTION_K8S_CPU_NODE_SELECTOR": "pool=cpu",
    "TRANSCRIPTION_K8S_START_LIMIT_S": "5",
}


@dataclass(slots=True)
class World:
    """One cluster, Dagster instance and store for all tests; each test has its own recordings, of distinct lengths."""

    folder: Path
    cluster: Cluster
    instance: dg.DagsterInstance
    fates: dict[str, Sequence[str]] = field(default_factory=dict)
    cold: set[str] = field(default_factory=set)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def fate(self, pod: Pod) -> str:
        """Return the failure of a `transcript` pod, from the list of its run: for the first pod, the second, …"""
        if pod.step != "transcript":
            return ""
        _, _, attempt = pod.job.removeprefix("dagster-step-").partition("-")
        fates = [*self.fates[pod.labels["dagster/run-id"]], "", "", ""]
        fate = fates[int(attempt or 0)]
        if fate == "too long":
            limit = {"name": WORK_LIMIT, "value": "0"}  # a real one is a minute at least
            pod.body["spec"]["containers"][0]["env"].append(limit)
        return fate

    def is_cold(self, pod: Pod) -> bool:
        return pod.labels["dagster/run-id"] in self.cold

    def drop(self, *seconds: int) -> list[str]:
        keys = [f"audio/{length:02}.wav" for length in seconds]
        for key, length in zip(keys, seconds, strict=True):
            recordings.tone(self.store / key, length, rate=16_000)
        self.instance.add_dynamic_partitions(str(partitions.name), keys)
        return keys

    def extracted(self, *seconds: int) -> list[str]:
        """Add recordings with extracted audio; without Dagster, which would need a pod for each step."""
        keys = self.drop(*seconds)
        store, decoder = Store.open(str(self.store)), MediaDecoder(recordings.wheel_ffmpeg())
        for key in keys:
            video.materialise(store, key, decoder)
            audio.materialise(store, key, decoder)
        return keys

    def launch(self, keys: Sequence[str], *selected: str, fates: Sequence[str] = (), cold: bool = False) -> str:
        """Start a run of these recordings and return its id."""
        settings = Settings.model_validate(
            {name.removeprefix("TRANSCRIPTION_").lower(): value for name, value in SETTINGS.items()}
        )
        assets = {dg.AssetKey(name) for name in selected}
        job = definitions.build(settings).resolve_job_def("process_recordings").get_subset(asset_selection=assets)
        single = len(keys) == 1
        origin = RepositoryPythonOrigin(
            executable_path=sys.executable,
            code_pointer=ModuleCodePointer("transcription_assets_tests.k8s.standin_definitions", "defs", str(ROOT)),
            container_image="transcription-assets:cpu",
            entry_point=["dagster"],
        )
        run = self.instance.create_run_for_job(
            job,
            asset_selection=assets,
            tags={"dagster/partition": keys[0]} if single else {RANGE_START: keys[0], RANGE_END: keys[-1]},
            job_code_origin=JobPythonOrigin("process_recordings", origin),
        )
        self.fates[run.run_id] = fates
        self.cold |= {run.run_id} if cold else set()
        self.instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        return run.run_id

    def finished(self, run_id: str) -> dg.DagsterRun:
        def is_over() -> bool:
            run = self.instance.get_run_by_id(run_id)
            return bool(run and run.is_finished)

        self.wait_until(is_over)
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait while pods write logs, events or artefacts."""
        waiting.until("what the test waits for", condition, lambda: waiting.files(self.folder))

    def failure(self, run_id: str) -> str:
        """Return the error message of the failed step."""
        (event,) = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        error = event.get_dagster_event().step_failure_data.error
        assert error
        return error.message

    def retries(self, run_id: str) -> list[str]:
        found = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
        return [str(entry.get_dagster_event().event_specific_data.error.message) for entry in found]  # type: ignore[union-attr]

    def metadata(self, asset: str, key: str) -> dict[str, Any]:
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[key]), limit=1
        ).records
        assert records[0].asset_materialization
        return {name: value.value for name, value in records[0].asset_materialization.metadata.items()}

    def heard(self) -> list[str]:
        file = self.folder / "heard"
        return file.read_text().split() if file.exists() else []

    def in_the_middle_of(self, run_id: str, seconds: int) -> Pod:
        """Wait until the `transcript` step processes this recording, which must be held, and return its pod."""
        self.wait_until(lambda: str(seconds) in self.heard())
        return self.cluster.of_run(run_id, "transcript")[-1]

    def hold(self, seconds: int) -> Path:
        file = self.folder / f"hold-{seconds}"
        file.touch()
        return file


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("k8s")
    home = folder / "home"
    variables = SETTINGS | {
        "TRANSCRIPTION_STORE": str(folder / "store"),
        "TRANSCRIPTION_FFMPEG": recordings.wheel_ffmpeg(),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONPROFILEIMPORTTIME": "1",  # each pod's log names what it imports
        "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": "0.5",
    }
    cluster = Cluster(
        folder,
        [Node({"pool": "cpu"}), Node({"pool": "gpu"}, gpus=1)],
        config_maps={"transcription-settings": variables},
        secrets={"transcription-secrets": {"AWS_SECRET_ACCESS_KEY": "only-in-the-secret"}},
    )
    with serve(cluster) as kubeconfig:
        cluster_instance.write(home, kubeconfig)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            found = World(folder, cluster, instance)
            cluster.fate, cluster.is_cold = found.fate, found.is_cold
            forked.prepare(IMPORTED, variables)
            yield found


def test_all_steps_run_in_pods_on_the_right_nodes(world: World) -> None:
    keys = [*world.drop(2), f"audio/{BEES.name}"]
    shutil.copy(BEES, world.store / "audio")
    world.instance.add_dynamic_partitions(str(partitions.name), keys[1:])
    run_id = world.launch(keys, *CHAIN, cold=True)
    run = world.finished(run_id)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    found = Index(Store.open(str(world.store)).lancedb_uri).row_counts(keys)
    assert {key for key, _etag in found} == set(keys), "both are indexed"
    placed = {step: world.cluster.of_run(run_id, step) for step in CHAIN}
    assert [len(pods) for pods in placed.values()] == [1, 1, 1, 1], "one pod for the whole batch"
    nodes = {step: pods[0].body["spec"]["nodeSelector"]["pool"] for step, pods in placed.items()}
    assert nodes == {"video": "cpu", "audio": "cpu", "transcript": "gpu", "embeddings": "cpu"}
    for pods in placed.values():
        owner = pods[0].body["metadata"]["labels"]["dagster/run-id"]
        assert owner == run_id
    owners = [job["metadata"].get("ownerReferences", []) for job in world.cluster.asked if "dagster/op" in labels(job)]
    assert all(owner[0]["kind"] == "Pod" for owner in owners), "deleting a run's pod deletes its steps"
    for key in keys:
        shown = world.metadata("transcript", key)
        assert shown["queue_s"] >= 0
        assert shown["start_s"] > 0
        assert shown["gpu_seconds"] == pytest.approx(shown["start_s"] + shown["load_s"] + shown["compute_s"], abs=0.01)
        assert shown["cost_usd"] > 0
        assert world.metadata("embeddings", key)["gpu_seconds"] == 0
    firsts = [world.metadata("transcript", key).get("first_decoded_s") for key in keys]
    assert firsts[0]
    assert firsts[1:] == [None], "reported once for each pod"


def imported(pod: Pod) -> set[str]:
    """Return the packages that a pod imported."""
    assert pod.log
    lines = [line for line in pod.log.read_text().splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_pods_import_only_what_their_step_needs(world: World) -> None:
    pods = [pod for pod in world.cluster.pods.values() if world.is_cold(pod)]
    (run,) = [pod for pod in pods if not pod.step]
    assert {"dagster", "kubernetes"} <= imported(run)
    for pod in pods:
        if pod.step in {"video", "audio"}:
            assert "dagster" in imported(pod)
            heavy = {"torch", "sentence_transformers", "lancedb"}
            if pod.step == "video":  # `audio` detects voices
                heavy |= {"faster_whisper", "ctranslate2", "av", "onnxruntime"}
            assert not imported(pod) & heavy, "would delay two steps of each batch"
        if pod.step:
            assert not imported(pod) & {"kubernetes", "dagster_k8s"}, "steps do not call the cluster"


def labels(job: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = job["metadata"]["labels"]
    return found


def test_killed_or_evicted_pod_repeats_only_its_current_recording(world: World) -> None:
    """By default Dagster fails a step that gets SIGTERM, without a retry."""
    keys = world.extracted(4, 5, 6, 7)
    killed, evicted = world.hold(5), world.hold(6)
    run_id = world.launch(keys, "transcript")
    world.in_the_middle_of(run_id, 5).kill(signal.SIGKILL)
    killed.unlink()
    pod = world.in_the_middle_of(run_id, 6)
    world.cluster.end(pod, "Evicted", signal.SIGTERM)
    world.wait_until(lambda: len(world.cluster.of_run(run_id, "transcript")) == 3)
    evicted.unlink()
    assert world.finished(run_id).status is dg.DagsterRunStatus.SUCCESS
    assert sorted(item for item in world.heard() if item in "4567") == ["4", "5", "5", "6", "6", "7"]
    told = world.retries(run_id)
    assert "exit code" in told[0]
    assert len(told) == 2


@dataclass(frozen=True, slots=True)
class IllFated:
    """The finished run of each fate; `blocked` is the number of pods while a run waited for the pool's only slot."""

    runs: Mapping[str, dg.DagsterRun]
    blocked: int


@pytest.fixture(scope="module")
def ill_fated(world: World) -> IllFated:
    """Start a run with the pool's only slot and one that waits for it, then the others at the same time."""
    fates = ["OOMKilled", "lost", "too long", "no node", "no image", "no secret"]
    seconds = {fate: 20 + number for number, fate in enumerate(fates[:3])}
    *heard, unheard = world.extracted(*seconds.values(), 30)
    keys = dict.fromkeys(fates, unheard) | dict(zip(seconds, heard, strict=True))
    holds = {fate: world.hold(seconds[fate]) for fate in seconds}

    def launch(fate: str) -> str:
        return world.launch([keys[fate]], "transcript", fates=(fate, "without a word" if fate == "lost" else ""))

    pool = world.instance.event_log_storage
    pool.set_concurrency_slots("gpu", 1)
    holding = launch("OOMKilled")
    held = world.in_the_middle_of(holding, seconds["OOMKilled"])
    queued = launch("lost")
    world.wait_until(lambda: any("blocked" in entry.message for entry in world.instance.all_logs(queued)))
    blocked = len(world.cluster.of_run(queued, "transcript"))
    world.cluster.end(held, "OOMKilled")
    world.cluster.lose(world.in_the_middle_of(queued, seconds["lost"]))
    pool.set_concurrency_slots("gpu", len(fates))  # not deleted: on SQLite that fails a run that is starting
    runs = {"OOMKilled": holding, "lost": queued} | {fate: launch(fate) for fate in fates[2:]}
    too_long = world.in_the_middle_of(runs["too long"], seconds["too long"])
    world.cluster.end(too_long, "DeadlineExceeded", signal.SIGTERM)
    for hold in holds.values():
        hold.unlink()
    return IllFated({fate: world.finished(run_id) for fate, run_id in runs.items()}, blocked)


def test_pool_limits_the_gpu_pods_of_all_runs(ill_fated: IllFated) -> None:
    assert ill_fated.blocked == 0, "the only slot was taken"
    assert ill_fated.runs["lost"].status is dg.DagsterRunStatus.SUCCESS, "and was released"


def test_unschedulable_pod_fails_the_step_and_its_run_is_retried(world: World, ill_fated: IllFated) -> None:
    run = ill_fated.runs["no node"]
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "Unschedulable" in world.failure(run.run_id)
    assert "0/2 nodes are available" in world.failure(run.run_id)
    assert world.retries(run.run_id) == []
    assert run.tags[RETRY_RUN] == "true"
    pods = world.cluster.of_run(run.run_id, "transcript")
    assert pods == [], "a leftover pod could be scheduled later"


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("no image", "ImagePullBackOff"),
        ("no secret", 'secret "transcr'),
        ("OOMKilled", "12288Mi"),
        ("too long", "DeadlineExceeded"),
    ],
)
def test_failure_that_would_recur_is_not_retried(world: World, ill_fated: IllFated, fate: str, said: str) -> None:
    run = ill_fated.runs[fate]
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert said in world.failure(run.run_id)
    assert world.retries(run.run_id) == []
    assert RETRY_RUN not in run.tags


def test_lost_pods_and_pods_without_a_result_are_replaced(world: World, ill_fated: IllFated) -> None:
    run = ill_fated.runs["lost"]
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert len(world.retries(run.run_id)) == 2


def test_killed_run_pod_fails_the_run_with_its_reason(world: World) -> None:
    """Run monitoring calls this check; without it such a run never ends."""
    (key,) = world.drop(9)
    run_id = world.launch([key], "video")
    world.cluster.end(world.cluster.of_run(run_id, "")[0], "OOMKilled")
    run = world.instance.get_run_by_id(run_id)
    assert run
    launcher = world.instance.run_launcher
    world.wait_until(lambda: launcher.check_run_worker_health(run).status is WorkerStatus.FAILED)
    assert "OOMKilled" in str(launcher.get_run_worker_debug_info(run))
