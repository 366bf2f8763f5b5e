"""One processed store for all tests of the site, and a client for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from transcription_assets.storage import Store
from transcription_assets.web.archive import Archive
from transcription_assets_tests import served


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of `store`, with copies of the recordings that were put into it."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def store(folder: Path) -> Store:
    """Return a processed store to serve, with secrets beside it that must not be served."""
    place = Store.open(str(folder / "store"))
    served.fill(place, folder)
    (folder / "secret.mp4").write_bytes(b"secret")
    place.write("catalog/secret.mp4", b"secret")
    return place


@pytest.fixture(scope="session")
def archive(store: Store) -> Archive:
    """Return the archive of that store."""
    return served.archive(store)


@pytest.fixture(scope="session")
def page(archive: Archive) -> Iterator[TestClient]:
    """Yield a client of the site of that archive."""
    with served.client(archive) as client:
        yield client
