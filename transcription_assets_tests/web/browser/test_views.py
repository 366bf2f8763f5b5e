"""The page in a real browser (Debian's Chromium): search, playback, library and accessibility.

Screenshots of every view are stored in `build/screenshots` for inspection.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from transcription_assets.cli.process import Report, process
from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, SpeechModel, Word
from transcription_assets.pipeline import origin
from transcription_assets.pipeline.origin import Origin
from transcription_assets.settings import Settings
from transcription_assets.speech import DecodedWindow, PlannedWindow, SpeechOptions, WindowTask
from transcription_assets.speech.engine import silent
from transcription_assets.web.archive import Archive
from transcription_assets.wiring import Services, locate_installed
from transcription_assets_tests import recordings, served
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import DESK, PHONE, Opened, is_paused, picture, second, stands_at

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("browser")]

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "demo/recordings"
BEES = "video/demo/talks/bees-on-the-library-roof.mp4"
WIZARD = "video/demo/stories/the-wizard-of-the-opera-house.mp4"
OLD_FILM = "video/attic/old film.avi"
SONG = "audio/song.mp3"


@dataclass(slots=True)
class PromptedEngine:
    """FAKE: return the sentences of the demo's scripts, selected by the duration of the recording."""

    options: SpeechOptions = field(default_factory=SpeechOptions)
    model: SpeechModel = field(default_factory=lambda: SpeechModel("prompted", "1", "none", "fake"))

    group_s: float = 480.0
    parallel: int = 1

    def load(self) -> None:
        """Do nothing: there are no weights."""

    def decode(
        self, windows: Sequence[WindowTask], _progress: Callable[[float], None] = silent, _parallel: int = 0
    ) -> list[DecodedWindow | Exception]:
        """Return the sentences of the demo recordings, and no segments for any other recording."""
        return [self._decode(window.plan) for window in windows]

    def _decode(self, plan: PlannedWindow) -> DecodedWindow:
        for item in json.loads((ROOT / "demo/recordings.json").read_text(encoding="utf-8")):
            if abs(item["duration"] - plan.length) < 1.0:
                segments = tuple(_segment(number, **sentence) for number, sentence in enumerate(item["sentences"]))
                voiced = tuple(Region(segment.start, segment.end) for segment in segments)
                return DecodedWindow(plan.start, plan.end, segments, voiced, {item["language"]: plan.length})
        return DecodedWindow(plan.start, plan.end)


