"""Attacks on the site: path traversal, injected markup, changes, and slow or oversized requests."""

import re
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from transcription_assets.storage import Store
from transcription_assets.web.archive import LONGEST_KEY, Archive
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
def test_no_url_reaches_files_outside_the_inboxes(page: TestClient, route: str, key: str) -> None:
    answer = page.get(route.format(key))
    assert answer.status_code in {404, 405, 422}, answer.text[:200]
    assert b"secret" not in answer.content.replace(b"secret.mp4", b"")


def test_methods_that_change_data_are_refused(page: TestClient) -> None:
    addresses = [
        "/",
        "/library",
        "/api/search?q=a",
        "/api/media",
        f"/api/media/{served.of(TALK)}",
        f"/media/{served.of(TALK)}",
    ]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert {page.request(method, address).status_code for address in addresses} == {403}


def test_reading_routes_have_no_method_that_changes_data(store: Store) -> None:
    addresses = ["/", "/library", "/api/search?q=a", f"/api/media/{served.of(TALK)}"]
    with served.client(served.archive(store, serve_write_token="w"), authorization="Bearer w") as writer:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert {writer.request(method, address).status_code for address in addresses} == {405}


@pytest.mark.parametrize(
    "address", ["/", "/library", f"/watch/{served.of(HOSTILE)}", "/api/media", "/static/page.js", "/nowhere"]
)
def test_every_response_has_security_headers(page: TestClient, address: str) -> None:
    headers = page.get(address).headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers


def test_markup_in_a_name_is_escaped(page: TestClient) -> None:
    answer = page.get(f"/watch/{served.of(HOSTILE)}")
    assert answer.status_code == 200
    assert "<img src=x" not in answer.text
    assert "&lt;img src=x" in answer.text


def test_media_files_are_never_served_as_pages(page: TestClient, store: Store) -> None:
    store.put_media("video/evil.ts", Path(__file__))
    answer = page.get("/media/video/evil.ts")
    assert answer.headers["content-type"] == "video/mp2t"
    assert "sandbox" in answer.headers["content-security-policy"]
    (Path(store.url) / "video/evil.ts").unlink()


def test_static_files_are_small_and_refer_to_no_other_host() -> None:
    static = Path(str(served.server.__file__)).parent / "static"
    assert sum(path.stat().st_size for path in static.iterdir()) < 100_000
    for path in static.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|\bon\w+=\"|<style|innerHTML|style=", text), path.name


def test_schema_lists_every_public_route(page: TestClient) -> None:
    described = page.get("/api/openapi.json").json()["paths"]
    assert {
        "/api/search",
        "/api/facets",
        "/api/similar",
        "/api/media",
        "/api/media/{key}",
        "/api/media/{key}/words",
        "/api/media/{key}/slides",
        "/api/media/{key}/speakers",
        "/api/media/{key}/speakers/{label}",
        "/api/media/{key}/speakers/{label}/reject",
        "/api/people",
        "/api/people/{person}",
        "/api/people/{person}/merge",
        "/api/media/{key}/transcript.{kind}",
        "/media/{key}",
        "/sound/{key}",
        "/posters/{key}",
        "/slides/{key}/{number}.webp",
        "/api/ask",
        "/api/uploads",
        "/api/uploads/{identifier}",
    } == set(described)


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
@pytest.mark.parametrize("begun", [b"G", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx-slow: "])
def test_incomplete_request_is_disconnected(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, before: bytes, begun: bytes
) -> None:
    monkeypatch.setattr("transcription_assets.web.connection.REQUEST_S", 0.5)
    with served.listening(archive) as address, socket.create_connection(served.place(address), 60) as asking:
        if before:
            asking.sendall(before)
            assert served.response_status(asking) == 200
        asking.sendall(begun)
        while asking.recv(1000):
            pass  # until the server closes it; a timeout of this socket fails the test


def test_incomplete_form_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transcription_assets.web.pages.FORM_S", 0.5)
    archive = served.archive(store, serve_token="secret")
    head = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken="
    with served.listening(archive) as address, socket.create_connection(served.place(address), 60) as asking:
        asking.sendall(head)
        assert served.response_status(asking) == 401


def test_longest_key_may_arrive_in_parts(archive: Archive) -> None:
    encoded = "%F0%9F%8E%A7" * LONGEST_KEY
    head = f"GET /api/media/{encoded}/words HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with served.listening(archive) as address, socket.create_connection(served.place(address), 60) as asking:
        asking.sendall(head[:30_000])
        with socket.create_connection(served.place(address), 60) as other:
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert served.response_status(other) == 200  # by now the server has read the first part
        asking.sendall(head[30_000:])
        assert served.response_status(asking) == 404


def test_too_long_url_is_refused_and_the_server_keeps_working(archive: Archive) -> None:
    with served.listening(archive) as address:
        for path in ("/?q=" + "a" * 200_000, "/api/search?q=" + "a" * 60_000, "/watch/video/" + "a" * 60_000 + ".mp4"):
            with socket.create_connection(served.place(address), 60) as asking:
                asking.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                # The server closes without reading the rest, which may reset the connection after the status line.
                assert asking.makefile("rb").readline().split()[1] in {b"400", b"404", b"422"}
        with socket.create_connection(served.place(address), 60) as asking:
            asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert served.response_status(asking) == 200
