"""Sources in Dagster: sensors request a run for each source that is due, and the asset fetches it."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from transcription_assets.defs import sources
from transcription_assets.defs.resources import DecoderResource, FetcherResource, StoreResource
from transcription_assets.sources.catalogue import InvalidSources, Kind
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.sources.site import Page, Site, days_ago, episode, rss, site


@pytest.fixture
def podcast(tmp_path: Path) -> Iterator[Site]:
    with site() as running:
        tone = recordings.tone(tmp_path / "tone.wav", 5.0, rate=8_000).read_bytes()
        running.audio("/1.wav", tone)
        running.pages["/feed"] = Page(
            rss(
                episode("g1", "/1.wav", "One", days_ago(1), "https://example.com/1"),
                episode("g2", "/2.wav", "Two", days_ago(2)),
            ),
            "application/rss+xml",
        )
        yield running


@pytest.fixture
def store(tmp_path: Path, podcast: Site, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TRANSCRIPTION_SOURCE_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("TRANSCRIPTION_DOWNLOADS_DIR", str(tmp_path / "downloads"))
    made = Store.open(str(tmp_path / "store"))
    made.write("sources.toml", f'[pod]\nkind = "feed"\nurl = "{podcast.url("/feed")}"'.encode())
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(instance: dg.DagsterInstance, store: Store, kind: Kind = "feed") -> list[dg.RunRequest]:
    resources = {"store": StoreResource(url=store.url)}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        result = sources.source_sensor(kind)(context)
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or ():
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return list(result.run_requests or ())


def fetch(instance: dg.DagsterInstance, store: Store) -> dg.ExecuteInProcessResult:
    built = dg.Definitions(
        assets=[sources.sources],
        jobs=[sources.fetch_sources],
        resources={
            "store": StoreResource(url=store.url),
            "decoder": DecoderResource(ffmpeg=recordings.wheel_ffmpeg()),
            "fetcher": FetcherResource(),
        },
        executor=dg.in_process_executor,
    )
    job = built.resolve_job_def("fetch_sources")
    return job.execute_in_process(instance=instance, partition_key="pod", raise_on_error=False)


def test_a_due_source_is_fetched_and_shows_its_recordings(instance: dg.DagsterInstance, store: Store) -> None:
    (request,) = tick(instance, store)
    assert request.partition_key == "pod"
    assert tick(instance, store, "http") == []
    result = fetch(instance, store)
    assert result.success
    (made,) = result.asset_materializations_for_node("sources")
    assert (made.partition, made.metadata["fetched"].value, made.metadata["failed"].value) == ("pod", 1, 1)
    (key,) = store.list_media().frame["key"]
    (record,) = made.metadata["recordings"].value.records
    assert (record.data["recording"], record.data["link"]) == (key, "https://example.com/1")
    (seen,) = instance.fetch_observations(dg.AssetKey("inbox"), limit=10).records
    assert seen.asset_observation is not None
    assert seen.asset_observation.metadata["recording"].value == key
    assert tick(instance, store) == []


def test_a_repeated_tick_requests_the_same_run(instance: dg.DagsterInstance, store: Store) -> None:
    first, second = tick(instance, store), tick(instance, store)
    assert [request.run_key for request in first] == [request.run_key for request in second]


def test_a_source_with_an_active_run_waits(instance: dg.DagsterInstance, store: Store) -> None:
    tick(instance, store)
    tags = {"dagster/partition": "pod"}
    instance.add_run(dg.DagsterRun("fetch_sources", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert tick(instance, store) == []


def test_a_source_that_cannot_be_read_fails_its_run(instance: dg.DagsterInstance, store: Store, podcast: Site) -> None:
    podcast.pages["/feed"] = Page(b"<html>", "text/html")
    tick(instance, store)
    assert not fetch(instance, store).success
    assert tick(instance, store) == []


def test_an_invalid_catalogue_fails_the_tick(instance: dg.DagsterInstance, store: Store) -> None:
    store.write("sources.toml", b"[pod]\nkind = 'unknown'")
    with pytest.raises(InvalidSources):
        tick(instance, store)


def test_a_damaged_state_stops_its_source_only(instance: dg.DagsterInstance, store: Store) -> None:
    store.write("sources.toml", store.read("sources.toml") + b'\n[torn]\nkind = "feed"\nurl = "https://e.example"')
    store.write("sources/torn.json", b"{")
    assert [request.partition_key for request in tick(instance, store)] == ["pod"]


def test_a_store_without_sources_requests_nothing(instance: dg.DagsterInstance, store: Store) -> None:
    store.delete("sources.toml")
    assert [tick(instance, store, kind) for kind in ("feed", "link", "http", "store")] == [[], [], [], []]
    assert sources.source_names.name == "sources"
