"""Connections that the network policies allow and deny."""

import pytest

from transcription_assets_tests.k8s.rendered import OVERLAYS, may_connect, of_kind, pods, selects

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def test_network_policies_cover_every_pod_in_both_directions(overlay: str) -> None:
    for component in pods(overlay):
        assert not may_connect(overlay, component, "elsewhere", 25), component
        assert not may_connect(overlay, "elsewhere", component, 25), component


EVERYBODY_OF_DAGSTER = ("code-server", "webserver", "daemon", "run_worker", "step_worker")
BUCKET_USERS = ("code-server", "webserver", "search", "run_worker", "step_worker")


def test_required_connections_are_allowed(overlay: str) -> None:
    needed = [("webserver", "code-server", 4000), ("daemon", "code-server", 4000), ("fill-models", "elsewhere", 443)]
    needed += [(name, "elsewhere", 6443) for name in ("daemon", "webserver", "run_worker")]
    database, bucket = ("postgres", "bucket") if overlay == "local" else ("elsewhere", "elsewhere")
    needed += [(name, database, 5432) for name in EVERYBODY_OF_DAGSTER]
    needed += [(name, bucket, 8333 if overlay == "local" else 443) for name in BUCKET_USERS]
    for source, target, port in needed:
        assert may_connect(overlay, source, target, port), (source, target, port)


def test_unneeded_connections_are_denied(overlay: str) -> None:
    forbidden = [
        ("step_worker", "code-server", 4000),
        ("step_worker", "elsewhere", 6443),
        ("search", "code-server", 4000),
        ("search", "elsewhere", 6443),
        ("search", "elsewhere", 5432),
        ("elsewhere", "code-server", 4000),
    ]
    if overlay == "local":
        forbidden += [
            ("search", "postgres", 5432),
            ("elsewhere", "postgres", 5432),
            ("elsewhere", "bucket", 8333),
            ("step_worker", "elsewhere", 443),
        ]
    for source, target, port in forbidden:
        assert not may_connect(overlay, source, target, port), (source, target, port)


def test_no_pod_can_reach_the_cloud_metadata_service(overlay: str) -> None:
    # Clients of the API server may use its ports to any address; metadata services listen on none of them.
    for component in pods(overlay):
        for port in (80, 987, 988, 8080):
            assert not may_connect(overlay, component, "metadata", port), (component, port)
    for component in ("search", "code-server", "step_worker", "fill-models"):
        assert not may_connect(overlay, component, "metadata", 443), component


def test_pods_can_use_only_the_dns_of_the_cluster(overlay: str) -> None:
    for component in pods(overlay):
        assert not may_connect(overlay, component, "elsewhere", 53), component
    (policy,) = [found for found in of_kind(overlay, "NetworkPolicy") if found["metadata"]["name"] == "names"]
    (rule,) = policy["spec"]["egress"]
    cluster, cache = rule["to"]
    assert cluster["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert cluster["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    assert cache == {"ipBlock": {"cidr": "169.254.20.10/32"}}
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}


def test_every_policy_selects_a_component(overlay: str) -> None:
    known = pods(overlay)
    for policy in of_kind(overlay, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        assert any(selects(selector, labels) for labels in known.values()), policy["metadata"]["name"]
