"""Links are read by the real yt-dlp, whose requests all go through the guarded client."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from ipaddress import ip_network
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.pipeline import origin
from transcription_assets.sources import ledger, links
from transcription_assets.sources.catalogue import Source
from transcription_assets.sources.download import Downloaded
from transcription_assets.sources.feeds import Item
from transcription_assets.sources.fetching import Fetcher
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.sources.site import Page, Site, days_ago, episode, rss
from transcription_assets_tests.sources.test_fetching import keys, source

yt_dlp = pytest.importorskip("yt_dlp")
# yt-dlp leaves the file open into which it joins fragments when one of them cannot be read.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def closed_files() -> Iterator[None]:
    yield
    gc.collect()


def test_a_page_with_a_recording_is_fetched(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    site.audio("/talk.wav", tone)
    html = '<html><head><title>A talk</title></head><body><audio src="/talk.wav"></audio></body></html>'
    site.pages["/page"] = Page(html.encode(), "text/html; charset=utf-8", etag="")
    link = source("link", site.url("/page"))
    report = fetcher.fetch(link)
    assert report.failed == {}
    (key,) = keys(store)
    found = origin.load(store, key)
    assert found is not None
    assert "talk" in found.title.lower()
    assert found.link == site.url("/page")
    assert fetcher.fetch(link).landed == {}


def test_a_direct_link_is_fetched(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    site.audio("/talk.wav", tone, cuts=[])
    assert fetcher.fetch(source("link", site.url("/talk.wav"))).failed == {}
    assert len(keys(store)) == 1


@pytest.mark.parametrize("error", [TypeError("x"), yt_dlp.utils.ExtractorError("x"), KeyError("x")])
def test_any_error_of_yt_dlp_is_a_failure(
    error: Exception, site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(yt_dlp.YoutubeDL, "extract_info", fail)
    with pytest.raises(TransientFailure):
        fetcher.fetch(source("link", site.url("/page")))


def test_a_recording_of_unknown_type_is_given_up(
    site: Site, fetcher: Fetcher, store: Store, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(self: links.LinkReader, item: Item, part: Path, today: date) -> tuple[Item, Downloaded]:
        described, got = download(self, item, part, today)
        return described, replace(got, path=got.path.rename(got.path.with_suffix(".unknown_video")))

    download = links.LinkReader.download
    monkeypatch.setattr(links.LinkReader, "download", named)
    site.audio("/talk.wav", tone)
    assert fetcher.fetch(source("link", site.url("/talk.wav"))).failed
    assert keys(store) == []
    assert ledger.load(store, "pod").count("failed") == 1


def test_a_playlist_is_read_in_part(
    site: Site, fetcher: Fetcher, store: Store, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "MOST_ENTRIES", 5)
    items = (episode(f"g{n}", site.url(f"/{n}.wav"), f"Episode {n}", days_ago(n)) for n in range(1000))
    site.pages["/playlist"] = Page(rss(*items), "application/rss+xml", etag="")
    for number in range(3):
        site.audio(f"/{number}.wav", tone + bytes(number))
    report = fetcher.fetch(source("link", site.url("/playlist"), backfill=2))
    assert report.offered == 5
    assert len(report.landed) + len(report.failed) == 2
    assert ledger.load(store, "pod").count("skipped") == 3


@pytest.mark.parametrize("path", ["/page", "/redirect", "/embed"])
def test_internal_addresses_are_refused(path: str, site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    """127.0.0.1 is allowed here, 127.0.0.2 is not."""
    port = site.address.rpartition(":")[2]
    site.audio("/talk.wav", tone)
    inside = f"http://127.0.0.2:{port}/talk.wav"
    site.pages["/redirect"] = Page(status=302, headers={"location": inside})
    site.pages["/embed"] = Page(f'<html><video src="{inside}"></video></html>'.encode(), "text/html", etag="")
    guarded = replace(fetcher, limits=replace(fetcher.limits, networks=(ip_network("127.0.0.1/32"),)))
    url = f"http://127.0.0.2:{port}/page" if path == "/page" else site.url(path)
    try:
        report = guarded.fetch(source("link", url))
    except TranscriptionError:
        pass
    else:
        assert report.failed
    assert keys(store) == []
    assert site.asked("/talk.wav") == []


def test_a_page_without_a_recording_fails(site: Site, fetcher: Fetcher) -> None:
    site.pages["/page"] = Page(b"<html><title>x</title>nothing</html>", "text/html", etag="")
    with pytest.raises(PermanentFailure):
        fetcher.fetch(source("link", site.url("/page")))


def stream(site: Site, folder: Path, count: int = 6) -> Source:
    """Publish a tone as an HLS playlist of `count` fragments, /0.ts and so on."""
    data = recordings.tone(folder / "tone.ts", 20.0, rate=8_000).read_bytes()
    size = -(-len(data) // count // 188) * 188
    for number in range(count):
        site.pages[f"/{number}.ts"] = Page(data[number * size : (number + 1) * size], "video/mp2t")
    lines = "".join(f"#EXTINF:3,\n{number}.ts\n" for number in range(count))
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n"
    text = f"{head}{lines}#EXT-X-ENDLIST\n"
    site.pages["/talk.m3u8"] = Page(text.encode(), "application/vnd.apple.mpegurl")
    return source("link", site.url("/talk.m3u8"))


def test_a_stream_of_fragments_is_fetched(site: Site, fetcher: Fetcher, store: Store, tmp_path: Path) -> None:
    assert fetcher.fetch(stream(site, tmp_path)).failed == {}
    (key,) = keys(store)
    assert store.stat(key).size == (tmp_path / "tone.ts").stat().st_size


def test_a_stream_with_a_missing_fragment_waits(site: Site, fetcher: Fetcher, store: Store, tmp_path: Path) -> None:
    link = stream(site, tmp_path)
    del site.pages["/3.ts"]
    assert fetcher.fetch(link).failed
    assert keys(store) == []
    assert ledger.load(store, "pod").count("waiting") == 1


@pytest.mark.parametrize("limit", ["all", "fragment"])
def test_a_stream_over_a_limit_is_refused(  # noqa: PLR0917 -- fixtures
    limit: str, site: Site, fetcher: Fetcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = stream(site, tmp_path)
    size = (tmp_path / "tone.ts").stat().st_size
    if limit == "fragment":
        monkeypatch.setattr(links, "MOST_FRAGMENT_BYTES", size // 10)
    most = size // 2 if limit == "all" else 10**9
    assert replace(fetcher, limits=replace(fetcher.limits, most_bytes=most)).fetch(link).failed
    assert keys(store) == []
    assert ledger.load(store, "pod").count("failed") == 1
    assert site.asked("/5.ts") == []


def test_a_recording_over_the_limit_is_refused(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    site.audio("/talk.wav", tone + bytes(2_000_000))
    small = replace(fetcher, limits=replace(fetcher.limits, most_bytes=1_000_000))
    assert small.fetch(source("link", site.url("/talk.wav"))).failed
    assert keys(store) == []
