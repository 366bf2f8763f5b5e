"""The component for the ASR service: valid, hardened, and reachable by its clients only."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from transcription_assets import settings
from transcription_assets.asr.server import LEAVE_S
from transcription_assets.cli.main import main
from transcription_assets_tests.k8s import schemas
from transcription_assets_tests.k8s.rendered import K8S, Workload, references, selects

NAME = "asr-server"
NAMES = (NAME, "asr-clients")


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    place = tmp_path_factory.mktemp("overlay").resolve()
    overlay = {
        "resources": [os.path.relpath(K8S / "overlays/local", place)],
        "components": [os.path.relpath(K8S / "components/asr-server", place)],
        "namespace": "transcription",
    }
    (place / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = [Path(sys.executable).parent / "kubectl", "kustomize", place]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [each for each in yaml.safe_load_all(text) if each["metadata"]["name"] in NAMES or each["kind"] == "Job"]


@pytest.fixture(scope="module")
def workload(documents: list[dict[str, Any]]) -> Workload:
    (found,) = [each for each in documents if each["kind"] == "Deployment"]
    return Workload(found)


def policy(documents: list[dict[str, Any]], name: str) -> Any:
    (found,) = [each for each in documents if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == name]
    return found["spec"]


def test_objects_are_valid_and_in_the_namespace(documents: list[dict[str, Any]]) -> None:
    assert sorted(each["kind"] for each in documents) == [
        "Deployment",
        "Job",
        "NetworkPolicy",
        "NetworkPolicy",
        "Service",
        "ServiceAccount",
    ]
    for each in documents:
        assert each["metadata"]["namespace"] == "transcription"
        schemas.validate(each, "1.31")


def test_the_pod_is_restricted_and_has_time_to_end(workload: Workload) -> None:
    (container,) = workload.containers
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert workload.pod["securityContext"]["runAsNonRoot"] is True
    assert workload.pod["enableServiceLinks"] is False
    assert workload.pod["terminationGracePeriodSeconds"] > LEAVE_S


def test_the_pod_needs_a_token_and_no_key_of_the_store(workload: Workload) -> None:
    needed = {(kind, name) for kind, name, _ in references(workload.pod) if kind == "Secret"}
    assert needed == {("Secret", "transcription-asr")}


def test_its_weights_are_pulled_whatever_the_pipeline_uses(documents: list[dict[str, Any]]) -> None:
    (job,) = [each for each in documents if each["metadata"]["name"] == "fill-models"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["TRANSCRIPTION_ENGINE"] == "whisper"


def test_probes_tell_a_dead_engine(workload: Workload) -> None:
    (container,) = workload.containers
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}


def test_command_and_variables_exist(workload: Workload) -> None:
    (container,) = workload.containers
    _, command = container["command"]
    options = {option.opts[0] for option in main.commands[command].params}
    assert {argument.partition("=")[0] for argument in container["args"]} <= options
    known = {name for name, _, _ in settings.table()}
    assert {variable["name"] for variable in container["env"]} <= known


def test_only_clients_reach_it(documents: list[dict[str, Any]], workload: Workload) -> None:
    inwards, outwards = policy(documents, NAME), policy(documents, "asr-clients")
    assert selects(inwards["podSelector"], workload.labels)
    (rule,) = outwards["egress"]
    assert selects(rule["to"][0]["podSelector"], workload.labels)
    among = inwards["ingress"][0]["from"][0]["podSelector"]
    for component, allowed in (("step_worker", True), ("speech_worker", True), ("webserver", False)):
        labels = {"app.kubernetes.io/component": component}
        assert selects(among, labels) == allowed
        assert selects(outwards["podSelector"], labels) == allowed
