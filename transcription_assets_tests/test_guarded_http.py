"""The guard of downloads: only public addresses, after name resolution and after redirects, within limits."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.guarded_http import Forbidden, client, is_allowed
from transcription_assets.sources.download import Downloader, get_document
from transcription_assets_tests.sources.conftest import LOOPBACK
from transcription_assets_tests.sources.site import Page, Site, site

INTERNAL = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 -- nothing listens
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fec0::1",
    "64:ff9b::a9fe:a9fe",
]


@pytest.fixture(name="site")
def running_site() -> Iterator[Site]:
    with site() as running:
        yield running


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(ip_address(address))


def test_an_allowed_network_allows_its_addresses_only() -> None:
    networks = (ip_network("10.1.0.0/16"),)
    assert is_allowed(ip_address("10.1.2.3"), networks)
    assert not is_allowed(ip_address("10.2.0.1"), networks)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_loopback_is_refused_in_any_notation(host: str, site: Site) -> None:
    port = site.address.rpartition(":")[2]
    with pytest.raises((Forbidden, TransientFailure, PermanentFailure)):
        get_document(lambda left: client((), left), f"http://{host}:{port}/feed", 10)
    assert site.requests == []


def test_a_name_with_an_internal_address_is_refused(site: Site) -> None:
    port = site.address.rpartition(":")[2]
    found = [ip_address("1.1.1.1"), ip_address("127.0.0.1")]
    with pytest.raises(Forbidden):
        get_document(
            lambda left: client((), left, lambda _host, _port: found), f"http://rebinding.example:{port}/feed", 10
        )
    assert site.requests == []


def test_the_connection_goes_to_the_checked_address(site: Site) -> None:
    """The name is resolved once: a second answer of its server is never used."""
    site.pages["/feed"] = Page(b"data", "text/plain")
    answers = [[ip_address("127.0.0.1")], [ip_address("127.0.0.2")]]
    port = site.address.rpartition(":")[2]
    found = get_document(
        lambda left: client(LOOPBACK, left, lambda _host, _port: answers.pop(0)), f"http://a.example:{port}/feed", 10
    )
    assert found is not None
    assert found.data == b"data"
    assert len(answers) == 1
    assert site.requests[0][1]["host"] == f"a.example:{port}"


def test_a_redirect_to_an_internal_address_is_refused(site: Site) -> None:
    port = site.address.rpartition(":")[2]
    site.pages["/out"] = Page(status=302, headers={"location": f"http://internal.example:{port}/secret"})
    site.pages["/secret"] = Page(b"secret")
    addresses = {"public.example": "127.0.0.1", "internal.example": "127.9.9.9"}
    allowed = (ip_network("127.0.0.1/32"),)
    with pytest.raises(Forbidden):
        get_document(
            lambda left: client(allowed, left, lambda host, _port: [ip_address(addresses[host])]),
            f"http://public.example:{port}/out",
            10,
        )
    assert [path for path, _ in site.requests] == ["/out"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/"])
def test_a_redirect_to_another_scheme_is_refused(location: str, site: Site) -> None:
    site.pages["/out"] = Page(status=302, headers={"location": location})
    with pytest.raises(Forbidden):
        get_document(lambda left: client(LOOPBACK, left), site.url("/out"), 10)


def test_cyclic_redirects_end(site: Site) -> None:
    site.pages["/a"] = Page(status=302, headers={"location": "/b"})
    site.pages["/b"] = Page(status=302, headers={"location": "/a"})
    with pytest.raises(PermanentFailure):
        get_document(lambda left: client(LOOPBACK, left), site.url("/a"), 10)
    assert len(site.requests) <= 12


def test_proxies_of_the_environment_are_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/feed"] = Page(b"data", "text/plain")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert get_document(lambda left: client(LOOPBACK, left), site.url("/feed"), 10) is not None


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """Serve one byte after another, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(head)
            while not ended.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/feed"
    finally:
        ended.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nx-a: ", b"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\n\r\n"])
def test_a_server_that_drips_is_left_at_the_limit(head: bytes, tmp_path: Path) -> None:
    with dripping(head) as url:
        started = time.monotonic()
        with pytest.raises(TransientFailure):
            Downloader(lambda left: client(LOOPBACK, left), 10**9, 1.0, lambda _s: None).download(
                url, tmp_path / "part"
            )
        assert time.monotonic() - started < 30
