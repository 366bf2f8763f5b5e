"""The library in a real browser: states of recordings and reasons of failures."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, Route

from transcription_assets.storage import Store
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import PHONE, Opened, picture

pytestmark = pytest.mark.xdist_group("browser")

BROKEN = "video/broken upload.mp4"
ARABIC = "audio/عربي/النحل على سطح المكتبة.wav"
LONG = f"audio/{'a-very-long-name-from-some-conference-system-' * 4}.wav"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Return a chain with one finished, one broken and two waiting recordings."""
    store = Store.open(str(tmp_path / "store"))
    sound = recordings.tone(tmp_path / "sound.wav", 10.0, rate=8_000)
    for name in ("audio/done.wav", ARABIC, LONG):
        store.put_media(name, sound)
    (tmp_path / "garbage").write_bytes(b"nothing of the kind" * 100)
    store.put_media(BROKEN, tmp_path / "garbage")
    chain = Chain(store)
    chain.attempt("audio/done.wav", BROKEN)
    return chain


@pytest.fixture
def opened(browser: Browser, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Serve a site that computes its overview for each request."""
    monkeypatch.setattr("transcription_assets.web.library.FRESH_S", 0.0)
    monkeypatch.setattr("transcription_assets.web.cache.SHARE", float("inf"))
    with served.listening(served.archive(chain.store)) as address, browsing.opening(browser, address) as opened:
        yield opened


def rows(page: Page, number: int) -> None:
    page.wait_for_function("(number) => document.querySelectorAll('.row').length === number", arg=number)


def test_library_updates_by_itself_when_recordings_are_done(opened: Opened, chain: Chain) -> None:
    page = opened("about:blank")
    page.clock.install()
    page.goto("/library")
    page.get_by_role("button", name="Waiting 2").wait_for()
    chain.run(ARABIC, LONG)
    page.clock.fast_forward(11_000)
    page.get_by_role("button", name="Done 3").wait_for()
    assert page.locator(".row .state.done").count() == 3


def test_library_filters_are_kept_in_the_url(opened: Opened) -> None:
    page = opened("/library")
    rows(page, 4)
    page.get_by_label("Filter by name").fill("wav")
    rows(page, 3)
    page.get_by_role("button", name="Waiting 2").click()
    rows(page, 2)
    assert page.url.endswith("/library?state=waiting&name=wav")
    again = opened(page.url)
    rows(again, 2)
    assert again.get_by_label("Filter by name").input_value() == "wav"


def test_late_response_does_not_replace_a_newer_one(opened: Opened) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page = opened("/library")
    rows(page, 4)
    page.route("**/api/media?*name=done*", hold)
    with page.expect_request("**/api/media?*name=done*"):
        page.get_by_label("Filter by name").fill("done")
    page.get_by_label("Filter by name").fill("wav")
    rows(page, 3)
    with suppress(Error):  # the page has cancelled the request
        held[0].continue_()
    page.wait_for_timeout(500)
    rows(page, 3)


def test_failed_recording_shows_a_reason_and_no_player(opened: Opened) -> None:
    page = opened("/library?state=failed")
    page.locator(".row .name").click()
    page.locator(".notice .failure").wait_for()
    assert "cannot be opened" in page.locator(".failure").inner_text()
    assert page.locator("video, audio").count() == 0
    picture(page, "failed")


def test_long_and_right_to_left_names_fit_the_layout(opened: Opened) -> None:
    for colours in ("light", "dark"):
        page = opened("/library", **PHONE, color_scheme=colours)
        rows(page, 4)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        picture(page, f"phone-library-{colours}")
    page = opened("/library")
    rows(page, 4)
    lefts = page.locator(".row .facts").evaluate_all("all => all.map((one) => getComputedStyle(one).direction)")
    assert set(lefts) == {"ltr"}
    assert page.locator("[dir=auto]").count() >= 1
    picture(page, "library-names")
