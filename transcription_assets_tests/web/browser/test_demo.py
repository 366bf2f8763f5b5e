"""The demo, processed by the real models and searched in a real browser: each question lands on its second."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from transcription_assets import models
from transcription_assets.cli.process import Report, process
from transcription_assets.settings import Settings
from transcription_assets.web.archive import Archive
from transcription_assets.wiring import Services
from transcription_assets_tests import demo, recordings, served
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import Opened, stands_at

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    chosen = Settings(
        store=str(tmp_path_factory.mktemp("demo") / "store"),
        model="base",
        encoder_model="universal-sentence-encoder-multilingual",
        ffmpeg=recordings.wheel_ffmpeg(),
        launcher="in_process",
        slides=True,
        settle_s=0,
        serve_searches_per_minute=100_000,
    )
    locate = partial(models.pull, folder=chosen.models_dir)
    tools = Services(chosen, locate)
    keys = [f"video/{path.name}" for path in (demo.BEES, demo.BREAD, demo.WIZARD)]
    for key, path in zip(keys, (demo.BEES, demo.BREAD, demo.WIZARD), strict=True):
        tools.store.put_media(key, path)
    report = Report()
    for _ in process(tools, keys, lambda _step: None, report):
        pass
    assert report.failed == {}
    return Archive(chosen, locate)


@pytest.fixture
def opened(browser: Browser, archive: Archive) -> Iterator[Opened]:
    with served.listening(archive) as address, browsing.opening(browser, address) as opened:
        yield opened


@pytest.mark.parametrize(
    ("question", "path", "second"),
    [
        pytest.param("silver compass", demo.WIZARD, 23.1, id="words"),
        pytest.param("insects that stopped the traffic", demo.BEES, 34.6, id="meaning"),
        pytest.param("the mayor discovered a ring at breakfast", demo.BREAD, 38.0, id="english_for_italian"),
        pytest.param("il mago nascose una bussola dietro la tenda", demo.WIZARD, 23.1, id="italian_for_english"),
        pytest.param("Un vecchio lievito&kind=slide", demo.BREAD, 10.2, id="slide"),
    ],
)
def test_first_hit_starts_the_player_at_its_second(opened: Opened, question: str, path: Path, second: float) -> None:
    page = opened(f"/?q={question}")
    page.locator(".hits .hit").first.click()
    page.wait_for_url(f"**/watch/video/{path.name}**")
    stands_at(page, second, within=0.6)
