"""Recordings in a bucket, played in a real browser through the links of the site."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from transcription_assets.storage import Store
from transcription_assets_tests import recordings, seaweed, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.served import TALK
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import Opened, stands_at

pytestmark = pytest.mark.xdist_group("browser")

OLD_FILM = "video/old film.avi"


@pytest.fixture(scope="module")
def opened(browser: Browser, s3_server: seaweed.S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Serve a talk, and a film that browsers cannot play."""
    folder = tmp_path_factory.mktemp("bucket")
    store = Store.open(f"s3://{s3_server.bucket}/page", s3_session=seaweed.session(), s3_endpoint=s3_server.endpoint)
    store.put_media(TALK, recordings.video(folder / "film.mp4", 10.0, "-movflags", "+faststart"))
    store.put_media(OLD_FILM, recordings.video(folder / "film.avi", 10.0, "-c:v", "mpeg4", "-c:a", "mp3"))
    Chain(store).run(*store.list_media().frame["key"])
    with served.listening(served.archive(store)) as address, browsing.opening(browser, address) as opened:
        yield opened


@pytest.mark.parametrize(("key", "source"), [(TALK, "/media/"), (OLD_FILM, "/sound/")])
def test_recording_in_a_bucket_opens_and_plays_at_its_time(opened: Opened, key: str, source: str) -> None:
    page = opened(f"/watch/{key}?t=5.5")
    stands_at(page, 5.5)
    assert source in page.evaluate("document.querySelector('video').currentSrc")
    page.locator("[data-word]").last.click()
    page.wait_for_function("() => document.querySelector('video').currentTime > 8")
    page.wait_for_function("() => document.querySelector('[data-word].current').textContent === 'seconds.'")
