from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.sources.fetching import Fetcher, SourceLimits
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.sources.site import Site, site

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture(name="site")
def running_site() -> Iterator[Site]:
    with site() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def fetcher(store: Store, tmp_path: Path) -> Fetcher:
    """A fetcher that may reach the loopback network and does not wait between attempts."""
    limits = SourceLimits(tmp_path / "downloads", LOOPBACK, most_bytes=5_000_000, limit_s=60)
    return Fetcher(store, MediaDecoder(recordings.wheel_ffmpeg()), limits, sleep=lambda _s: None)


@pytest.fixture(scope="session")
def tone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return recordings.tone(tmp_path_factory.mktemp("tone") / "tone.wav", 5.0, rate=8_000).read_bytes()
