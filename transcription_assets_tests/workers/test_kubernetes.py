"""The launcher `kubernetes`: its Job, the phases of pods, and failures of a STAND-IN cluster (pods are processes)."""

import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline.quarantine import WorkerDied
from transcription_assets.pipeline.transcript import TranscriptTools
from transcription_assets.storage import Store
from transcription_assets.workers import kubernetes
from transcription_assets.workers.coordinator import WorkerTranscriber
from transcription_assets.workers.kubernetes_job import COMPONENT, WorkerJob, label
from transcription_assets.workers.launcher import Phase, ShardState
from transcription_assets.workers.manifest import Manifest
from transcription_assets.workers.nodes import Cluster
from transcription_assets.workers.pod_phases import Durations, JobProgress, failed_state, indexes, live_state
from transcription_assets.workers.pods import Pod
from transcription_assets_tests import waiting
from transcription_assets_tests.chain import script
from transcription_assets_tests.fakes import ScriptedEngine
from transcription_assets_tests.k8s import schemas
from transcription_assets_tests.k8s.cluster_instance import NAMESPACE
from transcription_assets_tests.workers.batch import FFMPEG, WORKER, extracted
from transcription_assets_tests.workers.launchers import all_final, processes, watched, work
from transcription_assets_tests.workers.pods import OWN, SECRET, PodPlace

GPU = Cluster(
    gpu_steps=frozenset({"transcript"}),
    coordinated=frozenset({"transcript"}),
    service_account="transcription",
    gpu_image="transcription-assets:gpu",
    gpu_nodes={"pool": "gpu"},
    cpu_nodes={"pool": "cpu"},
)
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def gpu_job(shards: int = 7) -> dict[str, Any]:
    work = Manifest("0" * 32, "run-1", "transcript", {}, (), ((),) * shards, 0.0)
    return WorkerJob(GPU, 3, ("transcription-assets", "work")).body(work, OWN, 3600)


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_job_is_valid_for_old_and_current_api_servers(version: str) -> None:
    body = gpu_job()
    body["metadata"]["namespace"] = NAMESPACE
    schemas.validate(body, version)


