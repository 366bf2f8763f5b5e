"""A podcast on a real HTTP server becomes searchable, and its recordings link back to it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from transcription_assets.cli.main import main
from transcription_assets.sources.fetching import Fetcher
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.sources.site import Page, Site, days_ago, episode, rss
from transcription_assets_tests.sources.test_fetching import keys, source


def publish(site: Site, folder: Path) -> None:
    for seconds in (5, 10):
        site.audio(f"/{seconds}.wav", recordings.tone(folder / f"{seconds}.wav", seconds, rate=8_000).read_bytes())
    site.pages["/feed"] = Page(
        rss(
            episode("g1", "/5.wav", "The <i>short</i> one", days_ago(400), "https://example.com/short"),
            episode("g2", "/10.wav", "The long one", days_ago(3), "https://example.com/long"),
        ),
        "application/rss+xml",
    )


def test_a_feed_becomes_searchable_and_links_back(site: Site, fetcher: Fetcher, store: Store, tmp_path: Path) -> None:
    publish(site, tmp_path)
    fetcher.fetch(source("feed", site.url("/feed"), licence="CC-BY-4.0"))
    store.put_media("audio/other.wav", recordings.tone(tmp_path / "other.wav", 10.0, rate=8_000, frequency=300.0))
    Chain(store).run(*keys(store))
    with served.client(served.archive(store)) as asking:

        def found(**filters: str) -> list[tuple[str, str]]:
            moments = asking.get("/api/search", params={"q": "sentence 1 of 10 seconds", **filters}).json()["moments"]
            return sorted({(moment["title"], moment["recorded"] or "") for moment in moments})

        (long, short, _) = (*found(source="pod"), None)
        assert (long[0], short[0]) == ("The long one", "The short one")
        assert found(source="pod", since=long[1]) == [long]
        assert found(source="another") == []
        assert len(found()) == 3
        key = next(key for key in keys(store) if "long" in key)
        details = asking.get(f"/api/media/{key}").json()
        assert details["title"] == "The long one"
        assert details["origin"]["link"] == "https://example.com/long"
        assert (details["origin"]["source"], details["origin"]["licence"]) == ("pod", "CC-BY-4.0")
        assert asking.get("/api/media/audio/other.wav").json()["origin"] is None


@pytest.fixture
def configured(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TRANSCRIPTION_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TRANSCRIPTION_DOWNLOADS_DIR", str(tmp_path / "downloads"))
    monkeypatch.setenv("TRANSCRIPTION_SOURCE_NETWORKS", "127.0.0.0/8")
    publish(site, tmp_path)
    store = Store.open(str(tmp_path / "store"))
    catalogue = f'[pod]\nkind = "feed"\nurl = "{site.url("/feed")}"\n[gone]\nkind = "http"\nurl = "{site.url("/no")}"\n'
    store.write("sources.toml", catalogue.encode())
    return store


def test_commands_fetch_without_dagster(configured: Store) -> None:
    calls = CliRunner()
    assert calls.invoke(main, ["sources", "list"]).exit_code == 0
    assert calls.invoke(main, ["sources", "check", "pod"]).exit_code == 0
    assert keys(configured) == []
    assert configured.list("sources/") == []
    assert calls.invoke(main, ["sources", "fetch", "pod"]).exit_code == 0
    assert len(keys(configured)) == 2
    assert calls.invoke(main, ["sources", "fetch", "--due"]).exit_code == 1
    assert calls.invoke(main, ["sources", "fetch", "unknown"]).exit_code == 1
    assert "2" in calls.invoke(main, ["sources", "list"]).output


def test_loopback_is_refused_by_default(configured: Store, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.delenv("TRANSCRIPTION_SOURCE_NETWORKS")
    assert CliRunner().invoke(main, ["sources", "fetch"]).exit_code == 1
    assert keys(configured) == []
    assert site.requests == []
