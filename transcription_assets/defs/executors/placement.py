"""dagster-k8s's configuration of step pods, made from the cluster's configuration in workers/nodes.py."""

from typing import Any

from transcription_assets.costs import prices
from transcription_assets.workers.kubernetes_job import POD_ENVIRONMENT
from transcription_assets.workers.nodes import NOT_MOVED, PART_OF, Cluster, resources, threads

FINISHED_JOB_TTL_S = 3600
"""Seconds that finished Jobs are retained for `kubectl logs`; Dagster stores the logs themselves."""


def pod_config(step: str, cluster: Cluster) -> dict[str, Any]:
    """Return the dagster-k8s configuration of the step's pod and Job.

    The merge is SHALLOW and sets every key that affects scheduling: a DEEP merge would add the launcher's node selector
    and tolerations, and a GPU step would then wait for a node that satisfies both selectors.

    Raises:
        KeyError: The step is unknown.

    """
    size = cluster.size(step)
    labels = {"app.kubernetes.io/part-of": PART_OF, f"{PART_OF}/step": step}
    coordinates = step in cluster.coordinated
    named = cluster.coordinator_account if coordinates else cluster.service_account
    account = {"service_account_name": named} if named else {}
    image = {"image": cluster.gpu_image} if size.gpus and cluster.gpu_image else {}
    return {
        "merge_behavior": "SHALLOW",
        "container_config": {
            **image,
            "resources": resources(size),
            # Otherwise libraries start a thread for each core of the node.
            "env": [
                {"name": "OMP_NUM_THREADS", "value": str(threads(size))},
                *(POD_ENVIRONMENT if coordinates else ()),
            ],
        },
        "pod_template_spec_metadata": {
            "labels": labels,
            "annotations": dict(NOT_MOVED),
        },
        "pod_spec_config": {
            "node_selector": cluster.nodes(size),
            "tolerations": cluster.tolerations(size),
            "affinity": {},
            **account,
            "automount_service_account_token": coordinates,  # other steps do not use the cluster's API
        },
        "job_metadata": {"labels": labels},
        # A second pod of the same Job would find the step started and exit, and the step would never end.
        "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": FINISHED_JOB_TTL_S},
    }


def price_tag(size: prices.Size) -> dict[str, float]:
    """Return the metadata that the UI shows for the step and from which the cost of its recordings is computed."""
    return {"cpus": size.cpus, "memory_gib": size.memory_gib, "gpus": size.gpus, "usd_per_hour": size.usd_per_hour}
