"""Downloads are bounded, verified, and continued after a break."""

import gzip
import tracemalloc
import zlib
from pathlib import Path

import httpx2
import pytest

from transcription_assets.errors import PermanentFailure, Refused, TooLarge, TransientFailure
from transcription_assets.guarded_http import client
from transcription_assets.sources import download
from transcription_assets.sources.download import Downloader, get_document
from transcription_assets_tests.sources.conftest import LOOPBACK
from transcription_assets_tests.sources.site import Page, Site


def connect(limit_s: float) -> httpx2.Client:
    return client(LOOPBACK, limit_s)


DATA = bytes(range(256)) * 4_000


@pytest.fixture
def downloader() -> Downloader:
    return Downloader(connect, most_bytes=2_000_000, limit_s=30, sleep=lambda _s: None)


@pytest.mark.parametrize("fields", [{}, {"with_length": False}, {"etag": ""}])
def test_a_file_is_downloaded(fields: dict[str, object], site: Site, downloader: Downloader, tmp_path: Path) -> None:
    site.audio("/a.wav", DATA, **fields)
    got = downloader.download(site.url("/a.wav"), tmp_path / "part")
    assert got.path.read_bytes() == DATA
    assert (got.size, got.content_type) == (len(DATA), "audio/wav")


def test_a_broken_connection_is_continued(site: Site, downloader: Downloader, tmp_path: Path) -> None:
    site.audio("/a.wav", DATA, cuts=[300_000, 0, 200_000])
    assert downloader.download(site.url("/a.wav"), tmp_path / "part").path.read_bytes() == DATA
    assert [asked.get("range") for asked in site.asked("/a.wav")] == [
        None,
        "bytes=300000-",
        "bytes=300000-",
        "bytes=500000-",
    ]


def test_a_later_call_continues_the_part(site: Site, downloader: Downloader, tmp_path: Path) -> None:
    site.audio("/a.wav", DATA, cuts=[100_000, 0, 0, 0, 0])
    with pytest.raises(TransientFailure):
        downloader.download(site.url("/a.wav"), tmp_path / "part")
    got = downloader.download(site.url("/a.wav"), tmp_path / "part")
    assert got.path.read_bytes() == DATA
    assert got.resumed == 100_000


@pytest.mark.parametrize("change", ["content", "no ranges", "no validator"])
def test_parts_of_another_version_are_not_joined(
    change: str, site: Site, downloader: Downloader, tmp_path: Path
) -> None:
    page = site.audio("/a.wav", DATA, cuts=[100_000, 0, 0, 0, 0], etag="" if change == "no validator" else None)
    with pytest.raises(TransientFailure):
        downloader.download(site.url("/a.wav"), tmp_path / "part")
    page.cuts.clear()
    page.data = DATA[::-1] if change == "content" else DATA
    page.ranges = change != "no ranges"
    assert downloader.download(site.url("/a.wav"), tmp_path / "part").path.read_bytes() == page.data


