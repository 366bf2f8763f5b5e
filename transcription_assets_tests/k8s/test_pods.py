"""Security context, permissions and resources of the pods in the manifests."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from transcription_assets_tests.k8s.rendered import (
    BATCH,
    K8S,
    OVERLAYS,
    Workload,
    data,
    launcher,
    named,
    of_kind,
    references,
    selects,
    servers,
    workloads,
)

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def test_no_pod_runs_as_root_or_writes_to_its_image(overlay: str, run_pod: Workload) -> None:
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


def test_every_container_has_requests_and_limits(overlay: str, run_pod: Workload) -> None:
    for workload in (*workloads(overlay), run_pod):
        for container in workload.containers:
            for kind in ("requests", "limits"):
                stated = set(container["resources"][kind])
                assert stated >= {"cpu", "memory", "ephemeral-storage"}, (workload.name, kind)


def test_search_has_its_own_service_account_and_secret(overlay: str, run_pod: Workload) -> None:
    search = Workload(named(overlay, "Deployment", "search"))
    others = [workload for workload in (*workloads(overlay), run_pod) if workload.name != "search"]
    assert search.pod["serviceAccountName"] not in {workload.pod["serviceAccountName"] for workload in others}
    assert secrets_of(search) == {"transcription-search"}
    assert not any("transcription-search" in secrets_of(workload) for workload in others)


def test_only_the_code_server_has_the_sensor_secret(overlay: str, run_pod: Workload) -> None:
    holders = {item.name for item in (*workloads(overlay), run_pod) if "transcription-sensor" in secrets_of(item)}
    assert holders == {"code-server"}


def test_model_download_job_has_no_secret(overlay: str) -> None:
    fill = Workload(named(overlay, "Job", "fill-models"))
    assert not secrets_of(fill)
    assert fill.pod["serviceAccountName"] not in {BATCH["step_worker"], BATCH["run_worker"]}


def test_exposed_search_requires_a_token(overlay: str) -> None:
    if overlay == "local":
        assert not of_kind(overlay, "Ingress")
        return
    (container,) = Workload(named(overlay, "Deployment", "search")).containers
    (token,) = [item for item in container["env"] if item["name"] == "TRANSCRIPTION_SERVE_TOKEN"]
    wanted = token["valueFrom"]["secretKeyRef"]
    assert (wanted["name"], wanted["key"]) == ("transcription-search", "TRANSCRIPTION_SERVE_TOKEN")
    assert not wanted.get("optional")


def test_quota_admits_ten_runs_and_limits_have_defaults(overlay: str) -> None:
    (quota,) = of_kind(overlay, "ResourceQuota")
    pods_at_rest = sum(item.document["spec"].get("replicas", 1) for item in workloads(overlay))
    assert pods_at_rest + 2 * 10 <= int(quota["spec"]["hard"]["pods"])  # 10 concurrent runs with one step each
    (limits,) = of_kind(overlay, "LimitRange")
    (container,) = limits["spec"]["limits"]
    assert set(container["default"]) == set(container["defaultRequest"]) == {"cpu", "memory", "ephemeral-storage"}


def secrets_of(workload: Workload) -> set[str]:
    """Return the Secrets that a workload's containers or volumes name, including optional ones."""
    named_here = {name for kind, name, _ in references(workload.pod) if kind == "Secret"}
    optional = {
        source["secretRef"]["name"]
        for container in workload.containers
        for source in container.get("envFrom", [])
        if "secretRef" in source
    }
    return named_here | optional


UNMOVED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def test_autoscalers_do_not_evict_run_pods(run_pod: Workload) -> None:
    assert UNMOVED.items() <= run_pod.document["spec"]["template"]["metadata"]["annotations"].items()


def test_helm_chart_pods_are_restricted_and_not_evicted(overlay: str) -> None:
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


def test_no_permanent_or_run_pod_requests_a_gpu(overlay: str, run_pod: Workload) -> None:
    at_rest = yaml.safe_dump([workload.document for workload in (*workloads(overlay), run_pod)])
    assert "nvidia.com/gpu" not in at_rest


def test_daemon_has_one_replica_even_during_an_upgrade(overlay: str) -> None:
    spec = named(overlay, "Deployment", "daemon")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_disruption_budgets_allow_one_unavailable_pod(overlay: str) -> None:
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
        assert any(selects(budget["spec"]["selector"], workload.labels) for workload in servers(overlay))


def test_run_jobs_never_start_replacement_pods(run_pod: Workload) -> None:
    spec = run_pod.document["spec"]
    assert spec["backoffLimit"] == 0
    assert "podFailurePolicy" not in spec
    assert spec["ttlSecondsAfterFinished"] > 0


def test_launcher_configures_no_node_placement(overlay: str) -> None:
    placement = re.compile(r"node_?selector|affinity|tolerations", re.IGNORECASE)
    assert not placement.search(yaml.safe_dump(launcher(overlay)))


def rights(overlay: str, account: str) -> set[tuple[str, str]]:
    """Return the (resource, verb) pairs of an account, and assert that there are no cluster-wide roles."""
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


def test_only_daemon_and_runs_can_create_jobs(overlay: str) -> None:
    accounts = [account["metadata"]["name"] for account in of_kind(overlay, "ServiceAccount")]
    creating = {name for name in accounts if ("jobs", "create") in rights(overlay, name)}
    assert creating == {BATCH["run_worker"]}
    for name in accounts:
        allowed = rights(overlay, name)
        assert ("pods", "create") not in allowed
        assert not {resource for resource, _ in allowed} & {"secrets", "configmaps", "*", "serviceaccounts"}
        assert "*" not in {verb for _, verb in allowed}
    assert not rights(overlay, BATCH["step_worker"])


def test_only_daemon_and_webserver_mount_service_account_tokens(overlay: str) -> None:
    assert all(not account["automountServiceAccountToken"] for account in of_kind(overlay, "ServiceAccount"))
    with_token = {item.name for item in workloads(overlay) if item.pod.get("automountServiceAccountToken")}
    assert with_token == {"daemon", "webserver"}


def test_only_the_fill_models_job_can_write_models(overlay: str, run_pod: Workload) -> None:
    for workload in (*workloads(overlay), run_pod):
        writable = [
            mount
            for container in workload.containers
            for mount in container["volumeMounts"]
            if mount["name"] == "models" and not mount.get("readOnly")
        ]
        assert bool(writable) == (workload.name == "fill-models"), workload.name


def test_truncated_model_files_are_copied_again(overlay: str, tmp_path: Path) -> None:
    """The image's files are older than a truncated copy; a cluster without internet access has no other source."""
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
    assert told.stdout == "pulled\n", "files missing in the image come from the Hub"
    found = {str(file.relative_to(volume)): file.read_text() for file in volume.rglob("*") if file.is_file()}
    assert found == {"base/a model.bin": "all of it", "base/config.json": "{}", "other/model.bin": "pulled before"}


def test_only_the_fill_models_job_downloads_models(overlay: str) -> None:
    assert data(overlay, "transcription-settings")["HF_HUB_OFFLINE"] == "1"
    (container,) = Workload(named(overlay, "Job", "fill-models")).containers
    assert {"name": "HF_HUB_OFFLINE", "value": "0"} in container["env"]
