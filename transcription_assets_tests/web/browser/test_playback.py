"""Unusual recordings in a real browser: measure that the played sound matches the times of the transcript.

One file represents each code path of the page. The original file is played for each demuxer that browsers handle (WAV,
FLAC, Ogg, MP4, fragmented MP4, WebM), once with late sound. The extracted audio is played for files that seek
inexactly, change their format or have too many channels. Extracted audio is combined with a muted video if the browser
can play the video, also where its clock has an offset. Other unusual files differ only in codecs, tracks and levels:
`media/test_odd_files.py` says which of them play directly.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from transcription_assets.pipeline import playback
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.media import odd_files
from transcription_assets_tests.web.browser import browsing
from transcription_assets_tests.web.browser.browsing import Opened, picture, stands_at

pytestmark = pytest.mark.xdist_group("browser")

ORIGINAL = ("wav telephone", "flac", "opus", "mp4", "mp4 fragmented", "webm opus", "mp4 late sound")
SOUND_ALONE = ("mp3 variable rate", "mp3 mono then stereo", "adts", "adts rate changes", "nine channels")
SOUND_AND_PICTURE = ("mkv ac3", "webm clock at 10", "mp4 cut out of a stream", "mkv clock at 3600", "mpeg ts")
VARIABLE = "audio/variable rate.mp3"
VARIABLE_S = 300
LATE_BURSTS = (251.0, 252.3, 254.1)
TOLERANCE_S = 0.25
"""The level is read at each frame of the page, and a loaded machine renders few frames."""
REPETITIONS = 4
HEARD = 0.03
"""Minimum level of sound; a tone on one of nine channels has 0.05 after mixing."""
LONGEST_BURST_S = 0.5
"""Longest time between two readings within one burst; pauses are longer."""

LISTEN = """async ([from, to]) => {
  const player = document.querySelector('video, audio');
  if (!window.meter) {
    const context = new AudioContext();
    window.meter = context.createAnalyser();
    window.meter.fftSize = 512;
    const source = context.createMediaElementSource(player);
    source.connect(window.meter);
    window.meter.connect(context.destination);
    await context.resume();
  }
  player.pause();
  player.currentTime = from;
  await new Promise((done) => { player.addEventListener('seeked', done, { once: true }); });
  const [levels, samples] = [[], new Float32Array(window.meter.fftSize)];
  await player.play();
  while (!player.ended && player.currentTime < to) {
    await new Promise((done) => { setTimeout(done, 5); });
    window.meter.getFloatTimeDomainData(samples);
    levels.push([player.currentTime, Math.max(...samples.map(Math.abs))]);
  }
  player.pause();
  return levels;
}"""


def key_of(name: str) -> str:
    return f"video/{name}.{odd_files.ODD[name].suffix}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Store each unusual recording, and one whose first half has most of its bytes, so that byte offsets mislead."""
    folder = tmp_path_factory.mktemp("playback")
    store = Store.open(str(folder / "store"))
    for name in (*ORIGINAL, *SOUND_ALONE, *SOUND_AND_PICTURE):
        store.put_media(key_of(name), odd_files.build(name, folder))
    bursts = "+".join(f"between(t,{at},{at + 0.4})" for at in LATE_BURSTS)
    expression = f"0.02*(random(0)-0.5)*lt(t,{VARIABLE_S / 2})+0.5*sin(2*PI*500*t)*({bursts})"
    options = ("-q:a", "3", "-write_xing", "0")
    store.put_media(VARIABLE, recordings.sound(folder / "variable.mp3", expression, VARIABLE_S, *options))
    Chain(store).run(*store.list_media().frame["key"])
    return store


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with served.listening(served.archive(store)) as address:
        yield address


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Opened]:
    with browsing.opening(browser, address) as opened:
        yield opened


