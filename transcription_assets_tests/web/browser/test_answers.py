"""An answer with citations on the search page: real server, search and browser; a FAKE language model."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.answers.language_model import FakeLanguageModel, language_model
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import Opened

pytestmark = pytest.mark.xdist_group("browser")

SEARCH = "/?q=sentence+1+of+10+seconds&prefix=video/talks/"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("archive")
    made = Store.open(str(folder / "store"))
    served.fill(made, folder)
    return made


@pytest.fixture
def model() -> Iterator[FakeLanguageModel]:
    with language_model() as made:
        made.reply = "<img src=x onerror=alert(1)> Sentence 1 was said [1]. Made up [9]."
        yield made


@pytest.fixture
def opened(browser: Browser, store: Store, model: FakeLanguageModel) -> Iterator[Opened]:
    archive = served.archive(store, ask_url=model.url, ask_model="tiny")
    with served.listening(archive) as address, browsing.opening(browser, address) as opened:
        yield opened


def test_citation_of_an_answer_lands_on_the_second(opened: Opened) -> None:
    page = opened(SEARCH)
    page.get_by_role("button", name="Answer with citations").click()
    page.locator(".answer").wait_for()
    assert page.locator(".answer").inner_text().startswith("<img src=x onerror=alert(1)> Sentence 1 was said.")
    assert page.locator("main .answer img").count() == 0
    browsing.picture(page, "answer")
    page.locator(".answer a").click()
    page.wait_for_url("**/watch/video/talks/**")
    browsing.stands_at(page, 5.0)


def test_question_is_asked_only_when_the_button_is_pressed(opened: Opened, model: FakeLanguageModel) -> None:
    page = opened(SEARCH)
    page.locator(".hit").first.wait_for()
    assert model.asked == []


def test_question_that_is_not_answered_says_why(opened: Opened, model: FakeLanguageModel) -> None:
    model.reply = "NO ANSWER"
    page = opened(SEARCH)
    page.get_by_role("button", name="Answer with citations").click()
    page.locator(".ask p", has_text="do not answer").wait_for()


def test_failure_of_the_model_can_be_tried_again(browser: Browser, store: Store, model: FakeLanguageModel) -> None:
    model.raw = [(401, {}, b"wrong key")]
    archive = served.archive(store, ask_url=model.url, ask_model="tiny")
    with served.listening(archive) as address, browsing.opening(browser, address, refused=503) as opened:
        page = opened(SEARCH)
        page.get_by_role("button", name="Answer with citations").click()
        page.locator(".ask .notice").wait_for()
        page.get_by_role("button", name="Answer with citations").click()
        page.locator(".answer").wait_for()


def test_page_without_a_model_offers_no_answers(browser: Browser, store: Store) -> None:
    with served.listening(served.archive(store)) as address, browsing.opening(browser, address) as opened:
        page = opened(SEARCH)
        page.locator(".hit").first.wait_for()
        assert page.locator(".ask button").count() == 0
