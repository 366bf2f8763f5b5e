"""Nodes and resources of pods, from the sizes in costs/prices.py; used for the pods of steps and of workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transcription_assets.costs import prices
from transcription_assets.settings import Settings

PART_OF = "transcription-assets"
GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
SPOT_TAINTS = (
    {"key": "cloud.google.com/gke-spot", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Exists", "effect": "NoSchedule"},
)
"""Taints that clouds put on spot nodes by themselves; elsewhere the node selector is enough."""
NOT_MOVED = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""Annotations against autoscalers that evict a pod in the middle of a recording to consolidate nodes."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Configuration of the cluster: which steps get a GPU, and how GPU and CPU nodes are selected.

    `coordinated` are the steps whose work is done by worker pods. Empty values of the service accounts and, on GPU
    nodes, `gpu_image` mean those of the run; `scale` multiplies the resources of every pod.
    """

    gpu_steps: frozenset[str] = frozenset()
    coordinated: frozenset[str] = frozenset()
    service_account: str = ""
    coordinator_account: str = ""
    gpu_image: str = ""
    gpu_nodes: Mapping[str, str] = field(default_factory=dict)
    cpu_nodes: Mapping[str, str] = field(default_factory=dict)
    spot: bool = False
    scale: float = 1.0

    @classmethod
    def of(cls, chosen: Settings) -> "Cluster":
        """Return the configuration of the settings; a step gets a GPU if its device is `cuda`, not if it is `auto`."""
        devices = {"transcript": chosen.device, "embeddings": chosen.encodes_on}
        launchers = {
            "audio": chosen.audio_launcher,
            "transcript": chosen.launcher,
            "embeddings": chosen.embeddings_launcher,
        }
        return cls(
            gpu_steps=frozenset(step for step, device in devices.items() if device == "cuda"),
            coordinated=frozenset(step for step, name in launchers.items() if name == "kubernetes"),
            service_account=chosen.k8s_service_account,
            coordinator_account=chosen.k8s_coordinator_account,
            gpu_image=chosen.k8s_gpu_image,
            gpu_nodes=selector(chosen.k8s_gpu_node_selector),
            cpu_nodes=selector(chosen.k8s_cpu_node_selector),
            spot=chosen.k8s_spot,
            scale=chosen.k8s_scale,
        )

    def size(self, step: str) -> prices.Size:
        """Return the resources of the step's pod; only GPU nodes are spot nodes.

        Raises:
            KeyError: The step is unknown.

        """
        if step in self.coordinated:
            return prices.COORDINATOR.scaled(self.scale)
        return self.work_size(step)

    def work_size(self, step: str) -> prices.Size:
        """Return the resources of a pod that does the step's work: a worker's, or the step's own.

        Raises:
            KeyError: The step is unknown.

        """
        gpu = step in self.gpu_steps
        return prices.size(step, gpu=gpu, spot=self.spot and gpu, scale=self.scale)

    def nodes(self, size: prices.Size) -> dict[str, str]:
        """Return the node selector of a pod of this size."""
        return dict(self.gpu_nodes if size.gpus else self.cpu_nodes)

    def tolerations(self, size: prices.Size) -> list[dict[str, str]]:
        """Return the tolerations of a pod of this size."""
        if not size.gpus:
            return []
        return [dict(GPU_TAINT), *(dict(taint) for taint in (SPOT_TAINTS if self.spot else ()))]


def selector(text: str) -> dict[str, str]:
    """Parse `key=value,key=value` as a node selector.

    Raises:
        ValueError: A part has no `=`.

    """
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def threads(size: prices.Size) -> int:
    """Return the number of whole cores, at least 1."""
    return max(1, int(size.cpus))


def resources(size: prices.Size) -> dict[str, dict[str, str]]:
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