def _segment(number: int, start: float, end: float, text: str) -> Segment:
    tokens = text.split()
    step = (end - start) / len(tokens)
    words = tuple(Word(start + i * step, start + (i + 1) * step, f" {token}", 0.9) for i, token in enumerate(tokens))
    return Segment(number, start, end, text, words, -0.2, 0.01, 1.2)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the demo, a song, a film that browsers cannot play, and a broken file."""
    folder = tmp_path_factory.mktemp("page")
    chosen = Settings(store=str(folder / "store"), settle_s=0, launcher="in_process", serve_searches_per_minute=10_000)
    archive = Archive(chosen, locate_installed(chosen))
    tools = Services(chosen, locate_installed(chosen))
    tools.__dict__.update(engine=PromptedEngine())
    (folder / "store").mkdir()
    store = tools.store
    for path in sorted(DEMO.rglob("*.mp4")):
        store.put_media(f"video/demo/{path.relative_to(DEMO)}", path)
    store.put_media(SONG, recordings.mp3_with_cover(folder / "song.mp3", 3.0))
    store.put_media(OLD_FILM, recordings.video(folder / "film.avi", 3.0, "-c:v", "mpeg4", "-c:a", "mp3"))
    page = "https://example.com/song"
    origin.write(store, SONG, Origin("pod", "feed", "1", link=page, source_title="A <b>podcast</b>", licence="CC0"))
    (folder / "garbage.mp4").write_bytes(b"nothing of the kind" * 100)
    store.put_media("video/broken.mp4", folder / "garbage.mp4")
    report = Report()
    for _ in process(tools, store.list_media().frame["key"].to_list(), lambda _step: None, report):
        pass
    assert list(report.failed) == ["video/broken.mp4"]
    with served.listening(archive) as listening:
        yield listening


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Opened]:
    with browsing.opening(browser, address) as opened:
        yield opened


def search(page: Page, question: str, first: str) -> None:
    """Type the question and wait until the first result is of the recording titled `first`."""
    page.get_by_role("searchbox").press_sequentially(question, delay=5)
    page.locator(".hit .name").first.filter(has_text=first).wait_for()


def test_search_result_plays_from_its_time(opened: Opened) -> None:
    page = opened("/")
    page.locator(".shelf li").first.wait_for()
    picture(page, "start")
    search(page, "hidden behind the curtain", "Wizard")
    assert "behind" in page.locator(".hit mark").all_inner_texts()
    assert "silver compass" in page.locator(".hit .sentence").first.inner_text()
    picture(page, "search")
    at = page.locator(".hit time").first.inner_text()
    page.locator(".hit").first.click()
    page.wait_for_url("**/watch/**")
    start = float(page.url.partition("t=")[2].partition("&")[0])
    assert at == f"{int(start) // 60}:{int(start) % 60:02}"
    stands_at(page, start + 0.5, within=2.5)
    page.wait_for_function("() => !document.querySelector('video').paused")
    first = page.locator("[data-word].current").inner_text()
    page.wait_for_function("(word) => document.querySelector('[data-word].current').textContent !== word", arg=first)
    lit, now = page.evaluate(
        "[Number(document.querySelector('[data-word].current').dataset.word),"
        " document.querySelector('video').currentTime]"
    )
    words = words_of(page, WIZARD)
    assert words[lit][0] - 0.1 <= now <= words[lit + 1][0] + 0.5, "the highlighted word is the spoken one"
    assert "silver compass" in " ".join(page.locator(".highlight").all_inner_texts())
    picture(page, "watch")


def words_of(page: Page, key: str) -> list[list[Any]]:
    answer = page.request.get(f"/api/media/{key}/words").json()
    return [word for paragraph in answer["paragraphs"] for word in paragraph["words"]]


def test_clicking_a_word_or_a_time_seeks_to_it(opened: Opened) -> None:
    page = opened(f"/watch/{BEES}")
    words = words_of(page, BEES)
    for number in (60, 5):
        page.locator(f'[data-word="{number}"]').click()
        stands_at(page, words[number][0] + 0.4, within=0.6)
        assert page.locator("[data-word].current").count() == 1
    late = page.locator(".timestamp").nth(1)
    late.click()
    stands_at(page, float(late.get_attribute("data-start") or "") + 0.4, within=0.6)


def test_page_can_be_used_with_the_keyboard_alone(opened: Opened) -> None:
    page = opened("/library")
    page.locator(".row").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("lime trees and mint")
    page.keyboard.press("Enter")
    page.locator(".hit .name").first.filter(has_text="Bees").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement === document.querySelector('.hit')")
    page.keyboard.press("Enter")
    page.locator(".highlight").first.wait_for()
    page.wait_for_function("() => !document.querySelector('video').paused")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('video').paused")
    before = second(page)
    page.keyboard.press("ArrowLeft")
    stands_at(page, before - 5)
    page.keyboard.press("ArrowRight")
    stands_at(page, before)
    page.keyboard.press("Escape")
    page.locator(".hit").first.wait_for()
    assert page.get_by_role("searchbox").input_value() == "lime trees and mint"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator(".shelf").wait_for()
    assert page.get_by_role("searchbox").input_value() == ""


def test_shared_link_opens_paused_at_its_time(opened: Opened) -> None:
    page = opened(f"/watch/{BEES}?t=30.5", **DESK, color_scheme="dark")
    stands_at(page, 30.5)
    page.locator("[data-word].current").wait_for()
    assert is_paused(page)
    assert page.title() == "Bees on the Library Roof"
    picture(page, "watch-dark")
    again = opened("/?q=lime+trees", **DESK)
    again.locator(".hit .name").first.filter(has_text="Bees").wait_for()
    assert again.get_by_role("searchbox").input_value() == "lime trees"


def test_a_fetched_recording_links_back_to_its_source(opened: Opened) -> None:
    page = opened(f"/watch/{SONG}", **DESK)
    link = page.locator(".origin a")
    link.wait_for()
    assert link.inner_text() == "A <b>podcast</b>"
    assert link.get_attribute("href") == "https://example.com/song"
    assert "noopener" in (link.get_attribute("rel") or "")
    assert "CC0" in page.locator(".origin").inner_text()


def test_going_back_stops_the_player(opened: Opened) -> None:
    page = opened("/?q=lime+trees")
    page.locator(".hit").first.click()
    page.locator(".highlight").first.wait_for()
    page.go_back()
    page.locator(".hit").first.wait_for()
    assert page.locator("video").count() == 0


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_views_fit_a_phone_screen(opened: Opened, colours: str) -> None:
    page = opened("/?q=bees", **PHONE, color_scheme=colours)
    page.locator(".hit").first.wait_for()
    assert_fits(page)
    picture(page, f"phone-{colours}")
    page.locator(".hit").first.tap()
    page.locator("[data-word].current").wait_for()
    assert_fits(page)
    page.mouse.wheel(0, 500)
    top = page.locator("video").bounding_box()
    assert top, "the video stays visible while scrolling"
    assert 0 <= top["y"] < 200
    picture(page, f"phone-watch-{colours}")
    page.goto("/library")
    page.locator(".row").first.wait_for()
    assert_fits(page)


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


CONTRASTS = """() => {
  const channel = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const light = (name) => {
    canvas.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => channel(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const pairs = [['--ink', '--paper'], ['--ink', '--card'], ['--soft', '--paper'], ['--soft', '--card'],
    ['--accent', '--paper'], ['--accent', '--card'], ['--on-accent', '--accent'], ['--ink', '--mark'],
    ['--ink', '--mark-soft'], ['--soft', '--mark-soft'], ['--ink', '--bad-soft'], ['--bad', '--card'],
    ['--good', '--card']];
  return Object.fromEntries(pairs.map((pair) => [pair.join(' on '), contrast(...pair)]));
}"""


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_contrast_is_sufficient_in_light_and_dark_mode(opened: Opened, colours: str) -> None:
    page = opened("/library", **DESK, color_scheme=colours)
    page.locator(".row").first.wait_for()
    bright = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g)[0] > 128")
    assert bright == (colours == "light")
    assert {pair: ratio for pair, ratio in page.evaluate(CONTRASTS).items() if ratio < 4.5} == {}
    picture(page, f"library-{colours}")


def test_interactive_elements_have_accessible_names(opened: Opened) -> None:
    for path, there in (("/?q=bees", ".hit"), ("/library", ".row"), (f"/watch/{BEES}", "[data-word]")):
        page = opened(path)
        page.locator(there).first.wait_for()
        nameless = page.evaluate(
            "[...document.querySelectorAll('a, button, input, select, video')].filter((one) => !(one.ariaLabel"
            " || one.textContent?.trim() || one.labels?.length || one.ariaHidden)).map((one) => one.outerHTML)"
        )
        assert nameless == []
        assert page.locator("h1").count() >= 1


def test_library_shows_failed_recordings_with_reasons(opened: Opened) -> None:
    page = opened("/library")
    page.get_by_role("button", name="Failed 1").click()
    why = page.locator(".row .failure")
    why.wait_for()
    assert "video:" in why.inner_text()
    assert page.locator(".row").count() == 1
    page.get_by_role("button", name="All 6").click()
    page.get_by_label("Filter by name").fill("SONG")
    page.wait_for_function("() => document.querySelectorAll('.row').length === 1")
    assert page.locator(".row").get_attribute("data-silence") == "no_speech"


@pytest.mark.parametrize(("key", "source"), [(SONG, "/sound/"), (OLD_FILM, "/sound/")])
def test_extracted_audio_is_played_for_unplayable_files(opened: Opened, key: str, source: str) -> None:
    page = opened(f"/watch/{key}?t=1.5")
    stands_at(page, 1.5)
    assert source in page.evaluate("document.querySelector('video, audio').currentSrc")
    page.locator(".empty[data-silence=no_speech]").wait_for()


def test_media_is_reloaded_after_an_hour_at_the_same_time(opened: Opened) -> None:
    """Signed bucket links have expired by then; for other recordings the reload is harmless."""
    page = opened("about:blank")
    page.clock.install()
    page.goto(f"/watch/{BEES}?t=2")
    stands_at(page, 2)
    page.evaluate("document.querySelector('video').addEventListener('emptied', () => { window.anew = true; })")
    page.clock.fast_forward("51:00")
    page.evaluate("document.querySelector('video').currentTime = 40")
    page.wait_for_function("() => window.anew")
    stands_at(page, 40)
    assert is_paused(page)


def test_subtitles_can_be_turned_on(opened: Opened) -> None:
    page = opened(f"/watch/{BEES}")
    page.locator("video").wait_for()
    page.evaluate("document.querySelector('video').textTracks[0].mode = 'showing'")
    page.wait_for_function("() => document.querySelector('video').textTracks[0].cues?.length > 5")


def test_queries_without_results_show_a_message(opened: Opened) -> None:
    page = opened('/?q="no such phrase was ever said"')
    page.locator(".results .notice").get_by_role("heading").wait_for()
    assert page.locator(".hit").count() == 0
    hostile = opened("/?q=" + "%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D'bad'%22%3E")
    hostile.locator(".hit, .notice").first.wait_for()
    assert hostile.locator("main img[src=x]").count() == 0


def test_first_page_load_is_small(browser: Browser, address: str) -> None:
    """Count the bytes that the search page needs; posters are loaded later."""
    context = browser.new_context(**DESK)
    page = context.new_page()
    page.goto(address)
    page.locator(".shelf li").first.wait_for()
    sizes = page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".filter((entry) => !entry.name.includes('/posters/')).map((entry) => entry.transferSize)"
    )
    context.close()
    assert len(sizes) >= 4
    assert sum(sizes) < 44_000
