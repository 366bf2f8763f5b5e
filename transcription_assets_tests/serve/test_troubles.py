"""A site over an archive with which something is wrong."""

import threading
from pathlib import Path

from transcription_assets.app.serve.archive import Archive
from transcription_assets.query import Answer, Query
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.served import TALK, TONE

TOKEN = "a token that nobody guesses"


def test_a_missing_store_is_a_helpful_page_and_is_not_made(tmp_path: Path) -> None:
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


def test_a_store_without_a_table_answers_that_nothing_can_be_found_yet(tmp_path: Path) -> None:
    with served.client(served.archive(Store.open(str(tmp_path)))) as page:
        answer = page.get("/api/search?q=anything").json()
        assert (answer["moments"], answer["passages"]) == ([], 0)
        assert page.get("/api/media").json()["recordings"] == []
        assert page.get("/readyz").status_code == 200


def test_a_damaged_table_is_named_and_recordings_can_still_be_played(tmp_path: Path) -> None:
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


def test_reasons_are_not_told_to_who_has_no_token(tmp_path: Path) -> None:
    with served.client(served.archive(tmp_path / "no", serve_token=TOKEN)) as page:
        assert page.get("/readyz").text == "not ready: store\n"


def test_a_search_that_hangs_is_given_up_and_holds_up_nobody_else(store: Store) -> None:
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


def test_without_its_model_the_page_says_how_to_get_it(store: Store, tmp_path: Path) -> None:
    served_one = served.archive(store, models_dir=tmp_path)
    del served_one.tools.__dict__["encoder"]
    with served.client(served_one) as page:
        ready = page.get("/readyz")
        assert ready.status_code == 503
        assert "encoder" in ready.text
