"""Slides in a real browser: the Italian talk of the demo, whose slides are read by the real networks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from transcription_assets import models, settings
from transcription_assets.slides.local import LocalReader
from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import PHONE, Opened, picture, stands_at

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("browser")]

BREAD = Path(__file__).parents[3] / "demo/recordings/talks/italiano/il-pane-della-notte.mp4"
KEY = "video/demo/il-pane-della-notte.mp4"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The processed talk; what is said in it is made up."""
    store = Store.open(str(tmp_path_factory.mktemp("bread") / "store"))
    store.put_media(KEY, BREAD)
    reader = LocalReader(models.pull("pp-ocrv6-small", "ocr", settings.load().models_dir))
    Chain(store, reader=reader).run(KEY)
    return store


@pytest.fixture
def opened(browser: Browser, shown: Store) -> Iterator[Opened]:
    with (
        served.listening(served.archive(shown, slides=True)) as address,
        browsing.opening(browser, address) as opened,
    ):
        yield opened


def test_a_question_leads_to_the_second_of_its_slide(opened: Opened) -> None:
    page = opened("/?q=Un vecchio lievito")
    hit = page.locator(".hits .hit").first
    hit.wait_for()
    assert hit.locator("mark").all_text_contents() == ["vecchio", "lievito"]
    assert "Un vecchio lievito" in (hit.locator("img").get_attribute("alt") or "")
    picture(page, "slide-result")
    hit.click()
    stands_at(page, 10.2)


def test_alle_due_di_notte_finds_the_first_slide(opened: Opened) -> None:
    page = opened("/?q=Alle due di notte&kind=slide")
    page.locator(".hits .hit").first.click()
    page.wait_for_url("**/watch/**t=0.00**")
    page.wait_for_selector("[data-slide='5']")
    assert page.locator(".slide").count() == 5


def test_a_click_on_a_slide_seeks_to_it(opened: Opened) -> None:
    page = opened(f"/watch/{KEY}")
    third = page.locator("[data-slide='3']")
    third.scroll_into_view_if_needed()
    assert third.locator("img").get_attribute("alt") == (
        "IL PANE DELLA NOTTE\nIl pane dorme\nSei ore di riposo\nUn’ora nel forno\nIl suono di un tamburo"
    )
    page.wait_for_function("[...document.querySelectorAll('.slide img')].every((image) => image.naturalWidth === 320)")
    picture(page, "slides")
    third.click()
    stands_at(page, 21.4)
    page.wait_for_selector("[data-slide='3'][aria-current='true']")


def test_slides_fit_on_a_phone(opened: Opened) -> None:
    page = opened(f"/watch/{KEY}", **PHONE)
    page.wait_for_selector("[data-slide='1']")
    picture(page, "slides-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
