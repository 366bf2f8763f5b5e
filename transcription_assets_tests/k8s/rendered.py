"""The manifests as `kubectl kustomize` renders them, with queries on them."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml

from transcription_assets_tests.demo import ROOT

K8S = ROOT / "k8s"
OVERLAYS = ("local", "gpu")
BATCH = {"run_worker": "dagster-runner", "step_worker": "transcription"}
"""Component -> service account of the pods that Dagster starts, which no manifest contains."""

SOURCES = {
    "configMap": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "configMapRef": "ConfigMap",
    "persistentVolumeClaim": "PersistentVolumeClaim",
    "secret": "Secret",
    "secretKeyRef": "Secret",
    "secretRef": "Secret",
}
"""Field of a pod -> kind of the object that it refers to."""

Document = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Document, ...]:
    """Return every object of an overlay."""
    kubectl = Path(sys.executable).parent / "kubectl"
    told = subprocess.run(
        [kubectl, "kustomize", K8S / "overlays" / overlay], capture_output=True, text=True, check=False, timeout=60
    )
    assert not told.returncode, told.stderr
    assert not told.stderr, told.stderr  # warnings are about fields that a later kubectl rejects
    return tuple(yaml.safe_load_all(told.stdout))


def of_kind(overlay: str, *kinds: str) -> list[Document]:
    return [document for document in rendered(overlay) if document["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Document:
    return next(found for found in of_kind(overlay, kind) if found["metadata"]["name"] == name)


def data(overlay: str, config_map: str) -> dict[str, str]:
    return dict(named(overlay, "ConfigMap", config_map)["data"])


@cache
def instance(overlay: str) -> Document:
    """Return dagster.yaml as the pods of the overlay read it."""
    return dict(yaml.safe_load(data(overlay, "dagster-instance")["dagster.yaml"]))


def launcher(overlay: str) -> Document:
    return dict(instance(overlay)["run_launcher"]["config"])


@dataclass(frozen=True)
class Workload:
    """A Deployment, a StatefulSet or a Job with one container."""

    document: Document

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.document["spec"]["template"]["metadata"]["labels"])

    @property
    def pod(self) -> Document:
        return dict(self.document["spec"]["template"]["spec"])

    @property
    def containers(self) -> list[Document]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def claims(self) -> set[str]:
        return {claim["metadata"]["name"] for claim in self.document["spec"].get("volumeClaimTemplates", [])}


def workloads(overlay: str) -> list[Workload]:
    return [Workload(document) for document in of_kind(overlay, "Deployment", "StatefulSet", "Job")]


def servers(overlay: str) -> list[Workload]:
    return [workload for workload in workloads(overlay) if workload.document["kind"] != "Job"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector matches these labels."""
    wanted = selector.get("matchLabels", {})
    among = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in among)
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in among
    )


def pods(overlay: str) -> dict[str, dict[str, str]]:
    """Map each component to the labels of its pods, including those that Dagster starts."""
    own = {workload.labels["app.kubernetes.io/component"]: workload.labels for workload in workloads(overlay)}
    started = {name: {**launcher(overlay)["labels"], "app.kubernetes.io/component": name} for name in BATCH}
    return own | started


def may_connect(overlay: str, source: str, target: str, port: int) -> bool:
    """Return whether the network policies let `source` connect to `target` (components, or names in OUTSIDE)."""
    return _lets(overlay, "Egress", source, target, port) and _lets(overlay, "Ingress", target, source, port)


def _lets(overlay: str, direction: str, here: str, there: str, port: int) -> bool:
    known = pods(overlay)
    if here not in known:
        return True  # our policies do not apply to it
    policies = [
        policy["spec"]
        for policy in of_kind(overlay, "NetworkPolicy")
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], known[here])
    ]
    side = "to" if direction == "Egress" else "from"
    served = here if direction == "Ingress" else there
    rules = [rule for policy in policies for rule in policy.get(direction.lower(), [])]
    return not policies or any(
        _peer(rule.get(side), there, known.get(there)) and _port(rule.get("ports"), port, overlay, served)
        for rule in rules
    )


OUTSIDE = {"elsewhere": "203.0.113.7", "metadata": "169.254.169.254"}
"""Peers outside the cluster with an address of each: a host on the internet, a cloud's metadata service."""


def _peer(peers: list[Document] | None, there: str, labels: Mapping[str, str] | None) -> bool:
    """Return whether a rule's peers (none, pod selectors or address blocks) match `there`."""
    if peers is None:
        return True
    if labels is None:
        return any(_contains(peer["ipBlock"], OUTSIDE[there]) for peer in peers if "ipBlock" in peer)
    return any(
        "podSelector" in peer and "namespaceSelector" not in peer and selects(peer["podSelector"], labels)
        for peer in peers
    )


def _contains(block: Document, address: str) -> bool:
    host = ip_address(address)
    return host in ip_network(block["cidr"]) and not any(host in ip_network(out) for out in block.get("except", []))


def _port(ports: list[Document] | None, port: int, overlay: str, served: str) -> bool:
    if ports is None:
        return True
    names = {
        listening["name"]: listening["containerPort"]
        for workload in workloads(overlay)
        if workload.labels["app.kubernetes.io/component"] == served
        for container in workload.containers
        for listening in container.get("ports", [])
    }
    return any(
        entry.get("protocol", "TCP") == "TCP" and names.get(entry["port"], entry["port"]) == port for entry in ports
    )


def references(pod: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name, key or empty) of all objects that a pod's environment and volumes require."""
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        for source in container.get("envFrom", []):
            for field, taken in source.items():
                if not taken.get("optional"):
                    yield SOURCES[field], taken["name"], ""
        for variable in container.get("env", []):
            for field, taken in variable.get("valueFrom", {}).items():
                yield SOURCES[field], taken["name"], taken["key"]
    for volume in pod.get("volumes", []):
        for field in SOURCES.keys() & volume.keys():
            taken = volume[field]
            yield SOURCES[field], taken.get("name") or taken.get("secretName") or taken["claimName"], ""
