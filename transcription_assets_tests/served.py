"""An archive to be served: real recordings, store and table; FAKES for the models (see chain.py)."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import uvicorn
from fastapi.testclient import TestClient

from transcription_assets.domain import media_keys
from transcription_assets.settings import Settings
from transcription_assets.storage import Store
from transcription_assets.web import server
from transcription_assets.web.archive import Archive
from transcription_assets.web.middleware import Guard
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain, no_model
from transcription_assets_tests.fakes import HashEncoder

TALK = "video/talks/a talk.mp4"
TONE = "audio/tone.wav"
HOSTILE = "video/<img src=x onerror=alert(1)>.mp4"
SENTENCE = "Sentence 1 of 10 seconds."
"""The last sentence of the talk, from 5.0 s on."""


def fill(store: Store, folder: Path) -> Chain:
    """Add a talk of ten seconds with a picture, a tone of five, and a recording whose name is HTML markup."""
    chain = Chain(store)
    film = recordings.video(folder / "film.mp4", 10.0, "-movflags", "+faststart")
    for name in (TALK, HOSTILE):
        store.put_media(name, film)
    store.put_media(TONE, recordings.tone(folder / "tone.wav", 5.0, rate=8_000))
    chain.run(*store.list_media().frame["key"])
    return chain


def archive(store: Store | Path, **settings: Any) -> Archive:
    """Return the archive of an open store or of a path; `settings` are those of the server."""
    opened = {"store": store} if isinstance(store, Store) else {}
    url = store.url if isinstance(store, Store) else str(store)
    made = Archive(Settings(**{"serve_searches_per_minute": 100_000, "store": url} | settings), no_model)
    made.tools.__dict__.update(encoder=HashEncoder(), **opened)
    return made


@contextmanager
def client(served: Archive, host: str = "127.0.0.1", **headers: str) -> Iterator[TestClient]:
    """Yield a client that calls the site without a network; redirects are returned, not followed."""
    with TestClient(
        decoded_once(server.build(served, host)), "http://127.0.0.1", headers=headers, follow_redirects=False
    ) as asking:
        yield asking


@contextmanager
def listening(served: Archive) -> Iterator[str]:
    """Run a real server on a free port in a thread; yield its address once it can answer queries."""
    with running(served) as (address, _):
        yield address


@contextmanager
def running(served: Archive) -> Iterator[tuple[str, uvicorn.Server]]:
    """Like `listening`, but also yield the server."""
    bound = server.listener("127.0.0.1", 0)
    site_server = uvicorn.Server(server.configured(server.build(served, "127.0.0.1"), served.settings.proxies))
    thread = threading.Thread(target=site_server.run, args=([bound],))
    thread.start()
    try:
        served.encoder_ready.result(120)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", site_server
    finally:
        site_server.should_exit = True
        thread.join()


def place(address: str) -> tuple[str, int]:
    """Return host and port of an address, for a socket."""
    host, _, port = address.rpartition("/")[2].partition(":")
    return host, int(port)


def decoded_once(app: Guard) -> Any:
    """Wrap the site to receive paths as a server passes them: the test client decodes twice, `%253C` becomes `<`."""

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["path"] = unquote(scope["raw_path"].decode())
        await app(scope, receive, send)

    return asked


def of(name: str) -> str:
    """Return the URL path of a recording."""
    return quote(media_keys.encode(name))


def response_status(asking: socket.socket) -> int:
    """Read one whole response from a socket and return its status; a response may arrive in several packets."""
    response = HTTPResponse(asking)
    response.begin()
    response.read()
    return response.status