def require_onsets(page: Page, start: float, end: float, expected: Sequence[float]) -> None:
    """Play from `start` to `end`, and require that sound begins at these player times after a pause.

    A busy machine may render the beginning of a burst late or not at all: only what is wrong in each of several
    repetitions is wrong.
    """
    for _ in range(REPETITIONS):
        found = heard_onsets(page, start, end)
        if found == pytest.approx(expected, abs=TOLERANCE_S):
            break
    assert found == pytest.approx(expected, abs=TOLERANCE_S)


def heard_onsets(page: Page, start: float, end: float) -> list[float]:
    """Play from `start` to `end` and return the player times at which sound begins after a pause."""
    page.locator("h1").last.click()  # browsers play no sound before the first user gesture
    levels = page.evaluate(LISTEN, [start, end])
    loud = [second for second, level in levels if level > HEARD]
    return [second for before, second in pairwise([-1.0, *loud]) if second - before > LONGEST_BURST_S]


def watch(opened: Opened, key: str) -> Page:
    page = opened(f"/watch/{key}")
    page.wait_for_function("() => document.querySelector('video, audio')?.readyState > 2")
    return page


@pytest.mark.parametrize("name", [*ORIGINAL, *SOUND_ALONE, *SOUND_AND_PICTURE])
def test_sound_is_played_at_the_times_of_the_transcript(opened: Opened, name: str) -> None:
    odd = odd_files.ODD[name]
    page = watch(opened, key_of(name))
    source = "/media/" if name in ORIGINAL else "/sound/"
    assert source in page.evaluate("document.querySelector('video, audio').currentSrc")
    require_onsets(page, 0.0, odd.length, odd.onsets)


def test_late_times_in_a_variable_rate_mp3_are_exact(opened: Opened) -> None:
    page = watch(opened, VARIABLE)
    require_onsets(page, 250.0, 255.5, LATE_BURSTS)


@pytest.mark.parametrize("name", SOUND_AND_PICTURE)
def test_muted_video_follows_the_sound_or_is_removed(opened: Opened, name: str) -> None:
    page = watch(opened, key_of(name))
    page.wait_for_function("() => (document.querySelector('.muted')?.readyState ?? 4) > 1")
    page.evaluate("document.querySelector('video').currentTime = 1.6")
    stands_at(page, 1.6)
    page.wait_for_function(
        "(start) => { const silent = document.querySelector('.muted');"
        " return !silent || (!silent.seeking && Math.abs(silent.currentTime - start - 1.6) < 0.3); }",
        arg=odd_files.ODD[name].start,
    )
    picture(page, f"silent {name}")


def test_full_screen_shows_the_muted_video(opened: Opened) -> None:
    page = watch(opened, key_of("webm clock at 10"))
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function(
        "() => document.fullscreenElement?.querySelector('video[controls]') && ['video[controls]', '.muted'].every("
        "(name) => document.fullscreenElement.querySelector(name)?.clientHeight === innerHeight)"
    )
    picture(page, "full screen")


def test_displayed_duration_is_the_decoded_one(opened: Opened) -> None:
    page = opened("/library?name=rate+changes")
    page.locator(".row").first.wait_for()
    assert "0:06" in page.locator(".row .facts").first.inner_text()
    (item,) = page.request.get("/api/media?name=rate+changes").json()["recordings"]
    assert item["duration"] == pytest.approx(6.0, abs=0.2)


def test_playback_link_opens_at_its_time(browser: Browser, store: Store) -> None:
    """The link that `search` prints, opened in the browser's own player."""
    context = browser.new_context()
    for name in ("webm clock at 10", "mp4", "adts"):
        link = playback.link(store, key_of(name))
        assert link.endswith(".flac") == (name != "mp4")
        page = context.new_page()
        page.goto(f"{link}#t=2.3")
        page.wait_for_function("() => document.querySelector('video').readyState > 1")
        assert page.evaluate("document.querySelector('video').currentTime") >= 2.29
    context.close()


def test_playback_link_without_an_audio_record_is_the_media_file(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.put_media("audio/a.mp3", recordings.tone(tmp_path / "a.mp3", 1.0))
    assert playback.link(store, "audio/a.mp3").endswith("audio/a.mp3")
