"""`/metrics`: figures of the store and of requests, in the format of Prometheus."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from transcription_assets.errors import StoreAway
from transcription_assets.pipeline.failure_notes import FailureNote
from transcription_assets.sources import ledger
from transcription_assets.sources.ledger import Entry, Ledger
from transcription_assets.storage import Store
from transcription_assets.web import metrics
from transcription_assets.web.library import Library, Overview
from transcription_assets.web.thread_pool import ThreadPool
from transcription_assets_tests import served, waiting


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("archive")
    made = Store.open(str(folder / "store"))
    served.fill(made, folder)
    made.write("audio/waiting.wav", b"not processed yet")
    made.write("sources.toml", b'[pod]\nkind = "feed"\nurl = "https://example.com/feed"')
    entries = {"a": Entry("landed", "2026-01-01"), "b": Entry("failed", "2026-01-01")}
    ledger.save(made, "pod", Ledger(looked="2026-01-01T00:00:00+00:00", error="away", pending=3, items=entries))
    return made


def read(asking: TestClient) -> dict[tuple[str, ...], float]:
    """Return the value of each sample by its name and the values of its labels."""
    text = asking.get("/metrics").text
    families = text_string_to_metric_families(text)
    return {(item.name, *item.labels.values()): item.value for family in families for item in family.samples}


def test_figures_of_the_store_are_reported(store: Store) -> None:
    with served.client(served.archive(store)) as asking:
        found = read(asking)
    assert found["transcription_store_readable",] == 1
    assert found["transcription_recordings", "done"] == 3
    assert found["transcription_recordings", "waiting"] == 1
    assert 0 < found["transcription_backlog_age_seconds",] < 3600
    assert found["transcription_passages",] > 0
    assert found["transcription_source_items", "pod", "landed"] == 1
    assert found["transcription_source_items", "pod", "failed"] == 1
    assert found["transcription_source_pending", "pod"] == 3
    assert found["transcription_source_failing", "pod"] == 1
    assert found["transcription_source_last_look", "pod"] == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_work_of_the_steps_is_reported(store: Store) -> None:
    """Report of `process` about filling the archive."""
    with served.client(served.archive(store)) as asking:
        found = read(asking)
    assert [found["transcription_step_recordings_total", step] for step in ("video", "audio", "embeddings")] == [
        3,
        3,
        3,
    ]
    assert found["transcription_step_recordings_total", "transcript"] == 2, "one has the same sound as another"
    assert found["transcription_step_audio_seconds_total", "audio"] == pytest.approx(25.0, abs=0.2)
    assert found["transcription_step_seconds_total", "compute", "audio"] > 0
    assert found["transcription_step_gpu_seconds_total", "transcript"] == 0


def test_requests_are_counted_with_bounded_labels(store: Store) -> None:
    with served.client(served.archive(store)) as asking:
        asking.get("/api/search", params={"q": "sentence"})
        asking.get("/api/media/video/missing.mp4")
        for number in range(20):
            asking.get(f"/no-such-page-{number}")
        found = read(asking)
    assert found["transcription_request_seconds_count", "/api/search", "200"] == 1
    assert found["transcription_request_seconds_count", "/api/media", "404"] == 1
    paths = {key[1] for key in found if key[0] == "transcription_request_seconds_count"}
    assert paths <= {*metrics.PATHS, "other"}


def test_metrics_need_the_token(store: Store) -> None:
    token = "a token of 24 characters"
    with served.client(served.archive(store, serve_token=token)) as asking:
        assert asking.get("/metrics").status_code == 401
        assert asking.get("/metrics", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_a_store_that_is_away_is_reported(tmp_path: Path) -> None:
    with served.client(served.archive(tmp_path / "missing")) as asking:
        assert read(asking)["transcription_store_readable",] == 0


def test_a_store_that_fails_later_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreAway("away")

    clock = [0.0]
    library = Library(served.archive(store))
    reported = metrics.Metrics(library)
    for cached in (library.overview, reported._figures):  # noqa: SLF001 -- the clock of the server is not a parameter
        cached.now = lambda: clock[0]
    site = FastAPI()
    site.include_router(reported.router(ThreadPool(2, 30.0)))
    with TestClient(site) as asking:
        assert read(asking)["transcription_store_readable",] == 1
        monkeypatch.setattr(Library, "_searchable", away)
        clock[0] = 3600.0
        assert read(asking)["transcription_store_readable",] == 0
        monkeypatch.undo()
        readable = ("transcription_store_readable",)
        waiting.until("figures of the store", lambda: read(asking)[readable] == 1, progress=lambda: None)


def test_a_damaged_state_hides_no_other_source(tmp_path: Path) -> None:
    made = Store.open(str(tmp_path / "store"))
    made.write("sources.toml", b"".join(b'[%c]\nkind = "feed"\nurl = "https://e.example"\n' % name for name in b"ab"))
    made.write(ledger.path("a"), b"{")
    ledger.save(made, "b", Ledger(pending=3))
    found = metrics._ledgers(made)  # noqa: SLF001 -- of the route only the sum of all could be seen
    assert (bool(found["a"].error), found["b"].pending) == (True, 3)


def test_failures_are_counted_by_step_and_kind() -> None:
    now = datetime.now(UTC)
    frame = pl.DataFrame(
        {
            "key": ["a", "b", "c"],
            "state": ["failed", "failed", "working"],
            "passages": [0, 0, 2],
            "last_modified": [now, now, now - timedelta(hours=1)],
        }
    )
    notes = {
        "a": FailureNote("1", "audio", "broken", transient=False, at="", kind="PermanentFailure"),
        "b": FailureNote("1", "audio", "away", transient=True, at="", kind="StoreAway"),
    }
    found = metrics.figures(Overview(frame, notes), {})
    assert found.failures == {("audio", "PermanentFailure", False): 1, ("audio", "StoreAway", True): 1}
    assert found.oldest == now - timedelta(hours=1)
    assert found.passages == 2
