"""Fixture for launchers of pods."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from transcription_assets_tests.k8s.cluster_instance import NAMESPACE
from transcription_assets_tests.k8s.standin_api_server import Cluster, Node, serve
from transcription_assets_tests.workers.pods import PodPlace


@pytest.fixture
def pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodPlace]:
    """Return a STAND-IN cluster, in which this process is a coordinator."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder, [Node({})])
    with serve(cluster) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setenv("POD_NAME", "coordinator")
        monkeypatch.setenv("POD_NAMESPACE", NAMESPACE)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield PodPlace(cluster, tmp_path / "store")
