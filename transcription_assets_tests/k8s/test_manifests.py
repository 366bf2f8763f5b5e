"""The Kubernetes manifests as kubectl renders them: valid for current clusters, and complete."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import DagsterK8sJobConfig

from transcription_assets import settings
from transcription_assets.settings import PREFIX, Settings
from transcription_assets_tests.k8s import cluster_instance, schemas
from transcription_assets_tests.k8s.rendered import (
    K8S,
    OVERLAYS,
    Document,
    Workload,
    data,
    instance,
    launcher,
    named,
    of_kind,
    references,
    rendered,
    servers,
    workloads,
)

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
VERSIONS = ("1.31", "1.37")
OTHER_VARIABLES = {
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "DAGSTER_HOME",
    "DAGSTER_LOGS_BUCKET",
    "DAGSTER_PG_DB",
    "DAGSTER_PG_HOST",
    "DAGSTER_PG_USERNAME",
    "HF_HUB_OFFLINE",
    "HOME",
    "PGSSLMODE",
}
"""Variables in ConfigMaps that belong to Dagster, AWS tools, libpq and the Hub's client."""
SECRET_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
NAMESPACED_LATER = ("Namespace", "PriorityClass")
pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_for_old_and_current_api_servers(overlay: str, version: str, run_pod: Workload) -> None:
    for document in (*rendered(overlay), run_pod.document):
        schemas.validate(document, version)


def test_all_objects_are_in_one_restricted_namespace(overlay: str) -> None:
    namespaces = {
        document["metadata"].get("namespace")
        for document in rendered(overlay)
        if document["kind"] not in NAMESPACED_LATER
    }
    assert namespaces == {launcher(overlay)["job_namespace"]}
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_image_has_a_fixed_tag(overlay: str) -> None:
    images = [container["image"] for workload in workloads(overlay) for container in workload.containers]
    images.append(current_image(overlay))
    if gpu_image := data(overlay, "transcription-settings").get("TRANSCRIPTION_K8S_GPU_IMAGE"):
        images.append(gpu_image)
    for image in images:
        tag = image.rpartition("/")[2].partition(":")[2]
        assert tag, image
        assert tag != "latest", image


def current_image(overlay: str) -> str:
    (container,) = Workload(named(overlay, "Deployment", "code-server")).containers
    return str(next(variable["value"] for variable in container["env"] if variable["name"] == "DAGSTER_CURRENT_IMAGE"))


def test_runs_and_steps_use_the_image_of_the_code_server(overlay: str) -> None:
    (container,) = Workload(named(overlay, "Deployment", "code-server")).containers
    assert current_image(overlay) == container["image"]


def test_servers_have_startup_readiness_and_liveness_probes(overlay: str) -> None:
    for workload in servers(overlay):
        for container in workload.containers:
            assert "livenessProbe" in container, workload.name
            if "ports" in container:
                assert {"startupProbe", "readinessProbe"} <= set(container), workload.name


