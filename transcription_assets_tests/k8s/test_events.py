"""The component for events: only the code server has the secrets and reaches the internet, and no internal address."""

import os
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from transcription_assets_tests.k8s.rendered import K8S

SECRET = "transcription-events"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder: Path = tmp_path_factory.mktemp("overlay")
    overlay = {
        "resources": [os.path.relpath(K8S / "overlays/local", folder.resolve())],
        "components": [os.path.relpath(K8S / "components/events", folder.resolve())],
        "namespace": "transcription",
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = [Path(sys.executable).parent / "kubectl", "kustomize", folder]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return list(yaml.safe_load_all(text))


def test_only_the_code_server_has_the_secrets(rendered: list[Any]) -> None:
    holders = [each["metadata"]["name"] for each in rendered if SECRET in yaml.safe_dump(each)]
    assert holders == ["code-server"]
    (deployment,) = [each for each in rendered if (each["kind"], each["metadata"]["name"]) == ("Deployment", *holders)]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": SECRET}} in container["envFrom"]
    assert {"secretRef": {"name": "transcription-secrets"}} in container["envFrom"]


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("1.1.1.1", True), ("2606:4700::1111", True), ("10.0.0.1", False), ("169.254.169.254", False), ("fe80::1", False)],
)
def test_internal_addresses_are_denied(rendered: list[Any], address: str, *, allowed: bool) -> None:
    (policy,) = [
        each["spec"] for each in rendered if (each["kind"], each["metadata"]["name"]) == ("NetworkPolicy", "events")
    ]
    assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "code-server"}
    (rule,) = policy["egress"]
    target = ip_address(address)
    blocks = [each["ipBlock"] for each in rule["to"]]
    reached = [
        block
        for block in blocks
        if target in ip_network(block["cidr"])
        and not any(target in ip_network(each) for each in block.get("except", ()))
    ]
    assert bool(reached) == allowed
    assert {port["port"] for port in rule["ports"]} == {80, 443, 465, 587}
