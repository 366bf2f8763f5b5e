"""The Kubernetes manifests: valid for the clusters of today, safe, and complete, as kubectl renders them."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import kubernetes_validate
import pytest
import yaml
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

from transcription_assets import settings
from transcription_assets.settings import PREFIX, Settings
from transcription_assets_tests.rendered import (
    BATCH,
    K8S,
    OVERLAYS,
    Document,
    Workload,
    data,
    instance,
    launcher,
    may_connect,
    named,
    of_kind,
    pods,
    references,
    rendered,
    selects,
    servers,
    workloads,
)

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
"""What is not ours, in ConfigMaps: of Dagster, AWS tools, libpq and the Hub's client."""
SECRET_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
NAMESPACED_LATER = ("Namespace", "PriorityClass")

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture
def run_pod(overlay: str, tmp_path: Path) -> Workload:
    """A run's Job as dagster-k8s makes it of dagster.yaml."""
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "none", "context": {"cluster": "none", "user": "none"}}
    users = [{"name": "none", "user": {}}]
    kubeconfig.write_text(
        yaml.safe_dump({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "none"})
    )
    config = launcher(overlay) | {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    made = K8sRunLauncher(**config)
    context_of_run = K8sContainerContext.create_for_run(dg.DagsterRun(job_name="job"), made, include_run_tags=True)
    job = construct_dagster_k8s_job(
        job_config=context_of_run.get_k8s_job_config("transcription-assets:0.1.0", made),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run",
        component="run_worker",
        user_defined_k8s_config=context_of_run.run_k8s_config,
    )
    document = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    document["metadata"]["namespace"] = "transcription"
    return Workload(document)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_server_of_two_years_ago_and_of_today_takes_every_field(
    overlay: str, version: str, run_pod: Workload
) -> None:
    for document in (*rendered(overlay), run_pod.document):
        kubernetes_validate.validate(document, version, strict=True)


def test_everything_lies_in_one_namespace_that_refuses_careless_pods(overlay: str) -> None:
    namespaces = {
        document["metadata"].get("namespace")
        for document in rendered(overlay)
        if document["kind"] not in NAMESPACED_LATER
    }
    assert namespaces == {launcher(overlay)["job_namespace"]}
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_pod_is_root_or_could_become_it_or_writes_to_its_image(overlay: str, run_pod: Workload) -> None:
    for workload in (*workloads(overlay), run_pod):
        pod = workload.pod["securityContext"]
        assert pod["runAsNonRoot"], workload.name
        assert pod["runAsUser"] == pod["fsGroup"] == 10001, workload.name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, workload.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(workload.pod), workload.name
        assert not [volume for volume in workload.pod["volumes"] if "hostPath" in volume], workload.name
        for container in workload.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, workload.name
            assert "tmp" in [mount["name"] for mount in container["volumeMounts"]], workload.name


def test_every_container_has_requests_and_limits_so_that_none_starves_a_node(overlay: str, run_pod: Workload) -> None:
    for workload in (*workloads(overlay), run_pod):
        for container in workload.containers:
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) >= {"cpu", "memory"}, (workload.name, kind)


UNMOVED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def test_no_autoscaler_moves_a_run_while_its_steps_work(run_pod: Workload) -> None:
    assert UNMOVED.items() <= run_pod.document["spec"]["template"]["metadata"]["annotations"].items()


