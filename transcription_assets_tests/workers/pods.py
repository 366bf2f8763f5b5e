"""A STAND-IN cluster whose pods are processes of this machine, and the pod of a coordinator in it."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transcription_assets.workers.kubernetes import KubernetesLauncher
from transcription_assets.workers.nodes import Cluster as Nodes
from transcription_assets_tests.k8s.standin_api_server import Cluster, Pod
from transcription_assets_tests.workers.batch import FFMPEG

SECRET = "dagster-postgresql-secret"
TOKEN = {"name": "kube-api-access-x7k2p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
OWN: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "coordinator", "uid": "uid-coordinator"},
    "spec": {
        "serviceAccountName": "coordinator",
        "nodeName": "node-1",
        "nodeSelector": {"pool": "cpu"},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001},
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": "transcription-models"}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "database", "secret": {"secretName": SECRET}},
            TOKEN,
        ],
        "containers": [
            {
                "name": "dagster",
                "image": "transcription-assets:cpu",
                "imagePullPolicy": "IfNotPresent",
                "args": ["dagster", "api", "execute_step"],
                "env": [
                    {"name": "DAGSTER_HOME", "value": "/opt/dagster/dagster_home"},
                    {
                        "name": "DAGSTER_PG_PASSWORD",
                        "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "postgresql-password"}},
                    },
                    {"name": "AWS_REGION", "value": "eu-central-1"},
                ],
                "envFrom": [
                    {"configMapRef": {"name": "transcription-settings"}},
                    {"secretRef": {"name": "transcription-secrets"}},
                    {"secretRef": {"name": SECRET}},
                ],
                "volumeMounts": [
                    {"name": "models", "mountPath": "/models", "readOnly": True},
                    {"name": "tmp", "mountPath": "/scratch"},
                    {"name": "database", "mountPath": "/database"},
                    {"name": TOKEN["name"], "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
                ],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}
"""The coordinator's pod as an API server returns it."""


@dataclass(frozen=True, slots=True)
class PodPlace:
    """A cluster with the pod of a coordinator."""

    cluster: Cluster
    store: Path

    def launcher(
        self, most: int, command: tuple[str, ...], *, start_limit_s: float = 900.0, **environment: str
    ) -> KubernetesLauncher:
        own = copy.deepcopy(OWN)
        own["spec"]["containers"][0]["env"] += [{"name": name, "value": value} for name, value in environment.items()]
        self.cluster.config_maps["transcription-settings"] = {
            "TRANSCRIPTION_STORE": str(self.store),
            "TRANSCRIPTION_FFMPEG": FFMPEG,
        }
        self.cluster.secrets["transcription-secrets"] = {}
        self.cluster.add_pod(own)
        return KubernetesLauncher(Nodes(), most, start_limit_s, command, wait_s=0.2, statuses_s=0.5)

    def pods(self) -> list[Pod]:
        """Return the pods of workers."""
        with self.cluster.lock:
            return [pod for pod in self.cluster.pods.values() if pod.index >= 0]