def test_job_has_an_index_for_each_shard_and_ends_with_its_owner() -> None:
    body = gpu_job()
    spec = body["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 7, 3)
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (0, 7)
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore", "FailIndex"]
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [65]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (3600, 3600)
    assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == ["uid-coordinator"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_worker_pods_are_on_gpu_nodes_like_the_coordinator() -> None:
    pod = gpu_job()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert "nodeName" not in pod
    assert [item["key"] for item in pod["tolerations"]] == ["nvidia.com/gpu"]
    assert container["image"] == "transcription-assets:gpu"
    assert container["args"] == ["transcription-assets", "work", "0" * 32, "--stage", "transcript"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (disk,) = [item["value"] for item in container["env"] if item["name"] == "TRANSCRIPTION_DISK_GIB"]
    assert float(disk) == GPU.work_size("transcript").disk_gib
    assert pod["securityContext"] == OWN["spec"]["securityContext"]
    assert container["securityContext"] == OWN["spec"]["containers"][0]["securityContext"]
    assert {"name": "AWS_REGION", "value": "eu-central-1"} in container["env"]


def test_worker_pods_hold_no_database_secret_and_no_token() -> None:
    template = gpu_job()["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    assert SECRET not in json.dumps(template)
    assert not [item for item in container["env"] if item["name"].startswith("DAGSTER_")]
    assert [next(iter(item.values()))["name"] for item in container["envFrom"]] == [
        "transcription-settings",
        "transcription-secrets",
    ]
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "transcription"
    assert [item["name"] for item in pod["volumes"]] == ["models", "tmp"]
    assert [item["name"] for item in container["volumeMounts"]] == ["models", "tmp"]
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] == COMPONENT


def test_coordinator_needs_no_gpu_but_the_price_is_that_of_workers() -> None:
    assert GPU.size("transcript").gpus == 0
    assert GPU.work_size("transcript").gpus == 1


@pytest.mark.parametrize(
    ("text", "expected"), [("", []), (None, []), ("1,3-5", [1, 3, 4, 5]), ("0", [0]), ("2-3,7", [2, 3, 7])]
)
def test_indexes_of_a_status_are_parsed(text: str | None, expected: list[int]) -> None:
    assert sorted(indexes(text)) == expected


def test_owner_becomes_a_valid_label() -> None:
    assert label("5f0c-1") == "5f0c-1"
    assert label("é/a b") == "a-b"
    assert len(label("x" * 99)) == 63


def pod(phase: str = "Failed", **changes: Any) -> Pod:
    return Pod("p", phase, NOW, **{"placed": NOW, **changes})


ERROR = '{"event": "error", "reason": "no weights", "transient": false}'
DONE = '{"event": "done", "code": 65}'


@pytest.mark.parametrize(
    ("found", "log", "expected"),
    [
        (pod(ended="OOMKilled", exit_code=137), "", Phase.DIED),
        (pod(ended="Error", exit_code=137), "", Phase.DIED),
        (pod(ended="Error", exit_code=139), "", Phase.DIED),
        (pod(ended="Error", exit_code=134), "", Phase.DIED),
        (pod(ended="Error", exit_code=1), "Traceback", Phase.DIED),
        (pod(ended="Error", exit_code=143), "", Phase.LOST),
        (pod(reason="Evicted", exit_code=137), "", Phase.LOST),
        (pod(disrupted="PreemptionByScheduler", exit_code=137), "", Phase.LOST),
        (pod(reason="NodeLost"), "", Phase.LOST),
        (pod(reason="OutOfnvidia.com/gpu"), "", Phase.LOST),
        (pod(ended="Error", exit_code=65), f"noise\n{ERROR}", Phase.REFUSED),
        (pod(ended="Error", exit_code=65), f"noise\n{DONE}\nmore noise", Phase.ENDED),
        (pod(ended="Error", exit_code=65), "", Phase.REFUSED),
        (pod(ended="Error", exit_code=75), ERROR.replace("false", "true"), Phase.LOST),
        (pod(ended="Error", exit_code=75), DONE, Phase.ENDED),
        (pod(ended="StartError", exit_code=128), "", Phase.REFUSED),
    ],
)
def test_failed_pod_has_a_phase(found: Pod, log: str, expected: Phase) -> None:
    assert failed_state(found, log, has_status=False).phase is expected


def test_reason_holds_the_end_of_the_log() -> None:
    state = failed_state(pod(ended="Error", exit_code=139), "{}\nlibcublas: bad\n", has_status=True)
    assert "libcublas: bad" in state.reason
    assert failed_state(pod(exit_code=65), "", has_status=True).phase is Phase.ENDED, "without a log the status tells"


PENDING = pod("Pending", placed=None)


@pytest.mark.parametrize(
    ("found", "job", "since", "expected"),
    [
        (None, JobProgress(), Durations(), Phase.WAITING),
        (None, JobProgress(), Durations(unplaced_s=99), Phase.LOST),
        (None, JobProgress(failed=frozenset({0})), Durations(), Phase.LOST),
        (None, JobProgress(completed=frozenset({0})), Durations(), Phase.ENDED),
        (None, JobProgress(failure="DeadlineExceeded"), Durations(), Phase.LOST),
        (PENDING, JobProgress(), Durations(), Phase.WAITING),
        (PENDING, JobProgress(), Durations(unplaced_s=99), Phase.LOST),
        (pod("Pending"), JobProgress(), Durations(starting_s=99), Phase.LOST),
        (pod("Pending", waiting="ErrImagePull"), JobProgress(), Durations(), Phase.WAITING),
        (pod("Pending", waiting="ErrImagePull"), JobProgress(), Durations(erring_s=999), Phase.LOST),
        (pod("Pending", waiting="InvalidImageName"), JobProgress(), Durations(), Phase.REFUSED),
        (
            pod("Pending", waiting="CreateContainerConfigError"),
            JobProgress(),
            Durations(erring_s=999),
            Phase.REFUSED,
        ),
        (pod("Running"), JobProgress(), Durations(), Phase.RUNNING),
        (pod("Running"), JobProgress(), Durations(leaving_s=999), Phase.LOST),
        (pod("Succeeded"), JobProgress(), Durations(), Phase.ENDED),
        (pod(disrupted="Evicted"), JobProgress(), Durations(), Phase.WAITING),
    ],
)
def test_pod_that_did_not_fail_has_a_phase(
    found: Pod | None, job: JobProgress, since: Durations, expected: Phase
) -> None:
    state = live_state(0, found, job, since, 50.0)
    assert state
    assert state.phase is expected


def test_failed_pod_is_judged_by_its_end() -> None:
    assert live_state(0, pod(exit_code=137), JobProgress(), Durations(), 50.0) is None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def test_evicted_worker_is_replaced_by_the_cluster(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    given = work(store, tmp_path, 5)
    launcher = pods.launcher(1, given.command, DECODE_S="2")
    with launcher.launch(store, given.manifest) as launched:
        watched(launched, lambda states: states[0].phase is Phase.RUNNING)
        pods.cluster.end(pods.pods()[0], "Evicted", signal.SIGTERM)
        states = watched(launched, all_final)
        assert len(pods.pods()) == 2
    assert states[0] == ShardState(Phase.ENDED)
    assert given.is_done(0)


def test_killed_for_memory_is_a_death(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    given = work(store, tmp_path, 5)
    launcher = pods.launcher(1, given.command, DECODE_S="600")
    with launcher.launch(store, given.manifest) as launched:
        watched(launched, lambda states: states[0].phase is Phase.RUNNING)
        pods.cluster.end(pods.pods()[0], "OOMKilled")
        states = watched(launched, all_final)
    assert states[0].phase is Phase.DIED
    assert "OOMKilled" in states[0].reason


def test_workers_end_when_the_pod_of_their_coordinator_is_deleted(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    given = work(store, tmp_path, 5)
    launcher = pods.launcher(1, given.command, DECODE_S="600")
    launched = launcher.launch(store, given.manifest)
    watched(launched, lambda states: states[0].phase is Phase.RUNNING)
    assert processes(str(tmp_path))
    pods.cluster.delete_pod("coordinator")
    waiting.until("no worker is left", lambda: not processes(str(tmp_path)), lambda: None)
    assert watched(launched, all_final)[0].phase is Phase.LOST


def test_next_attempt_of_a_run_ends_the_workers_of_the_last(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    given = work(store, tmp_path, 5)
    launcher = pods.launcher(1, given.command, DECODE_S="600")
    launcher.launch(store, given.manifest)  # as by a coordinator that was killed
    before = [job["metadata"]["uid"] for job in pods.cluster.jobs.values()]
    again = work(store, tmp_path, 5, identifier="2" * 32)
    with launcher.launch(store, again.manifest):
        waiting.until("the first is gone", lambda: len(pods.cluster.jobs) == 1, lambda: None)
        assert before != [job["metadata"]["uid"] for job in pods.cluster.jobs.values()]


def test_unschedulable_shard_is_lost(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    given = work(store, tmp_path, 5)
    pods.cluster.fate = lambda _pod: "no node"
    launcher = pods.launcher(1, given.command, start_limit_s=1.0)
    with launcher.launch(store, given.manifest) as launched:
        states = watched(launched, all_final)
    assert states[0].phase is Phase.LOST
    assert "0/2 nodes are available" in states[0].reason
    assert not pods.pods()


def test_young_shards_are_looked_at_often(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    given = work(store, tmp_path, 5)
    launcher = pods.launcher(1, given.command)
    launcher.wait_s = 60.0
    with launcher.launch(store, given.manifest) as launched:
        begun = time.monotonic()
        launched.wait()
        assert time.monotonic() - begun < 20


def test_deletion_of_ended_pods_is_not_waited_for(
    pods: PodPlace, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(pods.cluster), "_deleted", lambda *_: None)
    given = work(store, tmp_path, 5)
    with pods.launcher(1, given.command).launch(store, given.manifest) as launched:
        assert watched(launched, all_final)[0].phase is Phase.ENDED
        begun = time.monotonic()
    assert time.monotonic() - begun < kubernetes.END_S / 2
    (job,) = pods.cluster.jobs.values()
    assert job["metadata"]["deletionTimestamp"]


def test_refused_worker_tells_its_reason(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    given = work(store, tmp_path, 5, beam_size=17)
    with pods.launcher(1, given.command).launch(store, given.manifest) as launched:
        states = watched(launched, all_final)
        (pod,) = pods.pods()
    assert states[0].phase is Phase.REFUSED
    assert states[0].reason.startswith(f"pod {pod.name}: the worker cannot begin: the settings of this worker")


def test_process_that_is_no_pod_cannot_launch(
    pods: PodPlace, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = work(store, tmp_path, 5)
    launcher = pods.launcher(1, given.command)
    monkeypatch.setenv("POD_NAME", "another")
    with pytest.raises(PermanentFailure):
        launcher.launch(store, given.manifest)


def test_silent_api_server_is_transient(
    pods: PodPlace, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = work(store, tmp_path, 5)
    launcher = pods.launcher(1, given.command)
    kubeconfig = tmp_path / "elsewhere"
    text = (tmp_path / "cluster/kubeconfig.json").read_text(encoding="utf-8")
    config = json.loads(text)
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    kubeconfig.write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(TransientFailure):
        launcher.launch(store, given.manifest)


def test_poisoned_recording_fails_alone_in_pods(pods: PodPlace, store: Store, tmp_path: Path) -> None:
    batch = extracted(store, 5, 10, 15)
    launcher = pods.launcher(2, (*WORKER, str(tmp_path)), POISON="10")
    engine = ScriptedEngine(script(), group_s=8.0)
    tools = TranscriptTools(WorkerTranscriber(engine, launcher, 10.0, "run"), FFMPEG)
    answers = batch.transcribe(tools)
    poisoned = answers.pop(batch.keys[1])
    assert isinstance(poisoned, WorkerDied)
    assert all(isinstance(item, Transcript) for item in answers.values())
    waiting.until("no Job is left", lambda: not pods.cluster.jobs, lambda: pods.cluster.jobs)
    assert not processes(str(tmp_path))
