"""The panel of speakers in a real browser: colours, times, names, suggestions."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from transcription_assets.storage import Store
from transcription_assets_tests import served, voices
from transcription_assets_tests.voices import ADAS, ADAS_ELSEWHERE, all_is_speech
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import PHONE, Opened, picture, stands_at

pytestmark = pytest.mark.xdist_group("browser")
TOKEN = "may write"
A, B = "/watch/audio/10.wav", "/watch/audio/20.wav"
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voices.conversations(tmp_path_factory.mktemp("processed"), {10: ADAS, 20: ADAS_ELSEWHERE})


@pytest.fixture
def open_page(browser: Browser, processed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    all_is_speech(monkeypatch)
    store = Store.open(str(shutil.copytree(processed, tmp_path, dirs_exist_ok=True)))
    site = served.archive(store, serve_write_token=TOKEN, passage_s=5.0)
    with served.listening(site) as address, browsing.opening(browser, address, refused=422) as opened:
        yield opened


def sign_in(page: Page) -> None:
    page.get_by_role("link", name="Sign in to change names").click()
    page.locator("input[name=token]").fill(TOKEN)
    page.keyboard.press("Enter")


def colour(page: Page, selector: str) -> str:
    return str(page.locator(selector).first.evaluate("(element) => getComputedStyle(element).color"))


def test_speakers_have_colours_times_and_lanes(open_page: Opened) -> None:
    page = open_page(A)
    expect(page.locator(".speakers li")).to_have_count(2)
    first, last = page.locator(".speakers li").all()
    expect(first).to_contain_text("Speaker 1")
    expect(first).to_contain_text("0:05 · 50 %")
    paragraphs = page.locator(".transcript section")
    expect(paragraphs).to_have_count(2)
    colours = [colour(page, f".transcript section:nth-child({number}) .speaker") for number in (1, 2)]
    assert len(set(colours)) == 2
    assert colour(page, ".speakers li:first-child .speaker") == colours[0]
    lane = last.locator(".lane")
    box = lane.bounding_box()
    assert box
    lane.click(position={"x": box["width"] * 0.75, "y": box["height"] / 2})
    stands_at(page, 7.5)
    picture(page, "speakers")
    picture(open_page(A, **PHONE), "speakers-phone")


def test_naming_a_speaker_names_the_voice_elsewhere(open_page: Opened) -> None:
    page = open_page(A)
    expect(page.get_by_role("button", name="Speaker 1")).to_have_count(0)
    sign_in(page)
    page.get_by_role("button", name="Speaker 1").click()
    page.get_by_role("combobox", name="Name of Speaker 1").fill("Ada")
    page.keyboard.press("Enter")
    expect(page.locator(".transcript .speaker").first).to_have_text("Ada")
    expect(page.locator(".speakers li").first).to_contain_text("Ada")
    assert page.url.endswith(A)
    page.goto(B)
    expect(page.locator(".speakers li").first).to_contain_text("Ada?")
    picture(page, "speakers-suggested")
    page.get_by_role("button", name="Yes, this is Ada").click()
    expect(page.locator(".transcript .speaker").first).to_have_text("Ada")
    page.goto("/?q=sentence&speaker=Ada")
    expect(page.locator(".hit").first).to_contain_text("Ada")


def test_rejected_suggestions_and_refused_names_are_shown(open_page: Opened) -> None:
    page = open_page(A)
    sign_in(page)
    page.get_by_role("button", name="Speaker 1").click()
    page.locator(".name-form input").fill("Ada?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator(".name-form input").fill(MARKUP)
    page.keyboard.press("Enter")
    expect(page.locator(".transcript .speaker").first).to_have_text(MARKUP)
    page.goto(B)
    page.get_by_role("button", name=f"No, this is not {MARKUP}").click()
    expect(page.locator(".speakers li").first).to_contain_text("Speaker 1")
    assert page.locator("img[src=x]").count() == 0
