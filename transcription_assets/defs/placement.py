"""Which node a step runs on and what its pod reserves: dagster-k8s's configuration, made from the table in costs.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transcription_assets import costs

FINISHED_JOB_TTL_S = 3600
"""Finished Jobs stay so long for `kubectl logs`; the logs themselves are in Dagster."""
PART_OF = "transcription-assets"
GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
SPOT_TAINTS = (
    {"key": "cloud.google.com/gke-spot", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Exists", "effect": "NoSchedule"},
)
"""Clouds that put taints on spot nodes by themselves; elsewhere the node selector says all."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is known of the cluster: which steps get a GPU, and how its nodes are told apart.

    `service_account` and, on GPU nodes, `gpu_image` are those of the run where empty; `scale` makes every pod smaller
    or larger.
    """

    gpu_steps: frozenset[str] = frozenset()
    service_account: str = ""
    gpu_image: str = ""
    gpu_nodes: Mapping[str, str] = field(default_factory=dict)
    cpu_nodes: Mapping[str, str] = field(default_factory=dict)
    spot: bool = False
    scale: float = 1.0

    def size(self, step: str) -> costs.Size:
        """What its pod reserves; only GPU nodes are spot nodes."""
        gpu = step in self.gpu_steps
        return costs.size(step, gpu=gpu, spot=self.spot and gpu, scale=self.scale)


def selector(text: str) -> dict[str, str]:
    """`key=value,key=value` as a node selector."""
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def pod_config(step: str, cluster: Cluster) -> dict[str, Any]:
    """The step's pod and Job, as dagster-k8s takes them.

    SHALLOW, and each key that decides on a node is always there: deep, the launcher's node selector and tolerations
    would be added to these, and a GPU step would wait for a node that is both.
    """
    size = cluster.size(step)
    labels = {"app.kubernetes.io/part-of": PART_OF, f"{PART_OF}/step": step}
    account = {"service_account_name": cluster.service_account} if cluster.service_account else {}
    image = {"image": cluster.gpu_image} if size.gpus and cluster.gpu_image else {}
    return {
        "merge_behavior": "SHALLOW",
        "container_config": {
            **image,
            "resources": _resources(size),
            # Libraries count the cores of the node, and would start a thread for each.
            "env": [{"name": "OMP_NUM_THREADS", "value": str(threads(size))}],
        },
        "pod_template_spec_metadata": {
            "labels": labels,
            # A pod in the middle of a recording is not moved to pack nodes tighter.
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "pod_spec_config": {
            "node_selector": dict(cluster.gpu_nodes if size.gpus else cluster.cpu_nodes),
            "tolerations": _tolerations(size, spot=cluster.spot),
            "affinity": {},
            **account,
            "automount_service_account_token": False,  # a step never talks to the cluster
        },
        "job_metadata": {"labels": labels},
        # A second pod of the same Job would find the step started, leave at once, and nobody would ever end the step.
        "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": FINISHED_JOB_TTL_S},
    }


def threads(size: costs.Size) -> int:
    """As many as there are whole cores, at least one."""
    return max(1, int(size.cpus))


def _resources(size: costs.Size) -> dict[str, dict[str, str]]:
    """Memory and disk limited as requested: such a pod is the last that a node under pressure evicts.

    A whole core at least may be used: to import alone takes two seconds of one, and would take eight of a quarter.
    """
    reserved = {
        "cpu": f"{round(size.cpus * 1000)}m",
        "memory": f"{round(size.memory_gib * 1024)}Mi",
        "ephemeral-storage": f"{round(size.disk_gib * 1024)}Mi",
    }
    if size.gpus:
        reserved["nvidia.com/gpu"] = str(size.gpus)
    return {"requests": reserved, "limits": reserved | {"cpu": f"{round(max(1.0, size.cpus) * 1000)}m"}}


def _tolerations(size: costs.Size, *, spot: bool) -> list[dict[str, str]]:
    if not size.gpus:
        return []
    return [dict(GPU_TAINT), *(dict(taint) for taint in (SPOT_TAINTS if spot else ()))]


def price_tag(size: costs.Size) -> dict[str, float]:
    """What the UI shows of the step, and what its recordings are priced by."""
    return {"cpus": size.cpus, "memory_gib": size.memory_gib, "gpus": size.gpus, "usd_per_hour": size.usd_per_hour}
