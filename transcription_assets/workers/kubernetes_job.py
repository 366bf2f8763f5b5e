"""The Indexed Job of a manifest, made from the coordinator's own pod; no cluster access.

The worker pods get image, variables, volumes and security context of the coordinator, but neither Dagster's database
nor the cluster's API. Objects are in the JSON form of the API.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transcription_assets.workers.manifest import Manifest
from transcription_assets.workers.nodes import NOT_MOVED, PART_OF, Cluster, resources, threads
from transcription_assets.workers.worker import ExitCode

Json = dict[str, Any]

POD_ENVIRONMENT: Sequence[Json] = (
    {"name": "POD_NAME", "value_from": {"field_ref": {"field_path": "metadata.name"}}},
    {"name": "POD_NAMESPACE", "value_from": {"field_ref": {"field_path": "metadata.namespace"}}},
)
"""Variables that tell a coordinator its own pod (in dagster-k8s's spelling)."""
COMPONENT = "speech_worker"
CONTAINER = "worker"
MANIFEST_LABEL = f"{PART_OF}/manifest"
OWNER_LABEL = f"{PART_OF}/run"
GRACE_S = 5
"""Seconds between SIGTERM and SIGKILL: checkpoints are written atomically, so there is nothing to finish."""
FINISHED_JOB_TTL_S = 3600
"""Seconds after which a finished Job is deleted if its coordinator could not do it."""

NOT_FOR_WORKERS = (
    "DAGSTER_",
    "PG",
    "POD_NAME",
    "STEP_WORK_LIMIT_S",
    "OMP_NUM_THREADS",
    "TRANSCRIPTION_CPU_THREADS",
    "TRANSCRIPTION_DISK_GIB",
)
"""Beginnings of the names of variables that workers do not get."""
API_TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"
POD_FIELDS = ("securityContext", "imagePullSecrets", "priorityClassName", "runtimeClassName", "enableServiceLinks")
CONTAINER_FIELDS = ("image", "imagePullPolicy", "securityContext", "workingDir")


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """Template of the Jobs of a launcher; at most `parallelism` pods run at once."""

    cluster: Cluster
    parallelism: int
    command: Sequence[str]

    def body(self, manifest: Manifest, own: Mapping[str, Any], deadline_s: int) -> Json:
        """Return the Job of a manifest.

        `backoffLimitPerIndex` is 0, because a second pod would overwrite the status that tells what the first one
        died of: the coordinator starts the next attempt. A disruption is not an attempt. No number of failed indexes
        ends the other shards, since a shard with a broken recording fails too.

        Args:
            manifest: The manifest; the Job has an index for each shard, and names the run, so that its earlier Jobs can
                be found.
            own: The coordinator's pod; when that is deleted, the cluster deletes the Job.
            deadline_s: Seconds after which the cluster ends the Job.

        """
        shards = len(manifest.shards)
        labels = {
            "app.kubernetes.io/part-of": PART_OF,
            "app.kubernetes.io/component": COMPONENT,
            f"{PART_OF}/step": manifest.stage,
            MANIFEST_LABEL: manifest.identifier,
            OWNER_LABEL: label(manifest.owner),
        }
        template = {"metadata": {"labels": labels, "annotations": dict(NOT_MOVED)}, "spec": self._pod(manifest, own)}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": f"work-{manifest.identifier}",
                "labels": labels,
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "name": own["metadata"]["name"],
                        "uid": own["metadata"]["uid"],
                    }
                ],
            },
            "spec": {
                "completionMode": "Indexed",
                "completions": shards,
                "parallelism": min(shards, self.parallelism),
                "backoffLimitPerIndex": 0,
                "maxFailedIndexes": shards,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {
                    "rules": [
                        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                        {
                            "action": "FailIndex",
                            "onExitCodes": {
                                "containerName": CONTAINER,
                                "operator": "In",
                                "values": [int(ExitCode.PERMANENT)],
                            },
                        },
                    ]
                },
                "activeDeadlineSeconds": deadline_s,
                "ttlSecondsAfterFinished": FINISHED_JOB_TTL_S,
                "template": template,
            },
        }

    def _pod(self, manifest: Manifest, own: Mapping[str, Any]) -> Json:
        spec, container = own["spec"], own["spec"]["containers"][0]
        size = self.cluster.work_size(manifest.stage)
        secrets = database_secrets(container)
        volumes = [item for item in spec.get("volumes", ()) if _is_for_workers(item, secrets)]
        names = {item["name"] for item in volumes}
        account = self.cluster.service_account
        limits = str(threads(size))
        return {
            **{name: spec[name] for name in POD_FIELDS if name in spec},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_S,
            **({"serviceAccountName": account} if account else {}),
            "automountServiceAccountToken": False,
            "nodeSelector": self.cluster.nodes(size),
            "tolerations": self.cluster.tolerations(size),
            "volumes": volumes,
            "containers": [
                {
                    **{name: container[name] for name in CONTAINER_FIELDS if name in container},
                    **({"image": self.cluster.gpu_image} if size.gpus and self.cluster.gpu_image else {}),
                    "name": CONTAINER,
                    "args": [*self.command, manifest.identifier, "--stage", manifest.stage],
                    "env": [
                        *(item for item in container.get("env", ()) if not item["name"].startswith(NOT_FOR_WORKERS)),
                        {"name": "OMP_NUM_THREADS", "value": limits},
                        {"name": "TRANSCRIPTION_CPU_THREADS", "value": limits},
                        {"name": "TRANSCRIPTION_DISK_GIB", "value": str(size.disk_gib)},
                    ],
                    "envFrom": [
                        item
                        for item in container.get("envFrom", ())
                        if item.get("secretRef", {}).get("name") not in secrets
                        and not item.get("prefix", "").startswith("DAGSTER_")
                    ],
                    "volumeMounts": [
                        item
                        for item in container.get("volumeMounts", ())
                        if item["name"] in names and item["mountPath"] != API_TOKENS
                    ],
                    "resources": resources(size),
                }
            ],
        }


def database_secrets(container: Mapping[str, Any]) -> set[str]:
    """Return the names of the Secrets from which a container takes the password of Dagster's database."""
    references = (
        item.get("valueFrom", {}).get("secretKeyRef", {}).get("name")
        for item in container.get("env", ())
        if item["name"].startswith(("DAGSTER_PG_", "PG"))
    )
    return set(filter(None, references))


def label(text: str) -> str:
    """Return a text as the value of a label."""
    return (
        "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text).strip("-")[:63].strip("-")
    )


def _is_for_workers(volume: Mapping[str, Any], secrets: set[str]) -> bool:
    return (
        not volume["name"].startswith("kube-api-access-") and volume.get("secret", {}).get("secretName") not in secrets
    )
