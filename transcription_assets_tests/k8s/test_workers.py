"""The component `workers`, rendered on top of each overlay: rights of the coordinator, connections of workers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from transcription_assets import definitions, settings
from transcription_assets.defs.executors.placement import pod_config
from transcription_assets.workers.kubernetes_job import COMPONENT
from transcription_assets.workers.nodes import Cluster
from transcription_assets_tests.k8s import rendered, schemas
from transcription_assets_tests.k8s.rendered import K8S, OVERLAYS, Document, selects
from transcription_assets_tests.k8s.test_jobs import built, pod

COORDINATOR = {
    "app.kubernetes.io/component": "step_worker",
    "transcription-assets/step": "transcript",
}


@pytest.fixture(scope="module", params=OVERLAYS)
def documents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """Render an overlay with the component, as docs/how-to/deploy-on-kubernetes.md says."""
    folder = tmp_path_factory.mktemp("workers").resolve()
    config = {
        "resources": [os.path.relpath(K8S / "overlays" / request.param, folder)],
        "components": [os.path.relpath(K8S / "components/workers", folder)],
        "namespace": "transcription",
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    kubectl = Path(sys.executable).parent / "kubectl"
    told = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60)
    assert not told.returncode, told.stderr
    return list(yaml.safe_load_all(told.stdout))


def named(documents: list[Document], kind: str, name: str) -> Document:
    (found,) = (item for item in documents if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def policies(documents: list[Document], labels: dict[str, str]) -> set[str]:
    """Return the names of the policies that allow pods with these labels to connect to something."""
    return {
        item["metadata"]["name"]
        for item in documents
        if item["kind"] == "NetworkPolicy"
        and item["spec"].get("egress")
        and selects(item["spec"]["podSelector"], labels)
    }


def test_coordinator_may_manage_jobs_and_read_pods_only(documents: list[Document]) -> None:
    (rules,) = (
        item["rules"] for item in documents if item["kind"] == "Role" and item["metadata"]["name"] == "coordinator"
    )
    allowed = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    jobs = {("jobs", verb) for verb in ("create", "get", "list", "watch", "delete")}
    pods = {(resource, verb) for resource in ("pods", "pods/log") for verb in ("get", "list")}
    assert allowed == jobs | pods
    assert named(documents, "ServiceAccount", "coordinator")["automountServiceAccountToken"] is False
    bindings = [item for item in documents if item["kind"] == "RoleBinding"]
    bound = [subject["name"] for item in bindings for subject in item["subjects"]]
    assert bound.count("coordinator") == 1
    assert "transcription" not in bound, "workers have no rights"
    assert all(item["metadata"].get("namespace") == "transcription" for item in bindings)


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_component_is_valid(documents: list[Document], version: str) -> None:
    for document in documents:
        schemas.validate(document, version)


def test_component_chooses_the_launcher(documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in named(documents, "ConfigMap", "transcription-settings")["data"].items():
        monkeypatch.setenv(name, value)
    chosen = settings.load()
    assert chosen.launcher == "kubernetes"
    config = pod_config("transcript", Cluster.of(chosen))
    assert config["pod_spec_config"]["service_account_name"] == "coordinator"
    assert config["pod_spec_config"]["automount_service_account_token"] is True
    assert "nvidia.com/gpu" not in config["container_config"]["resources"]["limits"]
    others = [pod_config(step, Cluster.of(chosen)) for step in definitions.STEPS if step != "transcript"]
    assert not any(item["pod_spec_config"]["automount_service_account_token"] for item in others)


def test_only_the_coordinator_reaches_the_api_server(documents: list[Document]) -> None:
    worker = {"app.kubernetes.io/component": COMPONENT, "transcription-assets/step": "transcript"}
    other = {"app.kubernetes.io/component": "step_worker", "transcription-assets/step": "audio"}
    assert policies(documents, COORDINATOR) - policies(documents, other) == {"api-server-coordinator"}
    assert policies(documents, worker) == {"bucket-clients", "names"}, "neither database nor API server"


def test_coordinating_step_runs_on_cpu_and_knows_its_pod(tmp_path: Path) -> None:
    found = built(
        tmp_path,
        launcher="kubernetes",
        device="cuda",
        encoder_device="cpu",
        k8s_gpu_image="transcription-assets:gpu",
        k8s_gpu_node_selector="pool=gpu",
        k8s_cpu_node_selector="pool=cpu",
        k8s_service_account="transcription",
        k8s_coordinator_account="coordinator",
    )
    with found.instance:
        jobs = found.all()
    transcript: Any = pod(jobs["transcript"])
    (container,) = transcript["containers"]
    fields = {
        item["name"]: item["valueFrom"]["fieldRef"]["fieldPath"]
        for item in container["env"]
        if "fieldRef" in item.get("valueFrom", {})
    }
    assert fields == {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    assert transcript["nodeSelector"] == {"pool": "cpu"}
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert container["image"] == "transcription-assets:cpu"
    assert transcript["serviceAccountName"] == "coordinator"
    assert transcript["automountServiceAccountToken"] is True
    assert jobs["transcript"]["spec"]["template"]["metadata"]["labels"].items() >= COORDINATOR.items()
    specs = {
        spec.key.to_user_string(): spec
        for asset in definitions.build(found.settings).assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for spec in asset.specs
    }
    assert specs["transcript"].metadata["gpus"] == 0, "workers are priced by what they hold"


def test_workers_are_known_to_no_overlay_without_the_component() -> None:
    for overlay in OVERLAYS:
        assert "coordinator" not in {
            item["metadata"]["name"] for item in rendered.of_kind(overlay, "ServiceAccount", "Role")
        }
