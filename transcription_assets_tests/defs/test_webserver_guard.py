"""Requests that reach Dagster's webserver, selected by their headers."""

from typing import Any
from urllib.parse import urlencode

import pytest

from transcription_assets.domain.hosts import parse_hosts

HOST = "localhost:3000"
QUERY = "{version}"
CHANGE = 'mutation {setConcurrencyLimit(concurrencyKey: "a", limit: 1)}'
JSON = {"content_type": "application/json"}


async def nobody(*_: Any) -> None:
    raise AssertionError


def refused(
    path: str = "/", method: str = "GET", query: str = "", hosts: str = "", kind: str = "http", **headers: str
) -> bool:
    from transcription_assets.defs.webserver import WebGuard

    given = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": kind,
        "path": path,
        "query_string": urlencode({"query": query} if query else {}).encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
    }
    if kind == "http":
        scope["method"] = method
    return bool(WebGuard(nobody, parse_hosts(hosts)).refusal(scope))


@pytest.mark.parametrize("host", ["localhost:3000", "LOCALHOST", "127.0.0.1:3000", "127.0.0.1", "[::1]:3000", "[::1]"])
def test_local_host_names_are_accepted(host: str) -> None:
    assert not refused(host=host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.evil.example:3000",
        "10.0.0.5:3000",
        "[::2]:3000",
        "[::1].evil.example",
        "localhost@evil.example",
        "0.0.0.0:3000",
    ],
)
def test_other_host_names_are_refused(host: str) -> None:
    assert refused(host=host)
    assert refused(host=host, path="/graphql", method="POST", **JSON)
    assert refused(host=host, path="/graphql", kind="websocket")


def test_configured_hosts_are_accepted() -> None:
    hosts = "dagster.example.com, 10.0.0.5"
    assert not refused(host="Dagster.Example.com", hosts=hosts)
    assert not refused(host="10.0.0.5:3000", hosts=hosts)
    assert refused(host="example.com", hosts=hosts)


def test_probe_is_accepted_at_the_address_of_a_pod() -> None:
    assert not refused("/server_info", host="10.42.0.7:3000")
    assert refused("/server_info", method="POST", host="10.42.0.7:3000")
    assert refused("/x/server_info", host="10.42.0.7:3000")


@pytest.mark.parametrize(
    "origin", ["http://localhost:8000", "http://127.0.0.1:3000", "https://evil.example", "null", "", "file://"]
)
@pytest.mark.parametrize("path", ["/graphql", "/report_asset_materialization/video", "/logs/a"])
def test_requests_from_other_origins_are_refused(path: str, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "HEAD", "PUT"):
        assert refused(path, method, origin=origin, **JSON)
    assert refused(path, kind="websocket", origin=origin)


def test_same_origin_may_query_change_and_subscribe() -> None:
    own = {"origin": f"http://{HOST}", "sec_fetch_site": "same-origin"}
    assert not refused("/graphql", "POST", **JSON, **own)
    assert not refused("/graphql", kind="websocket", **own)


def test_public_name_of_a_proxy_is_accepted_as_origin() -> None:
    headers = {"host": "webserver:3000", "origin": "https://dagster.example.com", **JSON}
    assert not refused("/graphql", "POST", hosts="webserver,dagster.example.com", **headers)
    assert refused("/graphql", "POST", hosts="webserver", **headers)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_marked_cross_site_by_the_browser_are_refused(site: str) -> None:
    for mode, dest in (("no-cors", "image"), ("no-cors", "script"), ("navigate", "iframe"), ("cors", "empty")):
        assert refused("/runs", sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest)
    assert refused("/runs", "POST", sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document")
    assert refused("/graphql", sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document")


def test_cross_site_link_to_a_run_is_accepted() -> None:
    assert not refused("/runs/1", sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="document")


@pytest.mark.parametrize(
    "query",
    [CHANGE, f"query a {QUERY} {CHANGE}", "subscription {capturedLogs(logKey: [])}", "not GraphQL", "mutation{a"],
)
def test_get_request_with_a_mutation_is_refused(query: str) -> None:
    assert refused("/graphql", query=query)
    assert refused("/prefix/graphql", query=query)


def test_get_request_with_a_query_is_accepted() -> None:
    assert not refused("/graphql", query=QUERY)
    assert not refused("/graphql")


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; application/json"],
)
def test_form_content_types_are_refused(content_type: str) -> None:
    assert refused("/graphql", "POST", query=CHANGE, content_type=content_type)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "application/graphql"])
def test_post_without_an_origin_is_accepted(content_type: str) -> None:
    assert not refused("/graphql", "POST", content_type=content_type)
