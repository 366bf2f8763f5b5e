"""A Dagster home as in a cluster: dagster-k8s's launcher with all kinds of launcher options."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMESPACE = "transcription"


def write(home: Path, kubeconfig: Path, **launcher: Any) -> Mapping[str, Any]:
    """Write dagster.yaml and return the launcher's configuration; its CPU node selector must not reach GPU steps."""
    home.mkdir(parents=True, exist_ok=True)
    config = {
        "service_account_name": "dagster-runner",
        "instance_config_map": "dagster-instance",
        "dagster_home": str(home),
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
        "job_namespace": NAMESPACE,
        "env_config_maps": ["transcription-settings"],
        "env_secrets": ["transcription-secrets"],
        "resources": {"limits": {"cpu": "250m", "memory": "1Gi"}},
        "run_k8s_config": {
            "pod_spec_config": {
                "node_selector": {"pool": "cpu"},
                "tolerations": [{"key": "only-for-runs", "operator": "Exists"}],
            },
        },
    } | launcher
    settings = {
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": config},
        "telemetry": {"enabled": False},
    }
    (home / "dagster.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return config


def write_kubeconfig(path: Path, server: str) -> Path:
    """Write a kubeconfig for a cluster without credentials."""
    context = {"cluster": "standin", "user": "standin", "namespace": NAMESPACE}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "standin",
        "clusters": [{"name": "standin", "cluster": {"server": server}}],
        "users": [{"name": "standin", "user": {}}],
        "contexts": [{"name": "standin", "context": context}],
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
