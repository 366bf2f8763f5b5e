"""The component for sources: only step pods of `sources` may reach the internet, and no internal address."""

import os
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from transcription_assets import definitions
from transcription_assets.defs.executors.placement import pod_config
from transcription_assets.settings import Settings
from transcription_assets.workers.nodes import Cluster
from transcription_assets_tests.k8s.rendered import K8S


@pytest.fixture
def policy(tmp_path: Path) -> Any:
    overlay = {
        "resources": [os.path.relpath(K8S / "overlays/local", tmp_path.resolve())],
        "components": [os.path.relpath(K8S / "components/sources", tmp_path.resolve())],
        "namespace": "transcription",
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = [Path(sys.executable).parent / "kubectl", "kustomize", tmp_path]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    (found,) = [
        each
        for each in yaml.safe_load_all(text)
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "sources"
    ]
    assert found["metadata"]["namespace"] == "transcription"
    return found["spec"]


def test_the_policy_selects_the_pods_of_the_step_alone(policy: Any) -> None:
    wanted = policy["podSelector"]["matchLabels"]
    cluster = Cluster.of(Settings.model_validate({"executor": "k8s"}))
    labels = {step: pod_config(step, cluster)["pod_template_spec_metadata"]["labels"] for step in definitions.STEPS}
    assert [step for step in labels if wanted.items() <= labels[step].items()] == ["sources"]


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
    ],
)
def test_internal_addresses_are_denied(policy: Any, address: str, *, allowed: bool) -> None:
    (rule,) = policy["egress"]
    target = ip_address(address)
    blocks = [each["ipBlock"] for each in rule["to"]]
    matching = [
        block
        for block in blocks
        if target in ip_network(block["cidr"])
        and not any(target in ip_network(each) for each in block.get("except", ()))
    ]
    assert bool(matching) == allowed
    assert {port["port"] for port in rule["ports"]} == {80, 443}
