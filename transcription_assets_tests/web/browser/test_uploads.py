"""Uploads in a real browser: choose, drop, pause, lose the connection, and find what was said."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from transcription_assets.storage import Store
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.stores import listed
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import PHONE, Opened, picture

pytestmark = pytest.mark.xdist_group("browser")
TOKEN = "may write"
DROP = """([name, data, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    document.querySelector("main").dispatchEvent(
      new DragEvent(kind, { dataTransfer: dropped, bubbles: true, cancelable: true }));
  }
}"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    return recordings.tone(tmp_path / "a talk.wav", 10.0, rate=8_000)


@pytest.fixture
def opened(
    request: pytest.FixtureRequest, browser: Browser, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    """Serve a site that computes its overview for each request; the parameter is an expected status of refusals."""
    refused = getattr(request, "param", 422)
    monkeypatch.setattr("transcription_assets.web.library.FRESH_S", 0.0)
    monkeypatch.setattr("transcription_assets.web.cache.SHARE", float("inf"))
    site = served.archive(store, serve_write_token=TOKEN, uploads_dir=tmp_path / "uploads")
    with served.listening(site) as address, browsing.opening(browser, address, refused) as opened:
        yield opened


def signed_in(opened: Opened, **options: Any) -> Page:
    page = opened("/library", **options)
    page.get_by_role("link", name="Sign in to upload").click()
    page.locator("input[name=token]").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Upload recordings").wait_for()
    return page


def drop(page: Page, name: str, data: bytes, kind: str = "") -> None:
    page.evaluate(DROP, [name, base64.b64encode(data).decode(), kind])


def reaches(page: Page, state: str, count: int = 1) -> None:
    """Wait until so many uploads are in this state."""
    page.wait_for_function(
        "([state, count]) => document.querySelectorAll(`.uploads [data-state=${state}]`).length === count",
        arg=[state, count],
    )


def test_a_dropped_file_is_found_after_its_text_is_ready(opened: Opened, store: Store, tone: Path) -> None:
    page = signed_in(opened)
    drop(page, "a talk.wav", tone.read_bytes(), "audio/wav")
    reaches(page, "done")
    page.locator(".row .name", has_text="a talk").wait_for()
    page.locator(".row .state", has_text="Waiting").wait_for()
    picture(page, "upload-done")
    Chain(store).run(*listed(store))
    page.locator(".uploads a").click()
    page.locator(".transcript section").first.wait_for()
    page.goto("/?q=sentence")
    page.locator(".hit", has_text="a talk").first.wait_for()


def test_an_upload_is_paused_and_resumed_from_its_offset(opened: Opened, store: Store, tone: Path) -> None:
    page = signed_in(opened)
    held: list[Route] = []
    page.route(
        "**/api/uploads/*", lambda route: held.append(route) if route.request.method == "PATCH" else route.fallback()
    )
    with page.expect_request(lambda request: request.method == "PATCH"):
        page.locator("input[type=file]").set_input_files(tone)
    page.get_by_role("button", name="Pause a talk.wav").press("Enter")
    reaches(page, "paused")
    assert page.evaluate("document.activeElement.textContent") == "Resume"
    picture(page, "upload-paused")
    page.locator("input[type=file]").set_input_files(tone)  # known already, so it does not begin again
    expect(page.locator(".uploads li")).to_have_count(1)
    page.get_by_role("button", name="Resume a talk.wav").focus()
    page.unroute("**/api/uploads/*")
    page.keyboard.press("Enter")
    reaches(page, "done")
    assert len(listed(store)) == 1


@pytest.mark.parametrize("opened", [503], indirect=True)
def test_an_upload_continues_after_a_lost_connection(opened: Opened, store: Store, tone: Path) -> None:
    page = signed_in(opened)
    answers = [503, 503]

    def refuse(route: Route) -> None:
        if route.request.method == "PATCH" and answers:
            route.fulfill(status=answers.pop(), body='{"detail": "not now"}', content_type="application/json")
        else:
            route.fallback()

    page.route("**/api/uploads/*", refuse)
    page.locator("input[type=file]").set_input_files(tone)
    reaches(page, "done")
    assert len(listed(store)) == 1


def test_an_upload_continues_after_a_reload(opened: Opened, store: Store, tone: Path) -> None:
    page = signed_in(opened)
    page.route("**/api/uploads/*", lambda route: None if route.request.method == "PATCH" else route.fallback())
    page.on("dialog", lambda dialog: dialog.accept())
    with page.expect_request(lambda request: request.method == "PATCH") as first:
        page.locator("input[type=file]").set_input_files(tone)
    page.goto("about:blank")
    page.unroute("**/api/uploads/*")
    page.goto("/library")
    with page.expect_request(lambda request: request.method == "PATCH") as second:
        page.locator("input[type=file]").set_input_files(tone)
    assert second.value.url == first.value.url
    reaches(page, "done")
    assert len(listed(store)) == 1


def test_files_that_are_refused_say_why(opened: Opened, store: Store, tone: Path, tmp_path: Path) -> None:
    page = signed_in(opened)
    files = {"notes.pdf": b"%PDF", "empty.mp4": b"", "text.mp4": b"no recording" * 100}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    page.locator("input[type=file]").set_input_files([*(tmp_path / name for name in files), tone])
    for state, count in (("failed", 3), ("done", 1)):
        reaches(page, state, count)
    assert all(text for text in page.locator(".uploads .error").all_inner_texts())
    picture(page, "upload-refused")
    page.get_by_role("button", name="Remove notes.pdf").click()
    expect(page.locator(".uploads li")).to_have_count(3)
    assert len(listed(store)) == 1


def test_uploads_go_on_while_another_view_is_shown(opened: Opened, store: Store, tone: Path) -> None:
    page = signed_in(opened)
    held: list[Route] = []
    page.route(
        "**/api/uploads/*", lambda route: held.append(route) if route.request.method == "PATCH" else route.fallback()
    )
    with page.expect_request(lambda request: request.method == "PATCH"):
        page.locator("input[type=file]").set_input_files(tone)
    page.get_by_role("link", name="Home").click()
    page.locator(".notice").wait_for()
    held[0].continue_()
    page.get_by_role("link", name="Library", exact=True).click()
    reaches(page, "done")
    assert len(listed(store)) == 1


def test_only_writers_see_the_upload(opened: Opened) -> None:
    page = opened("/library")
    page.get_by_role("link", name="Sign in to upload").wait_for()
    assert page.locator(".uploads, input[type=file]").count() == 0
    assert (
        page.evaluate("performance.getEntriesByType('resource').filter((e) => /upload\\.js/.test(e.name)).length") == 0
    )


def test_the_upload_fits_a_phone(opened: Opened, tone: Path) -> None:
    page = signed_in(opened, **PHONE)
    page.locator("input[type=file]").set_input_files(tone)
    reaches(page, "done")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, "upload-phone")
