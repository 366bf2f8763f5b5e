"""The demo in a real browser, processed by the real models: each question lands on its second, and slides are shown."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from transcription_assets import models
from transcription_assets.cli.process import Report, process
from transcription_assets.pipeline import slides
from transcription_assets.settings import Settings
from transcription_assets.web.archive import Archive
from transcription_assets.wiring import Services
from transcription_assets_tests import demo, demo_library, recordings, served
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import PHONE, Opened, picture, stands_at

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("browser"), pytest.mark.timeout(demo_library.TIMEOUT_S)]

WATCH_BREAD = f"/watch/{demo_library.KEYS[demo.BREAD]}"


@pytest.fixture(scope="module")
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Embed the transcripts of the demo library with the multilingual model, and read the slides of BREAD.

    Reading the slides of the others too would take as long as everything else.
    """
    root = tmp_path_factory.mktemp("demo") / "store"
    with demo_library.opened(request.config, tmp_path_factory) as made:
        shutil.copytree(made.graph.root, root, ignore=shutil.ignore_patterns("lancedb"))
    chosen = Settings(
        store=str(root),
        model="base",
        encoder_model="universal-sentence-encoder-multilingual",
        ffmpeg=recordings.wheel_ffmpeg(),
        launcher="in_process",
        slides=True,
        settle_s=0,
        serve_searches_per_minute=100_000,
    )
    locate = partial(models.pull, folder=chosen.models_dir)
    for with_slides, path in ((False, demo.BEES), (False, demo.WIZARD), (True, demo.BREAD)):
        tools = Services(chosen.model_copy(update={"slides": with_slides}), locate)
        report = Report()
        for _ in process(tools, [demo_library.KEYS[path]], lambda _step: None, report):
            pass
        assert (report.failed, report.incomplete) == ({}, {})
        assert report.audio_s == 0.0, "the transcripts are those of the demo library"
    return Archive(chosen, locate)


@pytest.fixture(scope="module")
def address(archive: Archive) -> Iterator[str]:
    with served.listening(archive) as address:
        yield address


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Opened]:
    with browsing.opening(browser, address) as opened:
        yield opened


def test_the_italian_slides_of_the_demo_are_read(archive: Archive) -> None:
    made = slides.load(archive.tools.store, demo_library.KEYS[demo.BREAD])
    assert made is not None
    assert [slide.text.split("\n")[1] for slide in made.slides] == [
        "Alle due di notte",
        "Un vecchio lievito",
        "Il pane dorme",
        "L’anello nel pane",
        "Prima di sera",
    ]
    assert [slide.start for slide in made.slides] == pytest.approx([0.0, 10.2, 21.4, 32.8, 46.2], abs=0.25)


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
    page.wait_for_url(f"**/watch/{demo_library.KEYS[path]}**")
    stands_at(page, second, within=0.6)


def test_a_question_leads_to_the_second_of_its_slide(opened: Opened) -> None:
    page = opened("/?q=Un vecchio lievito&kind=slide")
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
    page = opened(WATCH_BREAD)
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
    page = opened(WATCH_BREAD, **PHONE)
    page.wait_for_selector("[data-slide='1']")
    picture(page, "slides-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