def test_a_complete_part_is_taken(site: Site, downloader: Downloader, tmp_path: Path) -> None:
    page = site.audio("/a.wav", DATA)
    downloader.download(site.url("/a.wav"), tmp_path / "part")
    assert downloader.download(site.url("/a.wav"), tmp_path / "part").path.read_bytes() == DATA
    page.data = DATA[:1000]
    page.etag = site.asked("/a.wav")[-1]["if-range"]  # a server that lies about the version
    with pytest.raises(TransientFailure):
        downloader.download(site.url("/a.wav"), tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_complete_part_keeps_its_type(site: Site, downloader: Downloader, tmp_path: Path) -> None:
    site.audio("/a", DATA)
    downloader.download(site.url("/a"), tmp_path / "part")
    assert downloader.download(site.url("/a"), tmp_path / "part").content_type == "audio/wav"


@pytest.mark.parametrize("sent", ["another", ""])
def test_a_part_of_an_unknown_version_is_not_joined(
    sent: str, site: Site, downloader: Downloader, tmp_path: Path
) -> None:
    page = site.audio("/a.wav", DATA, cuts=[100_000, 0, 0, 0, 0])
    with pytest.raises(TransientFailure):
        downloader.download(site.url("/a.wav"), tmp_path / "part")
    page.cuts.clear()
    page.data, page.ignores_if_range, page.etag = DATA[::-1], True, f'"{sent}"' if sent else ""
    with pytest.raises(TransientFailure):
        downloader.download(site.url("/a.wav"), tmp_path / "part")
    assert downloader.download(site.url("/a.wav"), tmp_path / "part").path.read_bytes() == page.data


@pytest.mark.parametrize("tag", ['"\xe9"', '"a\x7f"'])
def test_validators_that_cannot_be_sent_are_dropped(
    tag: str, site: Site, downloader: Downloader, tmp_path: Path
) -> None:
    site.pages["/feed"] = Page(b"feed", "text/xml", etag=tag)
    found = get_document(connect, site.url("/feed"), 30)
    assert found is not None
    assert found.etag == ""
    site.audio("/a.wav", DATA, etag=tag, cuts=[1000])
    with pytest.raises(TransientFailure):
        downloader.download(site.url("/a.wav"), tmp_path / "part")
    assert downloader.download(site.url("/a.wav"), tmp_path / "part").size == len(DATA)


@pytest.mark.parametrize("with_length", [True, False])
def test_a_file_over_the_limit_is_refused(
    *, with_length: bool, site: Site, downloader: Downloader, tmp_path: Path
) -> None:
    site.audio("/a.wav", bytes(3_000_000), with_length=with_length)
    with pytest.raises(TooLarge):
        downloader.download(site.url("/a.wav"), tmp_path / "part")
    assert not (tmp_path / "part").exists() or (tmp_path / "part").stat().st_size <= 2_000_000


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (Page(b"<html>", "text/html"), PermanentFailure),
        (Page(b"{}", "application/json; charset=utf-8"), PermanentFailure),
        (Page(gzip.compress(DATA), "audio/wav", headers={"content-encoding": "gzip"}), PermanentFailure),
        (Page(status=401), Refused),
        (Page(status=403), Refused),
        (Page(status=404), TransientFailure),
        (Page(status=400), PermanentFailure),
        (Page(status=503), TransientFailure),
    ],
)
def test_responses_without_a_recording_fail(
    page: Page, error: type[Exception], site: Site, downloader: Downloader, tmp_path: Path
) -> None:
    site.pages["/a.wav"] = page
    with pytest.raises(error):
        downloader.download(site.url("/a.wav"), tmp_path / "part")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_a_document_is_read_with_any_coding(coding: str, site: Site) -> None:
    data = {"gzip": gzip.compress(DATA), "deflate": zlib.compress(DATA), "identity": DATA}[coding]
    site.pages["/feed"] = Page(data, headers={"content-encoding": coding})
    found = get_document(connect, site.url("/feed"), 30)
    assert found is not None
    assert found.data == DATA


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_other_codings_are_refused(coding: str, site: Site) -> None:
    site.pages["/feed"] = Page(b"x", headers={"content-encoding": coding})
    with pytest.raises(PermanentFailure):
        get_document(connect, site.url("/feed"), 30)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_huge_document_is_refused_early(*, compressed: bool, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_DOCUMENT_BYTES", 4 << 20)
    data = bytes(100 << 20)
    headers = {"content-encoding": "gzip"} if compressed else {}
    site.pages["/feed"] = Page(gzip.compress(data, 1) if compressed else data, "text/xml", headers=headers)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(TooLarge):
        get_document(connect, site.url("/feed"), 30)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 40 << 20


def test_an_unchanged_document_is_not_sent_again(site: Site) -> None:
    site.pages["/feed"] = Page(b"feed", "text/xml")
    first = get_document(connect, site.url("/feed"), 30)
    assert first is not None
    assert get_document(connect, site.url("/feed"), 30, etag=first.etag) is None


def test_many_short_connections_end_at_the_limit(site: Site, tmp_path: Path) -> None:
    site.audio("/a.wav", DATA, cuts=[1] * 1_500)
    short = Downloader(connect, most_bytes=2_000_000, limit_s=1.5, sleep=lambda _s: None)
    with pytest.raises(TransientFailure):
        short.download(site.url("/a.wav"), tmp_path / "part")
    received = (tmp_path / "part").stat().st_size
    assert 0 < received < 1_500
    site.pages["/a.wav"].cuts.clear()
    assert short.download(site.url("/a.wav"), tmp_path / "part").resumed == received
