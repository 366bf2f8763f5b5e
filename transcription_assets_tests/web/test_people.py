"""Names of speakers through the API: who may change them, and what follows."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from transcription_assets.storage import Store
from transcription_assets_tests import served, voices, waiting
from transcription_assets_tests.voices import ADAS, ADAS_ELSEWHERE, all_is_speech

A, B = "/api/media/audio/10.wav", "/api/media/audio/20.wav"
WRITER = {"authorization": "Bearer may write"}


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voices.conversations(tmp_path_factory.mktemp("processed"), {10: ADAS, 20: ADAS_ELSEWHERE})


@pytest.fixture
def conversations(processed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    all_is_speech(monkeypatch)
    return Store.open(str(shutil.copytree(processed, tmp_path, dirs_exist_ok=True)))


@pytest.fixture
def site(conversations: Store) -> Iterator[TestClient]:
    settings = {"serve_write_token": "may write", "passage_s": 5.0, "serve_user_header": "X-User"}
    with served.client(
        served.archive(conversations, **settings, serve_writers="ada, ben"), **{"X-User": "eve"}
    ) as client:
        yield client


def names(site: TestClient, recording: str) -> list[str]:
    return [speaker["name"] for speaker in site.get(f"{recording}/speakers").json()["speakers"]]


def test_speakers_are_listed_with_their_times(site: TestClient) -> None:
    found = site.get(f"{A}/speakers").json()
    assert (found["duration"], found["may_change"], found["sign_in"]) == (10.0, False, True)
    assert [(one["label"], one["name"], one["seconds"], one["spans"]) for one in found["speakers"]] == [
        ("1", "Speaker 1", 5.0, [[0.0, 5.0]]),
        ("2", "Speaker 2", 5.0, [[5.0, 10.0]]),
    ]


def test_a_name_changes_this_recording_and_suggests_others(site: TestClient) -> None:
    changed = site.put(f"{A}/speakers/1", json={"name": "Ada"}, headers=WRITER)
    assert (changed.status_code, changed.json()["updating"]) == (200, 1)
    assert changed.json()["speakers"][0]["state"] == "confirmed"
    assert {paragraph["speaker"] for paragraph in site.get(f"{A}/words").json()["paragraphs"]} == {"Ada", "Speaker 2"}
    waiting.until("names", lambda: "Ada?" in names(site, B), lambda: None)

    def found(speaker: str) -> set[str]:
        moments = site.get("/api/search", params={"q": "Sentence", "speaker": speaker}).json()["moments"]
        return {moment["speaker"] for moment in moments}

    waiting.until("rows", lambda: found("Ada") == {"Ada", "Ada?"}, lambda: None)
    assert found("Ada?") == {"Ada?"}
    waiting.until("names", lambda: site.get("/api/facets").json()["speakers"].keys() >= {"Ada", "Ada?"}, lambda: None)


def test_suggestions_are_confirmed_rejected_and_removed(site: TestClient) -> None:
    site.put(f"{A}/speakers/1", json={"name": "Ada"}, headers=WRITER)
    waiting.until("names", lambda: "Ada?" in names(site, B), lambda: None)
    suggested = site.get(f"{B}/speakers").json()["speakers"][0]
    assert site.put(f"{B}/speakers/1", json={"person": suggested["person"]}, headers=WRITER).status_code == 200
    assert names(site, B)[0] == "Ada"
    assert site.post(f"{B}/speakers/1/reject", headers=WRITER).status_code == 200
    assert names(site, B)[0] == "Speaker 1"
    assert site.post(f"{B}/speakers/1/reject", headers=WRITER).status_code == 422
    assert site.delete(f"{A}/speakers/1", headers=WRITER).status_code == 200
    assert names(site, A)[0] == "Speaker 1"


def test_people_are_renamed_merged_and_forgotten(site: TestClient) -> None:
    for label, name in (("1", "Ada"), ("2", "Ben")):
        site.put(f"{A}/speakers/{label}", json={"name": name}, headers=WRITER)
    ada, ben = site.get("/api/people").json()
    assert (ada["name"], ben["name"]) == ("Ada", "Ben")
    assert site.patch(f"/api/people/{ada['id']}", json={"name": "A. L."}, headers=WRITER).status_code == 200
    waiting.until("names", lambda: names(site, A)[0] == "A. L.", lambda: None)
    merged = site.post(f"/api/people/{ben['id']}/merge", json={"into": ada["id"]}, headers=WRITER)
    assert merged.status_code == 200
    waiting.until("names", lambda: names(site, A) == ["A. L.", "A. L."], lambda: None)
    assert site.delete(f"/api/people/{ada['id']}", headers=WRITER).status_code == 200
    assert names(site, A) == ["Speaker 1", "Speaker 2"]
    assert site.get("/api/people").json() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": ""}, 422),
        ({"name": "Ada?"}, 422),
        ({"name": "x" * 101}, 422),
        ({"name": "Ada", "role": "admin"}, 422),
        ({}, 422),
        ({"name": "<script>alert(1)</script>"}, 200),
    ],
)
def test_only_names_that_can_be_shown_are_taken(site: TestClient, body: dict[str, Any], status: int) -> None:
    assert site.put(f"{A}/speakers/1", json=body, headers=WRITER).status_code == status


def test_unknown_recordings_labels_and_people_are_refused(site: TestClient) -> None:
    ask: Callable[[str], int] = lambda path: site.put(path, json={"name": "Ada"}, headers=WRITER).status_code  # noqa: E731
    assert ask("/api/media/audio/none.wav/speakers/1") == 404
    assert ask(f"{A}/speakers/9") == 422
    assert ask(f"{A}/speakers/1?version=before") == 422
    assert ask(f"{A}/speakers/%2E%2E%20") in {404, 405, 422}
    unknown = site.put(f"{A}/speakers/1", json={"person": "0123456789ab"}, headers=WRITER)
    assert unknown.status_code == 404
    assert site.post(f"{A}/speakers/1/reject?person=0123456789ab", headers=WRITER).status_code == 422
    assert site.delete("/api/people/none", headers=WRITER).status_code == 404


def test_changes_need_write_access_from_this_site(site: TestClient) -> None:
    def put(**headers: str) -> int:
        return site.put(f"{A}/speakers/1", json={"name": "Ada"}, headers={**headers}).status_code

    assert put() == 403
    assert put(authorization="Bearer wrong") == 403
    assert put(**WRITER, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert put(**WRITER, Origin="https://search.example.com", **{"Sec-Fetch-Site": "same-origin"}) == 200
    assert put(**WRITER, Origin="https://evil.example") == 403
    assert put(**{"X-User": "ada"}, Origin="http://127.0.0.1") == 200
    assert put(**WRITER, Origin="http://127.0.0.1", **{"Sec-Fetch-Site": "same-origin"}) == 200


def test_the_write_token_signs_in_and_reads(conversations: Store) -> None:
    rules = {"serve_token": "may read", "serve_write_token": "may write", "passage_s": 5.0}
    with served.client(served.archive(conversations, **rules)) as client:
        assert client.get(f"{A}/speakers").status_code == 401
        assert client.get(f"{A}/speakers", headers={"authorization": "Bearer may read"}).json()["sign_in"]
        assert client.post("/sign-in", data={"token": "may write"}).status_code == 303
        assert client.get(f"{A}/speakers").json()["may_change"]
        assert client.put(f"{A}/speakers/1", json={"name": "Ada"}).status_code == 200


def test_a_recording_without_speakers_has_an_empty_list(store: Store) -> None:
    with served.client(served.archive(store)) as client:
        found = client.get(f"/api/media/{served.of(served.TALK)}/speakers").json()
        assert (found["speakers"], found["may_change"], found["sign_in"]) == ([], False, False)


def test_guesses_of_the_write_token_are_limited(conversations: Store) -> None:
    rules = {"serve_write_token": "may write", "serve_searches_per_minute": 5}
    with served.client(served.archive(conversations, **rules)) as client:
        wrong = {"authorization": "Bearer wrong"}
        assert [client.get("/api/media", headers=wrong).status_code for _ in range(7)] == [200] * 5 + [429] * 2
        assert client.put(f"{A}/speakers/1", json={"name": "Ada"}, headers=WRITER).status_code == 429
        assert client.get("/api/media").status_code == 200