def test_what_the_chart_starts_is_let_into_its_namespace_and_not_moved(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    values = yaml.safe_load((K8S / "helm-values.yaml").read_text(encoding="utf-8"))
    (code_server,) = values["dagster-user-deployments"]["deployments"]
    for server in (code_server, values["dagsterDaemon"], values["dagsterWebserver"]):
        assert server["podSecurityContext"]["runAsNonRoot"]
        assert server["podSecurityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert server["securityContext"]["allowPrivilegeEscalation"] is False
        assert server["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    run = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    assert run["podTemplateSpecMetadata"]["annotations"] == UNMOVED


def test_nothing_asks_for_a_gpu_while_there_is_no_work(overlay: str, run_pod: Workload) -> None:
    at_rest = yaml.safe_dump([workload.document for workload in (*workloads(overlay), run_pod)])
    assert "nvidia.com/gpu" not in at_rest


def test_every_image_has_a_tag_that_stays_the_same(overlay: str) -> None:
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


def test_runs_and_steps_use_the_very_image_of_the_code_server(overlay: str) -> None:
    (container,) = Workload(named(overlay, "Deployment", "code-server")).containers
    assert current_image(overlay) == container["image"]


def test_servers_are_probed_before_traffic_and_while_they_run(overlay: str) -> None:
    for workload in servers(overlay):
        for container in workload.containers:
            assert "livenessProbe" in container, workload.name
            if "ports" in container:
                assert {"startupProbe", "readinessProbe"} <= set(container), workload.name


def test_a_service_leads_to_a_port_that_somebody_listens_on(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        behind = [workload for workload in servers(overlay) if selects_labels(service, workload)]
        assert len(behind) == 1, service["metadata"]["name"]
        names = {port["name"] for container in behind[0].containers for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def selects_labels(service: Document, workload: Workload) -> bool:
    return bool(service["spec"]["selector"].items() <= workload.labels.items())


def test_there_is_never_a_second_daemon_even_during_an_upgrade(overlay: str) -> None:
    spec = named(overlay, "Deployment", "daemon")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_a_drained_node_can_be_drained_and_takes_no_two_search_pods_at_once(overlay: str) -> None:
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
        assert any(selects(budget["spec"]["selector"], workload.labels) for workload in servers(overlay))


def secrets(overlay: str) -> dict[str, set[str]]:
    """Name -> keys of the Secrets of the overlay, or of the example that its README tells people to fill in."""
    found = of_kind(overlay, "Secret")
    example = K8S / "overlays" / overlay / "secrets.example.yaml"
    if example.exists():
        found += yaml.safe_load_all(example.read_text())
    return {item["metadata"]["name"]: set(item.get("data", {}) | item.get("stringData", {})) for item in found}


def test_every_map_secret_and_volume_that_a_pod_asks_for_is_there(overlay: str, run_pod: Workload) -> None:
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


def test_no_secret_is_readable_in_a_config_map(overlay: str) -> None:
    values = {
        value
        for secret in of_kind(overlay, "Secret")
        for value in yaml.safe_load(yaml.safe_dump(secret.get("data", {}))).values()
    }
    for config_map in of_kind(overlay, "ConfigMap"):
        for key, value in config_map["data"].items():
            assert not SECRET_NAMES.search(key), key
            assert value not in values, key


def test_the_settings_in_the_config_map_are_known_and_within_their_bounds(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = data(overlay, "transcription-settings")
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(given) <= known | OTHER_VARIABLES
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    chosen = settings.load()
    assert chosen.executor == "k8s"
    assert chosen.store.startswith("s3://")


def test_every_variable_that_dagster_reads_is_given_to_all_who_read_it(overlay: str, run_pod: Workload) -> None:
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


def test_dagster_takes_the_instance_file(overlay: str) -> None:
    checked = validate_config(dagster_instance_config_schema(), instance(overlay))
    assert checked.success, checked.errors
    launching = validate_config(DagsterK8sJobConfig.config_type_run_launcher(), launcher(overlay))
    assert launching.success, launching.errors


def test_lost_pods_and_lost_logs_are_seen_to_by_the_instance(overlay: str) -> None:
    chosen = instance(overlay)
    assert chosen["run_monitoring"]["enabled"]
    assert chosen["run_retries"]["enabled"]
    assert chosen["compute_logs"]["class"] == "S3ComputeLogManager"
    assert chosen["concurrency"]["pools"]["default_limit"] > 0


def test_a_replacement_pod_never_starts_behind_dagsters_back(run_pod: Workload) -> None:
    spec = run_pod.document["spec"]
    assert spec["backoffLimit"] == 0
    assert "podFailurePolicy" not in spec
    assert spec["ttlSecondsAfterFinished"] > 0


def test_the_launcher_gives_no_placement_that_would_leak_into_gpu_steps(overlay: str) -> None:
    placement = re.compile(r"node_?selector|affinity|tolerations", re.IGNORECASE)
    assert not placement.search(yaml.safe_dump(launcher(overlay)))


def rights(overlay: str, account: str) -> set[tuple[str, str]]:
    """(resource, verb) of all that an account may do; nothing is bound across the cluster."""
    assert not of_kind(overlay, "ClusterRole", "ClusterRoleBinding")
    roles = [
        named(overlay, "Role", binding["roleRef"]["name"])
        for binding in of_kind(overlay, "RoleBinding")
        if account in [subject["name"] for subject in binding["subjects"]]
    ]
    return {
        (resource, verb)
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_only_the_daemon_and_runs_can_create_jobs_and_nobody_creates_pods_or_reads_secrets(overlay: str) -> None:
    accounts = [account["metadata"]["name"] for account in of_kind(overlay, "ServiceAccount")]
    creating = {name for name in accounts if ("jobs", "create") in rights(overlay, name)}
    assert creating == {BATCH["run_worker"]}
    for name in accounts:
        allowed = rights(overlay, name)
        assert ("pods", "create") not in allowed
        assert not {resource for resource, _ in allowed} & {"secrets", "configmaps", "*", "serviceaccounts"}
        assert "*" not in {verb for _, verb in allowed}
    assert not rights(overlay, BATCH["step_worker"])


def test_a_token_of_the_cluster_is_only_where_it_is_used(overlay: str) -> None:
    assert all(not account["automountServiceAccountToken"] for account in of_kind(overlay, "ServiceAccount"))
    with_token = {item.name for item in workloads(overlay) if item.pod.get("automountServiceAccountToken")}
    assert with_token == {"daemon", "webserver"}


def test_only_the_job_that_fills_the_models_can_write_them(overlay: str, run_pod: Workload) -> None:
    for workload in (*workloads(overlay), run_pod):
        writable = [
            mount
            for container in workload.containers
            for mount in container["volumeMounts"]
            if mount["name"] == "models" and not mount.get("readOnly")
        ]
        assert bool(writable) == (workload.name == "fill-models"), workload.name


def test_weights_whose_copy_was_cut_off_are_copied_again(overlay: str, tmp_path: Path) -> None:
    """The image's files are older than a truncated copy, and a cluster without the internet has no other."""
    image, volume, programs = tmp_path / "image", tmp_path / "volume", tmp_path / "bin"
    for path, text in {
        image / "base/a model.bin": "all of it",
        image / "base/config.json": "{}",
        volume / "base/a model.bin": "all",
        volume / "other/model.bin": "pulled before",
        programs / "transcription-assets": "#!/bin/sh\necho pulled",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (programs / "transcription-assets").chmod(0o755)
    (container,) = Workload(named(overlay, "Job", "fill-models")).containers
    script = container["args"][0].replace("/opt/models", str(image)).replace("/models/", f"{volume}/")
    told = subprocess.run(
        [*container["command"], script],
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert told.stdout == "pulled\n", "what the image does not have comes from the Hub"
    found = {str(file.relative_to(volume)): file.read_text() for file in volume.rglob("*") if file.is_file()}
    assert found == {"base/a model.bin": "all of it", "base/config.json": "{}", "other/model.bin": "pulled before"}


def test_no_pod_downloads_models_but_the_job(overlay: str) -> None:
    assert data(overlay, "transcription-settings")["HF_HUB_OFFLINE"] == "1"
    (container,) = Workload(named(overlay, "Job", "fill-models")).containers
    assert {"name": "HF_HUB_OFFLINE", "value": "0"} in container["env"]


def test_every_pod_is_covered_by_network_policies_in_both_directions(overlay: str) -> None:
    for component in pods(overlay):
        assert not may_connect(overlay, component, "elsewhere", 25), component
        assert not may_connect(overlay, "elsewhere", component, 25), component


EVERYBODY_OF_DAGSTER = ("code-server", "webserver", "daemon", "run_worker", "step_worker")
BUCKET_USERS = ("code-server", "webserver", "search", "run_worker", "step_worker")


def test_who_works_together_can_reach_each_other(overlay: str) -> None:
    needed = [("webserver", "code-server", 4000), ("daemon", "code-server", 4000), ("fill-models", "elsewhere", 443)]
    needed += [(name, "elsewhere", 6443) for name in ("daemon", "webserver", "run_worker")]
    database, bucket = ("postgres", "bucket") if overlay == "local" else ("elsewhere", "elsewhere")
    needed += [(name, database, 5432) for name in EVERYBODY_OF_DAGSTER]
    needed += [(name, bucket, 8333 if overlay == "local" else 443) for name in BUCKET_USERS]
    for source, target, port in needed:
        assert may_connect(overlay, source, target, port), (source, target, port)


def test_who_has_no_business_with_each_other_cannot_reach_each_other(overlay: str) -> None:
    forbidden = [
        ("step_worker", "code-server", 4000),
        ("step_worker", "elsewhere", 6443),
        ("search", "code-server", 4000),
        ("search", "elsewhere", 6443),
        ("search", "elsewhere", 5432),
        ("elsewhere", "code-server", 4000),
    ]
    if overlay == "local":
        forbidden += [
            ("search", "postgres", 5432),
            ("elsewhere", "postgres", 5432),
            ("elsewhere", "bucket", 8333),
            ("step_worker", "elsewhere", 443),
        ]
    for source, target, port in forbidden:
        assert not may_connect(overlay, source, target, port), (source, target, port)


def test_every_policy_is_about_somebody(overlay: str) -> None:
    known = pods(overlay)
    for policy in of_kind(overlay, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        assert any(selects(selector, labels) for labels in known.values()), policy["metadata"]["name"]


def test_the_readme_names_files_and_objects_that_exist(overlay: str) -> None:
    page = (K8S / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\bk8s/[\w./-]+", page):
        assert (K8S.parent / path.rstrip(".")).exists(), path
    objects = {f"{item['kind'].lower()}/{item['metadata']['name']}" for which in OVERLAYS for item in rendered(which)}
    for found in re.findall(r"\b(?:deployment|statefulset|service|job)/[\w-]+", page):
        assert found in objects, found
    assert f"k8s/overlays/{overlay}" in page
    for line in re.findall(r"^    kubectl .*", page, re.MULTILINE):
        assert shlex.split(line, comments=True), line
