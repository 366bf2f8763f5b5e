"""A real browser (Debian's Chromium) for tests of the page; screenshots of every view are stored for inspection."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PICTURES = Path(__file__).parents[3] / "build/screenshots"
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=user-gesture-required",
)
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}


PATIENCE_MS = 250_000
"""Long enough for a loaded machine, and shorter than pytest's own timeout, whose message says less."""
NOTE_SEEKS = """
window.seeks = [];
document.addEventListener('seeking', ({ target }) => window.seeks.push(target.currentTime), true);
"""

Opened = Callable[..., Page]


@contextmanager
def started(*arguments: str) -> Iterator[Browser]:
    """Start the browser with further command-line arguments, or skip the test if there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no browser: apt-get install chromium")
    PICTURES.mkdir(parents=True, exist_ok=True)
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=[*QUIET, *sandbox, *arguments])
        yield browser
        browser.close()


@contextmanager
def opening(browser: Browser, address: str, refused: int = 0) -> Iterator[Opened]:
    """Yield a function that opens paths of the page; any error in the browser fails the test.

    The browser reports each failed request as an error; those with the status `refused` are expected.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(path: str, **options: Any) -> Page:
        context = browser.new_context(base_url=address, **(options or DESK))
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(NOTE_SEEKS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    complaints = [text for text in complaints if not (refused and f"status of {refused}" in text)]
    assert not complaints, complaints  # as message, because pytest does not rewrite asserts of this module


def second(page: Page) -> float:
    return float(page.evaluate("document.querySelector('video, audio').currentTime"))


def stands_at(page: Page, seconds: float, within: float = 0.3) -> None:
    """Wait until the player is at this time, or has sought it since the last call and plays on."""
    page.wait_for_function(
        """([from, to]) => {
          const player = document.querySelector('video, audio');
          const fits = (second) => from <= second && second <= to;
          if (!player || player.readyState < 2 || player.seeking) return false;
          if (!fits(player.currentTime) && !window.seeks.some(fits)) return false;
          window.seeks = [];
          return true;
        }""",
        arg=[seconds - within, seconds + within],
    )


def is_paused(page: Page) -> bool:
    return bool(page.evaluate("document.querySelector('video, audio').paused"))


def picture(page: Page, name: str) -> None:
    # Hidden images are not loaded.
    page.wait_for_function("() => [...document.images].every((image) => image.complete || !image.checkVisibility())")
    page.screenshot(path=PICTURES / f"{name}.png")
