"""The search page in a real browser, with made-up responses of the API."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Route

from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import DESK, Opened

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    archive = served.archive(Store.open(str(tmp_path / "store")))
    with served.listening(archive) as address, browsing.opening(browser, address) as opened:
        yield opened


def moment(number: int) -> dict[str, Any]:
    said = f"Moment {number}."
    return {
        "key": "audio/a.wav",
        "title": f"Talk {number}",
        "folder": "",
        "start": number,
        "end": number + 1,
        "text": said,
        "parts": [{"text": said, "sentence": True, "match": False}],
        "score": 1,
        "weak": False,
        "language": "en",
        "speaker": None,
        "recorded": None,
        "duration": 60,
        "url": f"/watch/audio/a.wav?t={number}.00",
        "poster": "",
        "kind": "speech",
        "slide": None,
        "said": "",
    }


def answering(route: Route) -> None:
    """FAKE: the second page begins with the moment that the first one ended with."""
    asked = parse_qs(urlsplit(route.request.url).query)
    numbers = {"0": [1, 2], "2": [2, 3]}[asked["offset"][0]]
    found = {"moments": [moment(number) for number in numbers], "more": 1 in numbers, "passages": 9, "note": ""}
    route.fulfill(body=json.dumps(found), content_type="application/json")


def test_result_repeated_on_the_next_page_is_shown_once(opened: Opened) -> None:
    page = opened("about:blank")
    page.route("**/api/search?*", answering)
    page.goto("/?q=moment")
    page.locator("button.more").click()
    page.locator(".hit .name", has_text="Talk 3").wait_for()
    assert page.locator(".hit .name").all_inner_texts() == ["Talk 1", "Talk 2", "Talk 3"]


def test_weak_results_are_collapsed_and_enter_expands_them(opened: Opened) -> None:
    found = [moment(1), moment(2) | {"weak": True}, moment(3) | {"weak": True}]
    found[0]["parts"] = [
        {"text": "A ", "sentence": False, "match": False},
        {"text": "compass", "sentence": False, "match": True},
        {"text": ". Moment 1.", "sentence": True, "match": False},
    ]
    body = json.dumps({"moments": found, "more": False, "passages": 9, "note": ""})
    page = opened("about:blank")
    page.route("**/api/search?*", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.goto("/?q=compass")
    page.locator(".hit").first.wait_for()
    visible = page.locator(".hit .name").locator("visible=true")
    assert visible.all_inner_texts() == ["Talk 1"]
    assert page.locator(".hit mark").first.inner_text() == "compass"
    assert page.locator(".weak summary").inner_text().split()[0] == "2"
    page.get_by_role("searchbox").focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator(".hit .name", has_text="Talk 3").wait_for()
    assert visible.all_inner_texts() == ["Talk 1", "Talk 2", "Talk 3"]


@pytest.mark.parametrize("word", ["library ", "ภาษา", "図書館"])
def test_long_context_of_a_sentence_is_truncated_between_words(opened: Opened, word: str) -> None:
    found = moment(1)
    found["parts"] = [
        {"text": f"{word * 100}(", "sentence": False, "match": False},
        {"text": "Here.", "sentence": True, "match": False},
        {"text": f"){word * 100}", "sentence": False, "match": False},
    ]
    body = json.dumps({"moments": [found], "more": False, "passages": 9, "note": ""})
    page = opened("about:blank")
    page.route("**/api/search?*", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.goto("/?q=here")
    fit = word * (149 // len(word))  # of 150 characters, after the bracket
    assert page.locator(".hit .excerpt").text_content() == f"… {fit}(Here.){fit.rstrip()} …"


def test_weak_results_are_shown_if_there_are_no_others(opened: Opened) -> None:
    body = json.dumps({"moments": [moment(1) | {"weak": True}], "more": False, "passages": 9, "note": ""})
    page = opened("about:blank")
    page.route("**/api/search?*", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.goto("/?q=compass")
    page.locator(".hit .name", has_text="Talk 1").wait_for()


def test_response_aborted_while_it_is_read_shows_no_error(opened: Opened) -> None:
    page = opened("about:blank")
    page.route("**/api/search?*", answering)
    # Chromium does this if the next search starts between the headers and the body of a response.
    page.add_init_script("Response.prototype.json = async () => { throw new DOMException('', 'AbortError') }")
    with page.expect_response("**/api/search?*"):
        page.goto("/?q=moment")
    page.wait_for_load_state("networkidle")
    assert page.locator(".notice").count() == 0  # `browsing.opening` asserts that the console has no errors


def test_truncated_response_shows_an_error_and_can_be_retried(opened: Opened) -> None:
    page = opened("about:blank")
    page.route("**/api/search?*", lambda route: route.fulfill(body='{"moments": [', content_type="application/json"))
    page.goto("/?q=moment")
    page.route("**/api/search?*", answering)
    page.locator(".notice button").click()
    page.locator(".hit .name", has_text="Talk 1").wait_for()


def test_filters_match_the_search_after_going_back(opened: Opened) -> None:
    known = {
        "recordings": 2,
        "languages": {"en": 1, "de": 1},
        "speakers": {},
        "collections": {},
        "kinds": {},
        "since": None,
    }
    page = opened("about:blank")
    page.route("**/api/search?*", answering)
    page.route("**/api/facets", lambda route: route.fulfill(body=json.dumps(known), content_type="application/json"))
    page.goto("/?q=moment")
    page.get_by_label("Language").select_option("de")
    page.wait_for_url("**language=de")
    page.go_back()
    page.wait_for_url("**/?q=moment")
    page.wait_for_function("() => document.querySelector('.filters select').value === ''")


def test_truncated_context_does_not_start_with_a_full_stop(opened: Opened) -> None:
    found = moment(1)
    rest = f"{'river ' * 24}xx"
    found["parts"] = [
        {"text": f"This is the end. {rest}", "sentence": False, "match": False},
        {"text": "Here.", "sentence": True, "match": False},
    ]
    body = json.dumps({"moments": [found], "more": False, "passages": 9, "note": ""})
    page = opened("about:blank")
    page.route("**/api/search?*", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.goto("/?q=here")
    assert page.locator(".hit .excerpt").text_content() == f"… {rest}Here."


def test_link_on_a_result_opens_similar_moments(opened: Opened) -> None:
    page = opened("about:blank")
    asked: list[dict[str, list[str]]] = []

    def similar(route: Route) -> None:
        asked.append(parse_qs(urlsplit(route.request.url).query))
        found = {"moments": [moment(7)], "more": False, "passages": 9, "note": ""}
        route.fulfill(body=json.dumps(found), content_type="application/json")

    slide = {"number": 1, "start": 1, "end": 2, "text": "Moment 1.", "picture": "/static/icon.svg"}
    body = json.dumps(
        {"moments": [moment(1) | {"kind": "slide", "slide": slide}], "more": False, "passages": 9, "note": ""}
    )
    page.route("**/api/search?*", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.route("**/api/similar?*", similar)
    page.goto("/?q=moment")
    page.locator("a.similar").first.click()
    page.locator(".hit", has_text="Moment 7.").wait_for()
    assert (asked[0]["key"], asked[0]["at"], asked[0]["moment_kind"]) == (["audio/a.wav"], ["1"], ["slide"])
    assert page.locator(".hit").get_attribute("href") == "/watch/audio/a.wav?t=7.00"


def test_search_in_one_recording_can_be_widened(opened: Opened) -> None:
    page = opened("about:blank")
    asked: list[dict[str, list[str]]] = []

    def searched(route: Route) -> None:
        asked.append(parse_qs(urlsplit(route.request.url).query))
        found = {"moments": [moment(1)], "more": False, "passages": 9, "note": ""}
        route.fulfill(body=json.dumps(found), content_type="application/json")

    page.route("**/api/search?*", searched)
    page.goto("/?recording=audio/100%25.wav")
    page.locator("#q").fill("moment")
    page.locator(".hit").wait_for()
    only = page.get_by_role("button", name="Only in 100%.wav")
    only.click()
    page.wait_for_url("**/?q=moment")
    only.wait_for(state="detached")
    page.locator(".hit").wait_for()
    assert [question.get("recording") for question in asked] == [["audio/100%.wav"], None]
    assert page.evaluate("document.activeElement.id") == "main"
    page.go_back()
    only.wait_for()


def test_day_of_a_recording_is_the_same_in_every_time_zone(opened: Opened) -> None:
    body = json.dumps({"moments": [moment(1) | {"recorded": "2024-05-01"}], "more": False, "passages": 9, "note": ""})
    page = opened("about:blank", **DESK, timezone_id="America/New_York")
    page.route("**/api/search?*", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.goto("/?q=moment")
    day = page.evaluate("new Date(2024, 4, 1).toLocaleDateString(undefined, { dateStyle: 'medium' })")
    assert day in page.locator(".hit .source").inner_text()
