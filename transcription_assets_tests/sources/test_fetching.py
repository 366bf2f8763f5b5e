"""Fetching: each recording lands once, with its origin, and failures are bounded and kept apart."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure, Refused, TranscriptionError, TransientFailure
from transcription_assets.pipeline import origin
from transcription_assets.sources import catalogue, fetching, ledger
from transcription_assets.sources.catalogue import Source
from transcription_assets.sources.fetching import Fetcher
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.sources.site import Page, Site, days_ago, episode, rss
from transcription_assets_tests.stores import Case


def source(kind: str, url: str, **fields: object) -> Source:
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {"kind": kind, "url": url, **fields}.items())
    return catalogue.parse(f"[pod]\n{lines}".encode(), "test")["pod"]


def publish(site: Site, tone: bytes, *numbers: int) -> None:
    for number in numbers:
        site.audio(f"/{number}.wav", tone + bytes(number))
    items = (
        episode(f"g{n}", f"/{n}.wav", f"Episode {n}", days_ago(100 - n), f"https://example.com/{n}") for n in numbers
    )
    site.pages["/feed"] = Page(rss(*items), "application/rss+xml")


def keys(store: Store) -> list[str]:
    return [str(key) for key in store.list_media().frame["key"]]


def test_recordings_of_a_feed_land_with_their_origin(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    publish(site, tone, 1)
    report = fetcher.fetch(source("feed", site.url("/feed"), licence="CC-BY-4.0"))
    (key,) = keys(store)
    assert key.startswith("audio/pod/")
    assert list(report.landed) == [key]
    found = origin.load(store, key)
    assert found is not None
    assert (found.title, found.link, found.licence) == ("Episode 1", "https://example.com/1", "CC-BY-4.0")
    assert (found.source, found.kind, found.source_title) == ("pod", "feed", "A podcast")
    assert found.recorded is not None
    assert found.size == store.stat(key).size == len(tone) + 1


def test_recordings_land_in_any_store(case: Case, site: Site, fetcher: Fetcher, tone: bytes) -> None:
    publish(site, tone, 1, 2)
    fetching_into = replace(fetcher, store=case.store)
    feed = source("feed", site.url("/feed"))
    report = fetching_into.fetch(feed)
    assert sorted(report.landed) == sorted(keys(case.store))
    assert len(report.landed) == 2
    for key, made in report.landed.items():
        assert origin.load(case.store, key) == made
    assert fetching_into.fetch(feed).unchanged


def test_each_recording_is_fetched_once(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    publish(site, tone, 1, 2)
    feed = source("feed", site.url("/feed"))
    fetcher.fetch(feed)
    before = store.list_media().frame
    again = fetcher.fetch(feed)
    assert again.unchanged
    publish(site, tone, 1, 2, 3)
    assert len(fetcher.fetch(feed).landed) == 1
    assert [len(site.asked(f"/{n}.wav")) for n in (1, 2, 3)] == [1, 1, 1]
    assert len(keys(store)) == 3
    assert before.join(store.list_media().frame, on=["key", "etag"], how="anti").is_empty()


def test_new_audio_of_a_guid_is_fetched(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    publish(site, tone, 1)
    feed = source("feed", site.url("/feed"))
    fetcher.fetch(feed)
    site.audio("/1-corrected.wav", tone)
    site.pages["/feed"] = Page(rss(episode("g1", "/1-corrected.wav", "Episode 1")), "application/rss+xml")
    assert len(fetcher.fetch(feed).landed) == 1
    assert len(keys(store)) == 2


def test_the_first_look_takes_the_newest(site: Site, fetcher: Fetcher, tone: bytes) -> None:
    publish(site, tone, 1, 2, 3, 4)
    feed = source("feed", site.url("/feed"), backfill=2)
    assert {made.title for made in fetcher.fetch(feed).landed.values()} == {"Episode 4", "Episode 3"}
    publish(site, tone, 1, 2, 3, 4, 5)
    assert {made.title for made in fetcher.fetch(feed).landed.values()} == {"Episode 5"}
    raised = source("feed", site.url("/feed"), backfill=4)
    assert {made.title for made in fetcher.fetch(raised).landed.values()} == {"Episode 2"}


def test_a_long_list_is_fetched_in_parts(
    site: Site, fetcher: Fetcher, store: Store, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MOST_AT_ONCE", 2)
    publish(site, tone, 1, 2, 3, 4, 5)
    feed = source("feed", site.url("/feed"))
    assert [fetcher.fetch(feed).pending for _ in range(3)] == [3, 1, 0]
    assert fetcher.fetch(feed).unchanged
    assert len(keys(store)) == 5


def test_one_bad_item_does_not_stop_the_others(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    publish(site, tone, 1, 2, 3, 4)
    site.pages["/1.wav"] = Page(b"<html>", "text/html")
    site.pages["/2.wav"] = Page(b"no recording" * 1000, "audio/wav")
    site.pages["/3.wav"] = Page(status=503)
    feed = source("feed", site.url("/feed"))
    report = fetcher.fetch(feed)
    assert set(report.failed) == {"Episode 1", "Episode 2", "Episode 3"}
    assert len(keys(store)) == 1
    state = ledger.load(store, "pod")
    assert (state.count("failed"), state.count("waiting"), state.count("landed")) == (2, 1, 1)
    site.audio("/3.wav", tone)
    assert len(fetcher.fetch(feed).landed) == 1
    assert len(site.asked("/1.wav")) == 1
    site.audio("/1.wav", tone + b"1")
    assert len(fetcher.fetch(feed, again=True).landed) == 1


def test_an_item_is_given_up_at_last(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    publish(site, tone, 1)
    site.pages["/1.wav"] = Page(status=503)
    feed = source("feed", site.url("/feed"))
    for _ in range(10):
        fetcher.fetch(feed)
    assert ledger.load(store, "pod").count("failed") == 1
    assert len(site.asked("/1.wav")) == 8


def test_a_source_that_fails_says_so_in_its_state(site: Site, fetcher: Fetcher, store: Store) -> None:
    site.pages["/feed"] = Page(b"<html>sign in</html>", "text/html")
    with pytest.raises(PermanentFailure):
        fetcher.fetch(source("feed", site.url("/feed")))
    assert ledger.load(store, "pod").error


def test_the_quota_ends_a_fetch(site: Site, fetcher: Fetcher, tone: bytes) -> None:
    publish(site, tone, 1, 2, 3)
    report = fetcher.fetch(source("feed", site.url("/feed"), quota_gb=len(tone) * 1.5 / 1e9))
    assert len(report.landed) == 2
    assert report.stopped
    assert report.pending == 1
    assert len(fetcher.fetch(source("feed", site.url("/feed"))).landed) == 1


def test_internal_enclosures_are_refused(site: Site, fetcher: Fetcher, store: Store) -> None:
    site.pages["/feed"] = Page(rss(episode("g", "http://169.254.169.254/1.wav")), "application/rss+xml")
    report = fetcher.fetch(source("feed", site.url("/feed")))
    assert list(report.failed) == ["g"]
    assert keys(store) == []


@pytest.mark.parametrize("step", ["origin", "put", "state"])
def test_a_killed_fetch_is_completed_without_a_copy(  # noqa: PLR0917 -- fixtures
    step: str, site: Site, fetcher: Fetcher, store: Store, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    publish(site, tone, 1)
    feed = source("feed", site.url("/feed"))
    with monkeypatch.context() as patch:
        if step == "origin":
            patch.setattr(origin, "write", killed)
        elif step == "put":
            patch.setattr(store, "put_media", killed)
        else:
            patch.setattr(fetching, "forget", killed)
        with pytest.raises(Killed):
            fetcher.fetch(feed)
    renamed = site.pages["/feed"].data.replace(b"Episode 1", b"Another title")
    site.pages["/feed"] = Page(renamed, "application/rss+xml")
    assert len(fetcher.fetch(feed).landed) == 1
    assert len(keys(store)) == 1
    assert origin.load(store, keys(store)[0]) is not None
    assert ledger.load(store, "pod").count("landed") == 1


def test_a_damaged_state_is_not_taken_for_an_empty_one(site: Site, fetcher: Fetcher, store: Store, tone: bytes) -> None:
    publish(site, tone, 1)
    store.write(ledger.path("pod"), b"{")
    with pytest.raises(PermanentFailure):
        fetcher.fetch(source("feed", site.url("/feed")))
    assert site.requests == []


def test_a_single_file_is_fetched(site: Site, fetcher: Fetcher, tone: bytes) -> None:
    site.audio("/talk.wav", tone)
    url = site.url("/talk.wav?token=1")
    site.pages["/talk.wav?token=1"] = site.pages["/talk.wav"]
    single = catalogue.parse(
        f'[talk]\nkind = "http"\nurl = "{url}"\ntitle = "The talk"\nrecorded = 1969-07-20'.encode(), "test"
    )["talk"]
    (made,) = fetcher.fetch(single).landed.values()
    assert (made.title, str(made.recorded), made.media_url) == ("The talk", "1969-07-20", site.url("/talk.wav"))
    assert fetcher.fetch(single).landed == {}


def other_folder(root: Path) -> None:
    recordings.tone(root / "interviews" / "a.wav", 1.0, rate=8_000)
    (root / "notes.txt").write_text("notes")


def other_store(root: Path) -> None:
    recordings.tone(root / "audio" / "interviews" / "a.wav", 1.0, rate=8_000)
    recordings.tone(root / "extracted" / "audio" / "a.flac", 1.0, rate=8_000)


@pytest.mark.parametrize("fill", [other_folder, other_store])
def test_another_store_is_copied(fill: Callable[[Path], None], fetcher: Fetcher, store: Store, tmp_path: Path) -> None:
    other = tmp_path / "roots" / "other"
    fill(other)
    copying = replace(fetcher, limits=replace(fetcher.limits, link_roots=(tmp_path / "roots",)))
    copied = source("store", str(other))
    assert list(copying.fetch(copied).landed) == ["audio/pod/interviews/a.wav"]
    found = origin.load(store, "audio/pod/interviews/a.wav")
    assert found is not None
    assert (found.kind, found.title, found.link) == ("store", "", "")
    assert copying.fetch(copied).landed == {}
    with pytest.raises(TranscriptionError):
        fetcher.fetch(copied)


def test_a_recording_replaced_during_its_copy_waits(
    fetcher: Fetcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "roots" / "other"
    other_folder(other)
    read = Store.read_media

    def replaced(self: Store, key: str, start: int, length: int) -> bytes:
        data = read(self, key, start, length)
        path = other / "interviews" / "a.wav"
        path.write_bytes(bytes(reversed(path.read_bytes())))
        return data

    monkeypatch.setattr(Store, "read_media", replaced)
    copying = replace(fetcher, limits=replace(fetcher.limits, link_roots=(tmp_path / "roots",)))
    assert copying.fetch(source("store", str(other))).failed
    assert keys(store) == []
    assert ledger.load(store, "pod").count("waiting") == 1


@pytest.mark.parametrize("place", ["", "store", "store/audio"])
def test_a_store_is_not_copied_into_itself(place: str, fetcher: Fetcher, store: Store, tmp_path: Path) -> None:
    recordings.tone(tmp_path / "store" / "audio" / "a.wav", 1.0, rate=8_000)
    copying = replace(fetcher, limits=replace(fetcher.limits, link_roots=(tmp_path,)))
    with pytest.raises(Refused):
        copying.fetch(source("store", str(tmp_path / place)))
    assert keys(store) == ["audio/a.wav"]


def parts(fetcher: Fetcher) -> list[Path]:
    return [path for path in fetcher.limits.folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(
    "page", [Page(b"no recording" * 999, "audio/wav"), Page(bytes(6_000_000), "", with_length=False)]
)
def test_parts_of_refused_recordings_are_deleted(page: Page, site: Site, fetcher: Fetcher) -> None:
    site.pages["/a.wav"] = page
    assert fetcher.fetch(source("http", site.url("/a.wav"))).failed
    assert parts(fetcher) == []


def test_the_size_of_all_kept_parts_is_bounded(site: Site, fetcher: Fetcher, tone: bytes) -> None:
    publish(site, tone, *range(8))
    for number in range(8):
        site.pages[f"/{number}.wav"].cuts = [50_000, 0, 0, 0, 0]
    limits = replace(fetcher.limits, most_bytes=len(tone) + 10)
    replace(fetcher, limits=limits).fetch(source("feed", site.url("/feed")))
    kept = sum(path.stat().st_size for path in parts(fetcher))
    assert 0 < kept <= (fetching.KEPT_PARTS + 1) * limits.most_bytes


def test_two_processes_do_not_download_one_item(site: Site, fetcher: Fetcher, tone: bytes) -> None:
    publish(site, tone, 1)
    feed = source("feed", site.url("/feed"))
    (item,) = fetcher.list_items(feed, ledger.Ledger()).items
    with fetcher._part(feed, item):  # noqa: SLF001 -- what the other process does
        report = fetcher.fetch(feed)
    assert list(report.failed) == ["Episode 1"]
    assert site.asked("/1.wav") == []
    assert len(fetcher.fetch(feed).landed) == 1


def test_what_landed_for_another_process_is_not_fetched(
    site: Site, fetcher: Fetcher, store: Store, tone: bytes
) -> None:
    publish(site, tone, 1, 2)
    feed = source("feed", site.url("/feed"))
    others: list[str] = []

    def meanwhile(_line: str) -> None:
        if not others:  # the first recording has landed; another process fetches the second one
            others.extend(fetcher.fetch(feed).landed)

    report = fetcher.fetch(feed, meanwhile)
    assert (len(report.landed), len({*others} - {*report.landed}), report.failed) == (1, 1, {})
    assert [len(site.asked(f"/{number}.wav")) for number in (1, 2)] == [1, 1]
    assert ledger.load(store, "pod").count("landed") == 2


def moved(site: Site, tone: bytes, folder: str) -> None:
    """Publish five items with the same GUIDs, the newest first, whose files are in a folder."""
    for number in range(5):
        site.audio(f"/{folder}/{number}.wav", tone + bytes(number))
    items = (episode(f"g{n}", f"/{folder}/{n}.wav", f"Episode {n}", days_ago(n)) for n in range(5))
    site.pages["/feed"] = Page(rss(*items), "application/rss+xml")


def test_moved_files_are_fetched_within_the_backfill(site: Site, fetcher: Fetcher, tone: bytes) -> None:
    feed = source("feed", site.url("/feed"), backfill=2)
    moved(site, tone, "a")
    assert len(fetcher.fetch(feed).landed) == 2
    moved(site, tone, "b")
    assert [len(fetcher.fetch(feed).landed) for _ in range(2)] == [2, 0]


def test_another_address_is_listed_anew(site: Site, fetcher: Fetcher, tone: bytes) -> None:
    moved(site, tone, "a")
    fetcher.fetch(source("feed", site.url("/feed"), backfill=1))
    items = (episode(f"h{n}", f"/a/{n}.wav", day=days_ago(n)) for n in range(4))
    page = site.pages["/other"] = Page(rss(*items), "application/rss+xml")
    page.etag = site.pages["/feed"].tag
    report = fetcher.fetch(source("feed", site.url("/other"), backfill=1))
    assert (report.unchanged, report.offered, len(report.landed), report.pending) == (False, 4, 1, 0)
    assert fetcher.fetch(source("feed", site.url("/other"), backfill=1)).unchanged


def test_a_missing_server_is_transient(fetcher: Fetcher) -> None:
    with pytest.raises(TransientFailure):
        fetcher.fetch(source("feed", "http://127.0.0.1:9/feed"))


SECRETS = ("hunter2", "sesame")


def secret_feed(site: Site, tone: bytes) -> Source:
    site.audio("/1.wav", tone)
    site.audio("/2.wav?key=sesame", tone, cuts=[1000, 0, 0, 0, 0])
    items = ("/1.wav", "/2.wav?key=sesame", "/3.wav?key=sesame")
    text = "".join(
        f'<item><link>#{n}</link><enclosure url="{url}" type="audio/wav"/></item>' for n, url in enumerate(items)
    )
    site.pages["/feed?key=sesame"] = Page(rss(text), "application/rss+xml")
    return source("feed", site.url("/feed?key=sesame").replace("//", "//user:hunter2@"))


def secret_file(site: Site, tone: bytes) -> Source:
    site.audio("/1.wav?key=sesame", tone)
    return source("http", site.url("/1.wav?key=sesame").replace("//", "//user:hunter2@"))


def secret_part(site: Site, tone: bytes) -> Source:
    site.audio("/1.wav?key=sesame", tone, cuts=[1000, 0, 0, 0, 0])
    return source("http", site.url("/1.wav?key=sesame").replace("//", "//user:hunter2@"))


@pytest.mark.parametrize("made", [secret_feed, secret_file, secret_part])
def test_secrets_of_urls_are_stored_and_shown_nowhere(  # noqa: PLR0917 -- fixtures
    made: Callable[[Site, bytes], Source],
    site: Site,
    fetcher: Fetcher,
    tone: bytes,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    lines: list[str] = []
    report = fetcher.fetch(made(site, tone), lines.append)
    assert report.landed or report.failed
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    told = " ".join([caplog.text, repr(report), *lines]).encode()
    assert [secret for secret in SECRETS for text in [*written, told] if secret.encode() in text] == []
    authorized = [headers for path, headers in site.requests if "wav" in path and "authorization" in headers]
    assert authorized
