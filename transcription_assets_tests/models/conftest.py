"""A fake hub, an unreachable hub, and a folder for models."""

import socket
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from transcription_assets.models import CATALOGUE, Model
from transcription_assets_tests.models.hub import TOY, Answers, Hub
from transcription_assets_tests.serving import answering


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Start a fake hub that serves the toy model."""
    served = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Answers, served))
    with answering(server) as served.url:
        yield served
        served.release.set()


@pytest.fixture
def refused() -> Iterator[str]:
    """Return an address that refuses connections; the port stays reserved."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder for models."""
    return tmp_path / "models"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Add the toy model to the catalogue of this process."""
    monkeypatch.setitem(CATALOGUE, "toy", TOY)
    return TOY
