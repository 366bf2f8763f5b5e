"""Node selection and resources of step pods: dagster-k8s's configuration, made from the sizes in costs/prices.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transcription_assets.costs import prices

FINISHED_JOB_TTL_S = 3600
"""Seconds that finished Jobs are retained for `kubectl logs`; Dagster stores the logs themselves."""
PART_OF = "transcription-assets"
GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
SPOT_TAINTS = (
    {"key": "cloud.google.com/gke-spot", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Exists", "effect": "NoSchedule"},
)
"""Taints that clouds put on spot nodes by themselves; elsewhere the node selector is enough."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Configuration of the cluster: which steps get a GPU, and how GPU and CPU nodes are selected.

    Empty values of `service_account` and, on GPU nodes, `gpu_image` mean those of the run; `scale` multiplies the
    resources of every pod.
    """

    gpu_steps: frozenset[str] = frozenset()
    service_account: str = ""
    gpu_image: str = ""
    gpu_nodes: Mapping[str, str] = field(default_factory=dict)
    cpu_nodes: Mapping[str, str] = field(default_factory=dict)
    spot: bool = False
    scale: float = 1.0

    def size(self, step: str) -> prices.Size:
        """Return the resources of the step's pod; only GPU nodes are spot nodes.

        Raises:
            KeyError: The step is unknown.

        """
        gpu = step in self.gpu_steps
        return prices.size(step, gpu=gpu, spot=self.spot and gpu, scale=self.scale)


def selector(text: str) -> dict[str, str]:
    """Parse `key=value,key=value` as a node selector.

    Raises:
        ValueError: A part has no `=`.

    """
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def pod_config(step: str, cluster: Cluster) -> dict[str, Any]:
    """Return the dagster-k8s configuration of the step's pod and Job.

    The merge is SHALLOW and sets every key that affects scheduling: a DEEP merge would add the launcher's node selector
    and tolerations, and a GPU step would then wait for a node that satisfies both selectors.

    Raises:
        KeyError: The step is unknown.

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
            # Otherwise libraries start a thread for each core of the node.
            "env": [{"name": "OMP_NUM_THREADS", "value": str(threads(size))}],
        },
        "pod_template_spec_metadata": {
            "labels": labels,
            # Autoscalers must not evict a pod in the middle of a recording to consolidate nodes.
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
            "automount_service_account_token": False,  # a step does not use the cluster's API
        },
        "job_metadata": {"labels": labels},
        # A second pod of the same Job would find the step started and exit, and the step would never end.
        "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": FINISHED_JOB_TTL_S},
    }


def threads(size: prices.Size) -> int:
    """Return the number of whole cores, at least 1."""
    return max(1, int(size.cpus))


def _resources(size: prices.Size) -> dict[str, dict[str, str]]:
    """Return requests and limits; memory and disk limits equal the requests, so that such a pod is evicted last.

    The CPU limit is at least one core: imports alone take two seconds of a core, and would take eight of a quarter.
    """
    reserved = {
        "cpu": f"{round(size.cpus * 1000)}m",
        "memory": f"{round(size.memory_gib * 1024)}Mi",
        "ephemeral-storage": f"{round(size.disk_gib * 1024)}Mi",
    }
    if size.gpus:
        reserved["nvidia.com/gpu"] = str(size.gpus)
    return {"requests": reserved, "limits": reserved | {"cpu": f"{round(max(1.0, size.cpus) * 1000)}m"}}


def _tolerations(size: prices.Size, *, spot: bool) -> list[dict[str, str]]:
    if not size.gpus:
        return []
    return [dict(GPU_TAINT), *(dict(taint) for taint in (SPOT_TAINTS if spot else ()))]


def price_tag(size: prices.Size) -> dict[str, float]:
    """Return the metadata that the UI shows for the step and from which the cost of its recordings is computed."""
    return {"cpus": size.cpus, "memory_gib": size.memory_gib, "gpus": size.gpus, "usd_per_hour": size.usd_per_hour}
