"""The site of an archive with missing or damaged parts."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from transcription_assets.embedding import Vectors
from transcription_assets.errors import TransientFailure
from transcription_assets.search.query import Answer, Query
from transcription_assets.storage import Store
from transcription_assets.web.archive import Archive
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.fakes import HashEncoder
from transcription_assets_tests.served import SENTENCE, TALK, TONE

TOKEN = "a token that nobody guesses"


def test_missing_store_is_reported_and_not_created(tmp_path: Path) -> None:
    missing = tmp_path / "not there"
    with served.client(served.archive(missing)) as page:
        assert page.get("/").status_code == 200
        assert page.get("/healthz").status_code == 200
        ready = page.get("/readyz")
        assert (ready.status_code, ready.text.splitlines()[0].partition(":")[0]) == (503, "not ready")
        assert "store" in ready.text
        for address in ("/api/search?q=a", "/api/media", f"/api/media/{served.of(TALK)}"):
            answer = page.get(address)
            assert answer.status_code == 503
            assert "TRANSCRIPTION_STORE" in answer.json()["detail"]
    assert not missing.exists()


def test_store_without_a_table_has_no_search_results(tmp_path: Path) -> None:
    with served.client(served.archive(Store.open(str(tmp_path)))) as page:
        answer = page.get("/api/search?q=anything").json()
        assert (answer["moments"], answer["passages"]) == ([], 0)
        assert page.get("/api/media").json()["recordings"] == []
        assert page.get("/readyz").status_code == 200


def test_damaged_table_is_reported_and_recordings_still_play(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    chain = Chain(store)
    store.put_media(TONE, recordings.tone(tmp_path / "tone.wav", 5.0, rate=8_000))
    chain.run(TONE)
    for manifest in (tmp_path / "store/lancedb").rglob("*.manifest"):
        manifest.write_bytes(b"garbage")
    with served.client(served.archive(store)) as page:
        assert page.get("/api/search?q=a").status_code == 503
        assert page.get("/readyz").text.startswith("not ready: search table")
        assert page.get("/api/media").json()["counts"]["done"] == 1
        assert page.get(f"/media/{served.of(TONE)}").status_code == 200


def test_reasons_are_hidden_from_requests_without_a_token(tmp_path: Path) -> None:
    with served.client(served.archive(tmp_path / "no", serve_token=TOKEN)) as page:
        assert page.get("/readyz").text == "not ready: store\n"


def test_hanging_search_times_out_and_blocks_no_other_request(store: Store) -> None:
    enough = threading.Event()

    class StuckArchive(Archive):
        def search(self, query: Query) -> Answer:
            enough.wait(30)
            return super().search(query)

    prototype = served.archive(store, serve_timeout_s=1)
    stuck = StuckArchive(prototype.settings, prototype.locate)
    stuck.tools.__dict__.update(prototype.tools.__dict__)
    try:
        with served.client(stuck) as page:
            answer = page.get("/api/search?q=a")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "1 s" in answer.json()["detail"]
            assert page.get("/healthz").status_code == 200
            assert page.get("/api/media").status_code == 200
            enough.set()
    finally:
        enough.set()


def test_site_without_an_encoder_model_is_ready_and_degraded(store: Store, tmp_path: Path) -> None:
    served_one = served.archive(store, models_dir=tmp_path)
    del served_one.tools.__dict__["encoder"]
    served_one.encoder_ready.exception(30)
    with served.client(served_one) as page:
        ready = page.get("/readyz")
        assert ready.status_code == 200
        assert "degraded: encoder" in ready.text


def test_search_without_an_encoder_model_matches_words(store: Store, tmp_path: Path) -> None:
    bare = served.archive(store, models_dir=tmp_path)
    del bare.tools.__dict__["encoder"]
    with served.client(bare) as page:
        answer = page.get("/api/search", params={"q": SENTENCE})
        assert answer.status_code == 200
        assert TALK in {moment["key"] for moment in answer.json()["moments"]}
        assert answer.json()["note"]


def test_encoder_keeps_loading_after_a_request_times_out(store: Store) -> None:
    class SlowEncoder(HashEncoder):
        def encode(self, texts: Sequence[str]) -> Vectors:
            loaded.wait(30)
            return super().encode(texts)

    loaded = threading.Event()
    slow = served.archive(store, serve_timeout_s=1)
    slow.tools.__dict__.update(encoder=SlowEncoder())
    try:
        with served.client(slow) as page:
            assert page.get("/api/search?q=a").status_code == 503
            loaded.set()
            slow.encoder_ready.result(30)
            assert page.get("/api/search?q=a").status_code == 200
    finally:
        loaded.set()


def test_failed_encoder_is_loaded_again_after_an_interval(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class ComesBack(HashEncoder):
        def encode(self, texts: Sequence[str]) -> Vectors:
            if away:
                raise away.pop()
            return super().encode(texts)

    away = [TransientFailure("the embedding service is away")]
    archive = served.archive(store)
    archive.tools.__dict__.update(encoder=ComesBack())
    assert "away" in str(archive.encoder_ready.exception(30))
    assert "away" in str(archive.encoder_ready.exception(30)), "no second load for every search"
    monkeypatch.setattr("transcription_assets.web.archive.RETRY_S", 0.0)
    assert archive.encoder_ready.done(), "no wait for the second load"
    tried_again()
    assert archive.encoder_ready.exception(0) is None


def tried_again() -> None:
    """Wait for all threads that load an encoder."""
    for thread in threading.enumerate():
        if thread.name == "encoder":
            thread.join(30)


def test_searches_do_not_wait_for_a_second_load_of_the_encoder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class HangsTheSecondTime(HashEncoder):
        def encode(self, texts: Sequence[str]) -> Vectors:
            if tries:
                enough.wait(30)
            tries.append(1)
            raise TransientFailure(f"the embedding service is away: nothing for {texts}")

    tries: list[int] = []
    enough = threading.Event()
    monkeypatch.setattr("transcription_assets.web.archive.RETRY_S", 0.0)
    archive = served.archive(store, serve_timeout_s=1)
    archive.tools.__dict__.update(encoder=HangsTheSecondTime())
    archive.encoder_ready.exception(30)
    try:
        with served.client(archive) as page:
            for _ in range(3):
                answer = page.get("/api/search", params={"q": SENTENCE})
                assert answer.status_code == 200
                assert TALK in {moment["key"] for moment in answer.json()["moments"]}
        assert len(tries) == 1
    finally:
        enough.set()
        tried_again()


def test_frequent_probes_do_not_access_the_store_each_time(store: Store) -> None:
    looks = []

    class Counted(Archive):
        def check_store(self) -> None:
            looks.append(1)
            super().check_store()

    prototype = served.archive(store)
    counted = Counted(prototype.settings, prototype.locate)
    counted.tools.__dict__.update(prototype.tools.__dict__)
    with served.client(counted) as page:
        for _ in range(50):
            page.get("/readyz")
    assert len(looks) < 25


def test_serving_creates_no_files_or_folders(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "video").mkdir()
    with served.client(served.archive(store)) as page:
        for address in ("/", "/readyz", "/api/search?q=a", "/api/media", "/api/facets", "/media/video/a.mp4"):
            assert page.get(address).status_code in {200, 404}
    assert [path.name for path in store.rglob("*")] == ["video"]


def test_search_matches_words_if_the_encoder_fails(store: Store) -> None:
    class Broken(HashEncoder):
        def encode_query(self, text: str) -> Vectors:
            raise RuntimeError(f"out of memory: {text}")

    archive = served.archive(store)
    archive.tools.__dict__.update(encoder=Broken())
    with served.client(archive) as page:
        answer = page.get("/api/search", params={"q": SENTENCE})
    assert answer.status_code == 200
    assert TALK in {moment["key"] for moment in answer.json()["moments"]}
    assert answer.json()["note"]


def test_search_matches_words_if_the_dimension_differs(store: Store) -> None:
    class Longer(HashEncoder):
        def encode_query(self, text: str) -> Vectors:
            found = super().encode_query(text)
            return np.concatenate([found, found])

    archive = served.archive(store)
    archive.tools.__dict__.update(encoder=Longer())
    with served.client(archive) as page:
        answer = page.get("/api/search", params={"q": SENTENCE})
    assert answer.status_code == 200
    assert answer.json()["note"]
