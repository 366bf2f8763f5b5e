"""Connection limits and slow clients, over real sockets."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from transcription_assets.storage import Store
from transcription_assets.web import connection, server
from transcription_assets.web.archive import Archive
from transcription_assets.web.rate_limit import is_within, plain_address
from transcription_assets_tests import served, waiting

SEARCH = "/api/search?q=a"


def asked(address: str, path: str, source: str = "127.0.0.1") -> int:
    """Request `path` on a new connection from the local address `source` and return the status."""
    with socket.create_connection(served.place(address), 60, (source, 0)) as asking:
        asking.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return served.response_status(asking)


@contextmanager
def crowd(address: str, count: int, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Open connections, each after one answered request, and keep them open."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(served.place(address), 60, (source, 0)))
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert served.response_status(one) == 200
            opened.append(one)
        yield opened


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST", 8)
    monkeypatch.setattr(connection, "MOST_OF_ADDRESS", 4)
    monkeypatch.setattr(connection, "SPARE", 3)
    # Idle connections stay open until the test closes them, even on a slow machine.
    monkeypatch.setattr(connection, "REQUEST_S", 600.0)
    monkeypatch.setattr(connection, "SPARE_S", 600.0)
    monkeypatch.setattr(server, "QUIET_S", 600)


def test_connections_per_address_are_limited(archive: Archive) -> None:
    with served.listening(archive) as address, crowd(address, 4) as opened:
        assert asked(address, "/") == 503
        assert asked(address, "/", "127.0.0.2") == 200
        opened[0].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert served.response_status(opened[0]) == 200, "existing connections are still answered"


@pytest.mark.parametrize("crowds", [["127.0.0.1"], ["127.0.0.2", "127.0.0.3"]])
def test_probes_are_answered_above_the_limits(archive: Archive, crowds: list[str]) -> None:
    with served.listening(archive) as address, ExitStack() as stack:
        for source in crowds:
            stack.enter_context(crowd(address, 4, source))
        for _ in range(5):
            assert asked(address, "/readyz") == asked(address, "/healthz") == 200
        assert asked(address, "/") == asked(address, SEARCH) == 503


def test_oldest_spare_connections_are_closed_for_new_ones(archive: Archive) -> None:
    with served.listening(archive) as address, crowd(address, 4), ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(served.place(address), 60)) for _ in range(10)]
        assert asked(address, "/healthz") == 200
        for one in silent[:7]:
            assert one.recv(1) == b""


def test_silent_spare_connection_is_closed(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SPARE_S", 0.2)
    with (
        served.listening(archive) as address,
        crowd(address, 4),
        socket.create_connection(served.place(address), 60) as silent,
    ):
        assert silent.recv(1) == b""


def test_closed_connections_no_longer_count(archive: Archive) -> None:
    with served.listening(archive) as address:
        with crowd(address, 4):
            assert asked(address, "/") == 503
        waiting.until("a free place", lambda: asked(address, "/") == 200, lambda: None)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_client_that_does_not_read_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_S", 1.0)
    store = Store.open(str(tmp_path / "store"))
    (tmp_path / "store/video").mkdir(parents=True, exist_ok=True)
    with (tmp_path / "store/video/long.mp4").open("wb") as film:
        film.truncate(50_000_000)  # more than both ends buffer
    with served.running(served.archive(store)) as (address, running), ExitStack() as stack:
        for _ in range(4):
            reader = stack.enter_context(socket.create_connection(served.place(address), 60))
            reader.sendall(b"GET /media/video/long.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in reader.recv(100)  # the first packet, which has the status; the rest stays unread
        waiting.until("all are disconnected", lambda: not running.server_state.connections, lambda: None)
        assert asked(address, "/") == 200


def test_configured_proxy_is_exempt_from_the_address_limit(store: Store) -> None:
    named = served.archive(store, serve_proxies="127.0.0.2/31")
    with served.listening(named) as address, crowd(address, 5, "127.0.0.3"):
        assert asked(address, "/", "127.0.0.3") == 200


@pytest.mark.parametrize(
    ("given", "plain"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("testclient", "testclient")],
)
def test_an_ipv4_client_of_a_dual_stack_socket_is_ipv4(given: str, plain: str) -> None:
    assert plain_address(given) == plain


def test_a_proxy_is_trusted_on_a_dual_stack_socket() -> None:
    assert is_within(plain_address("::ffff:10.0.0.1"), ("10.0.0.0/8",))