def test_service_ports_match_container_ports(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        behind = [workload for workload in servers(overlay) if selects_labels(service, workload)]
        assert len(behind) == 1, service["metadata"]["name"]
        names = {port["name"] for container in behind[0].containers for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def selects_labels(service: Document, workload: Workload) -> bool:
    return bool(service["spec"]["selector"].items() <= workload.labels.items())


def secrets(overlay: str) -> dict[str, set[str]]:
    """Map the names of the overlay's Secrets, or of those in its example file, to their keys."""
    found = of_kind(overlay, "Secret")
    example = K8S / "overlays" / overlay / "secrets.example.yaml"
    if example.exists():
        found += yaml.safe_load_all(example.read_text())
    return {item["metadata"]["name"]: set(item.get("data", {}) | item.get("stringData", {})) for item in found}


def test_all_objects_that_pods_refer_to_exist(overlay: str, run_pod: Workload) -> None:
    known = secrets(overlay)
    for workload in (*workloads(overlay), run_pod):
        for kind, name, key in references(workload.pod):
            if kind == "Secret":
                assert name in known, (workload.name, name)
                assert not key or key in known[name], (workload.name, name, key)
            else:
                assert named(overlay, kind, name), (workload.name, name)
        mounted = {mount["name"] for container in workload.containers for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in workload.pod["volumes"]} | workload.claims, workload.name
        assert named(overlay, "ServiceAccount", workload.pod["serviceAccountName"])
        if priority := workload.pod.get("priorityClassName"):
            assert named(overlay, "PriorityClass", priority)


def test_config_maps_contain_no_secrets(overlay: str) -> None:
    values = {
        value
        for secret in of_kind(overlay, "Secret")
        for value in yaml.safe_load(yaml.safe_dump(secret.get("data", {}))).values()
    }
    for config_map in of_kind(overlay, "ConfigMap"):
        for key, value in config_map["data"].items():
            assert not SECRET_NAMES.search(key), key
            assert value not in values, key


def test_settings_in_the_config_map_are_known_and_valid(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = data(overlay, "transcription-settings")
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(given) <= known | OTHER_VARIABLES
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    chosen = settings.load()
    assert chosen.executor == "k8s"
    assert chosen.store.startswith("s3://")


def test_variables_in_dagster_yaml_are_set_in_every_pod(overlay: str, run_pod: Workload) -> None:
    wanted = set(variables_of(instance(overlay)))
    for workload in [item for item in (*workloads(overlay), run_pod) if "dagster-instance" in volumes(item)]:
        (container,) = workload.containers
        given = {variable["name"] for variable in container.get("env", [])}
        assert "transcription-settings" in [name for kind, name, _ in references(workload.pod) if kind == "ConfigMap"]
        assert wanted <= given | set(data(overlay, "transcription-settings")), workload.name


def volumes(workload: Workload) -> set[str]:
    return {volume["name"] for volume in workload.pod["volumes"]}


def variables_of(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if set(config) == {"env"}:
            yield config["env"]
        for value in config.values():
            yield from variables_of(value)


def test_dagster_yaml_is_valid(overlay: str) -> None:
    checked = validate_config(dagster_instance_config_schema(), instance(overlay))
    assert checked.success, checked.errors
    launching = validate_config(DagsterK8sJobConfig.config_type_run_launcher(), launcher(overlay))
    assert launching.success, launching.errors


def test_webserver_runs_with_the_guard(overlay: str) -> None:
    from transcription_assets.defs import webserver

    (container,) = Workload(named(overlay, "Deployment", "webserver")).containers
    assert container["command"] == ["python", "-m", webserver.__name__]
    assert {container[probe]["httpGet"]["path"] for probe in PROBES} == {webserver.PROBE}


@pytest.mark.parametrize(
    "chosen",
    [
        {"container_config": {"image": "evil.example/image"}},
        {"container_config": {"command": ["sh"], "env": [{"name": "A", "value": "b"}]}},
        {"pod_spec_config": {"service_account_name": "default"}},
        {"job_spec_config": {"backoff_limit": 9}},
    ],
    ids=lambda chosen: next(iter(chosen)),
)
def test_tags_of_a_run_cannot_change_its_pod(overlay: str, tmp_path: Path, chosen: dict[str, Any]) -> None:
    kubeconfig = cluster_instance.write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    made = K8sRunLauncher(**launcher(overlay) | {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)})
    run = dg.DagsterRun("process_recordings", tags={"dagster-k8s/config": json.dumps(chosen)})
    with pytest.raises(Exception, match="allowed list"):
        made.get_container_context_for_run(run)
    made.get_container_context_for_run(dg.DagsterRun("process_recordings"))


def test_monitoring_retries_log_storage_and_pools_are_configured(overlay: str) -> None:
    chosen = instance(overlay)
    assert chosen["run_monitoring"]["enabled"]
    assert chosen["run_retries"]["enabled"]
    assert chosen["compute_logs"]["class"] == "S3ComputeLogManager"
    assert chosen["concurrency"]["pools"]["default_limit"] > 0


def test_readme_names_only_existing_files_and_objects(overlay: str) -> None:
    page = (K8S / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\bk8s/[\w./-]+", page):
        assert (K8S.parent / path.rstrip(".")).exists(), path
    objects = {f"{item['kind'].lower()}/{item['metadata']['name']}" for which in OVERLAYS for item in rendered(which)}
    for found in re.findall(r"\b(?:deployment|statefulset|service|job)/[\w-]+", page):
        assert found in objects, found
    assert f"k8s/overlays/{overlay}" in page
    for line in re.findall(r"^    kubectl .*", page, re.MULTILINE):
        assert shlex.split(line, comments=True), line
