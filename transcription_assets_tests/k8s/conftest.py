"""Fixture for the pod of a run, which no manifest contains."""

from pathlib import Path

import dagster as dg
import kubernetes
import pytest
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job

from transcription_assets_tests.k8s import cluster_instance
from transcription_assets_tests.k8s.rendered import Workload, launcher


@pytest.fixture
def run_pod(overlay: str, tmp_path: Path) -> Workload:
    """Return a run's Job as dagster-k8s builds it from dagster.yaml."""
    kubeconfig = cluster_instance.write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    config = launcher(overlay) | {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    made = K8sRunLauncher(**config)
    context_of_run = K8sContainerContext.create_for_run(dg.DagsterRun(job_name="job"), made, include_run_tags=True)
    job = construct_dagster_k8s_job(
        job_config=context_of_run.get_k8s_job_config("transcription-assets:0.1.0", made),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run",
        component="run_worker",
        user_defined_k8s_config=context_of_run.run_k8s_config,
    )
    document = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    document["metadata"]["namespace"] = "transcription"
    return Workload(document)
