"""The library and recording routes: processing states, reasons of failures, and links."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from transcription_assets.cli.process import Report, process
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.search.index import Index
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.served import HOSTILE, SENTENCE, TALK


def test_library_lists_states_failed_steps_and_reasons(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    chain = Chain(store)
    for seconds in (5, 10, 15):
        store.put_media(f"audio/{seconds}.wav", recordings.tone(tmp_path / f"{seconds}.wav", seconds, rate=8_000))
    store.put_media("video/mute.mp4", recordings.video_without_audio(tmp_path / "mute.mp4", 1.0))
    chain.engine.failures[10] = [PermanentFailure("audio/10.wav: the model has a hiccup")]
    chain.attempt("audio/5.wav", "audio/10.wav", "video/mute.mp4")
    with served.client(served.archive(store)) as page:
        answer = page.get("/api/media").json()
        found = {item["key"]: item for item in answer["recordings"]}
        failed = page.get("/api/media", params={"state": "failed", "name": "MUTE"}).json()
    assert answer["counts"] == {"done": 1, "failed": 2, "working": 0, "waiting": 1}
    assert {key: item["state"] for key, item in found.items()} == {
        "audio/5.wav": "done",
        "audio/10.wav": "failed",
        "audio/15.wav": "waiting",
        "video/mute.mp4": "failed",
    }
    assert "hiccup" in found["audio/10.wav"]["reason"]
    assert (found["audio/10.wav"]["step"], found["video/mute.mp4"]["step"]) == ("transcript", "video")
    assert "no audio stream" in found["video/mute.mp4"]["reason"]
    assert [item["key"] for item in failed["recordings"]] == ["video/mute.mp4"]
    assert failed["total"] == 1


def test_recording_that_succeeds_on_retry_is_done(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    chain = Chain(store)
    store.put_media("audio/10.wav", recordings.tone(tmp_path / "10.wav", 10.0, rate=8_000))
    chain.engine.failures[10] = [PermanentFailure("only once")]
    chain.attempt("audio/10.wav")
    assert store.exists(media_keys.failure("audio/10.wav"))
    chain.run("audio/10.wav")
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert (item["state"], item["reason"]) == ("done", "")


def test_new_version_of_a_failed_recording_is_waiting(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.put_media("video/a.mp4", recordings.video_without_audio(tmp_path / "mute.mp4", 1.0))
    Chain(store).attempt("video/a.mp4")
    store.put_media("video/a.mp4", recordings.video(tmp_path / "film.mp4", 5.0))
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert (item["state"], item["reason"]) == ("waiting", "")


def test_recording_is_failed_until_its_rows_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_rows: object) -> int:
        raise TransientFailure("lancedb: no space left")

    store = Store.open(str(tmp_path / "store"))
    chain = Chain(store)
    store.put_media("audio/10.wav", recordings.tone(tmp_path / "10.wav", 10.0, rate=8_000))
    with monkeypatch.context() as patched:
        patched.setattr(Index, "replace", full)
        chain.attempt("audio/10.wav")
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert (item["state"], item["step"], item["transient"]) == ("failed", "embeddings", True)
    assert "no space left" in item["reason"]
    chain.run("audio/10.wav")
    assert not store.exists(media_keys.failure("audio/10.wav"))
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert item["state"] == "done"


def test_batch_is_in_progress_until_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """During publication passages and vectors of all recordings are stored, but the table has no rows."""
    store = Store.open(str(tmp_path / "store"))
    monkeypatch.setattr("transcription_assets.web.library.FRESH_S", 0.0)
    monkeypatch.setattr("transcription_assets.web.cache.SHARE", float("inf"))
    chain = Chain(store)
    for seconds in (5, 10):
        store.put_media(f"audio/{seconds}.wav", recordings.tone(tmp_path / f"{seconds}.wav", seconds, rate=8_000))
    store.put_media("audio/silent.wav", recordings.tone(tmp_path / "silent.wav", 7.0, rate=8_000))
    chain.engine.script = {**chain.engine.script, 7: []}
    publish, seen = Index.replace, []

    def watched(table: Index, rows: Any, names: Sequence[str]) -> None:
        with served.client(served.archive(store)) as page:
            seen.append(page.get("/api/media").json()["recordings"])
        publish(table, rows, names)

    with monkeypatch.context() as patched:
        patched.setattr(Index, "replace", watched)
        chain.run("audio/5.wav", "audio/10.wav", "audio/silent.wav")
    during = {item["key"]: (item["state"], item["step"], item["silence"]) for item in seen[0]}
    assert during["audio/5.wav"] == during["audio/10.wav"] == ("working", "embeddings", "")
    with served.client(served.archive(store)) as page:
        after = {item["key"]: (item["state"], item["silence"]) for item in page.get("/api/media").json()["recordings"]}
        words = page.get("/api/media/audio/silent.wav/words").json()
    assert after == {
        "audio/5.wav": ("done", ""),
        "audio/10.wav": ("done", ""),
        "audio/silent.wav": ("done", "no_speech"),
    }
    assert words["silence"] == "no_speech"


def test_new_version_of_a_finished_recording_is_waiting(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.put_media("audio/a.wav", recordings.tone(tmp_path / "5.wav", 5.0, rate=8_000))
    Chain(store).run("audio/a.wav")
    store.put_media("audio/a.wav", recordings.tone(tmp_path / "10.wav", 10.0, rate=8_000))
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert (item["state"], item["step"]) == ("waiting", "video")


def test_missing_model_is_shown_as_failure_of_each_recording(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.put_media("audio/10.wav", recordings.tone(tmp_path / "10.wav", 10.0, rate=8_000))
    tools = Chain(store).tools
    del tools.__dict__["encoder"]
    report = Report()
    list(process(tools, ["audio/10.wav"], lambda _step: None, report))
    assert list(report.failed) == ["audio/10.wav"]
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert (item["state"], item["step"]) == ("failed", "embeddings")
    assert "encoder" in item["reason"]


def test_all_links_of_a_recording_resolve(page: TestClient) -> None:
    answer = page.get(f"/api/media/{served.of(HOSTILE)}").json()
    assert answer["key"] == media_keys.encode(HOSTILE)
    links = answer["links"]
    for link in (links["media"], links["sound"], links["poster"], links["words"], *links["transcripts"].values()):
        found = page.get(link)
        assert found.status_code == 200, link
        assert found.headers["x-content-type-options"] == "nosniff"


def test_transcripts_have_the_content_type_of_their_format(page: TestClient) -> None:
    def got(kind: str) -> tuple[str, str]:
        answer = page.get(f"/api/media/{served.of(TALK)}/transcript.{kind}")
        return answer.headers["content-type"].partition(";")[0], answer.text

    assert got("vtt")[0] == "text/vtt"
    assert got("vtt")[1].startswith("WEBVTT")
    assert got("srt")[0] == "application/x-subrip"
    assert got("txt") == ("text/plain", f"Sentence 0 of 10 seconds.\n{SENTENCE}\n")
    kind, text = got("json")
    assert (kind, json.loads(text)["media"]["key"]) == ("application/json", TALK)
    assert page.get(f"/api/media/{served.of(TALK)}/transcript.exe").status_code in {404, 422}


def test_words_route_returns_all_words_in_order(page: TestClient) -> None:
    answer = page.get(f"/api/media/{served.of(TALK)}/words").json()
    words = [word for paragraph in answer["paragraphs"] for word in paragraph["words"]]
    assert "".join(text for _, _, text in words).split() == f"Sentence 0 of 10 seconds. {SENTENCE}".split()
    assert [start for start, _, _ in words] == sorted(start for start, _, _ in words)
