"""The site as attackers meet it: nothing outside of the inboxes, nothing that runs, nothing that changes."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.served import HOSTILE, TALK

ESCAPES = [
    "video/../catalog/secret.mp4",
    "video/..%2fcatalog%2fsecret.mp4",
    "video/%252e%252e/secret.mp4",
    "video/%2e%2e/%2e%2e/secret.mp4",
    "video/....//secret.mp4",
    "catalog/secret.mp4",
    "catalog%2Fsecret.mp4",
    "../secret.mp4",
    "/secret.mp4",
    "%2Fsecret.mp4",
    "video//../../secret.mp4",
    "video/%00/../../secret.mp4",
    "video/a%00.mp4",
    "transcripts/" + quote(TALK) + ".json",
    "lancedb/passages.lance/x.mp4",
    "video/talks",
    "video/talks/",
    "video/" + "a" * 300 + ".mp4",
    "DONE_video/talks/a%20talk.mp4",
    "file:/etc/passwd.mp4",
]


@pytest.mark.parametrize("key", ESCAPES)
@pytest.mark.parametrize("route", ["/media/{}", "/sound/{}", "/posters/{}", "/api/media/{}", "/api/media/{}/words"])
def test_no_address_leads_out_of_the_inboxes(page: TestClient, route: str, key: str) -> None:
    answer = page.get(route.format(key))
    assert answer.status_code in {404, 405, 422}, answer.text[:200]
    assert b"secret" not in answer.content.replace(b"secret.mp4", b"")


def test_nothing_can_be_changed(page: TestClient) -> None:
    addresses = [
        "/",
        "/library",
        "/api/search?q=a",
        "/api/media",
        f"/api/media/{served.of(TALK)}",
        f"/media/{served.of(TALK)}",
    ]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert {page.request(method, address).status_code for address in addresses} == {405}


@pytest.mark.parametrize(
    "address", ["/", "/library", f"/watch/{served.of(HOSTILE)}", "/api/media", "/static/page.js", "/nowhere"]
)
def test_every_answer_forbids_what_it_does_not_need(page: TestClient, address: str) -> None:
    headers = page.get(address).headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers


def test_a_name_that_is_markup_stays_a_name(page: TestClient) -> None:
    answer = page.get(f"/watch/{served.of(HOSTILE)}")
    assert answer.status_code == 200
    assert "<img src=x" not in answer.text
    assert "&lt;img src=x" in answer.text


def test_what_claims_to_be_a_page_is_never_opened_as_one(page: TestClient, store: Store) -> None:
    store.put_media("video/evil.ts", Path(__file__))
    answer = page.get("/media/video/evil.ts")
    assert answer.headers["content-type"] == "video/mp2t"
    assert "sandbox" in answer.headers["content-security-policy"]
    (Path(store.url) / "video/evil.ts").unlink()


def test_the_page_names_no_other_host_and_is_small() -> None:
    static = Path(str(served.site.__file__)).parent / "static"
    assert sum(path.stat().st_size for path in static.iterdir()) < 100_000
    for path in static.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|\bon\w+=\"|<style|innerHTML|style=", text), path.name


def test_the_schema_names_every_route_that_programs_use(page: TestClient) -> None:
    described = page.get("/api/openapi.json").json()["paths"]
    assert {
        "/api/search",
        "/api/facets",
        "/api/media",
        "/api/media/{key}",
        "/api/media/{key}/words",
        "/api/media/{key}/transcript.{kind}",
        "/media/{key}",
        "/sound/{key}",
        "/posters/{key}",
    } == set(described)
