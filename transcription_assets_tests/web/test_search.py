"""The search API: results and refused requests."""

import pytest
from fastapi.testclient import TestClient

from transcription_assets_tests import served
from transcription_assets_tests.served import SENTENCE, TALK, TONE


def test_result_has_a_playback_url_and_highlights(page: TestClient) -> None:
    answer = page.get("/api/search", params={"q": SENTENCE, "prefix": "video/talks/"})
    assert answer.status_code == 200
    best = answer.json()["moments"][0]
    assert (best["key"], best["title"], best["folder"]) == (TALK, "A talk", "talks")
    assert best["start"] == pytest.approx(5.0, abs=0.3)
    assert best["url"] == f"/watch/{served.of(TALK)}?t={best['start']:.2f}"
    assert "".join(part["text"] for part in best["parts"]) == best["text"]
    assert "".join(part["text"] for part in best["parts"] if part["sentence"]) == SENTENCE


def test_result_at_zero_seconds_has_a_time_in_its_url(page: TestClient) -> None:
    best = page.get("/api/search", params={"q": '"Sentence 0 of 10"', "prefix": "video/talks/"}).json()["moments"][0]
    assert (best["start"], best["url"]) == (0.0, f"/watch/{served.of(TALK)}?t=0.00")


def test_only_recordings_with_a_poster_have_a_poster_url(page: TestClient) -> None:
    moments = page.get("/api/search", params={"q": "Sentence of seconds"}).json()["moments"]
    posters = {moment["key"]: moment["poster"] for moment in moments}
    assert posters[TONE] == ""
    assert page.get(posters[TALK]).headers["content-type"] == "image/jpeg"
    assert page.get(f"/api/media/{served.of(TONE)}").json()["links"]["poster"] == ""


def test_result_pages_continue_where_the_previous_one_ended(page: TestClient) -> None:
    whole = page.get("/api/search", params={"q": "Sentence of seconds"}).json()["moments"]
    parts = [
        page.get("/api/search", params={"q": "Sentence of seconds", "limit": 1, "offset": n}).json()
        for n in range(len(whole))
    ]
    assert [part["moments"][0]["url"] for part in parts] == [moment["url"] for moment in whole]
    assert [part["more"] for part in parts] == [True] * (len(whole) - 1) + [False]


@pytest.mark.parametrize(
    "question",
    [
        "",
        "   ",
        "🎈🐝 👩‍👩‍👧",
        '"',
        '"unclosed phrase',
        "'; DROP TABLE passages; --",
        "' OR 1=1 --",
        "the of and is",
        "السلام عليكم",
        "nul\0byte",
        "\u202eright to left\u202c",
        "(((((",
        "a AND OR NOT b*~^:/\\",
        "word " * 200,
        "é" * 1000,
    ],
)
def test_unusual_queries_are_answered(page: TestClient, question: str) -> None:
    answer = page.get("/api/search", params={"q": question})
    assert answer.status_code == 200, answer.text
    assert answer.json()["query"] == question


@pytest.mark.parametrize("name", ["prefix", "language", "speaker"])
@pytest.mark.parametrize(
    "value", ["' OR '1'='1", "%", "video/%' OR media_key LIKE '%", "_", "en') OR (1=1", "\0", "\\", "\\') OR (1=1)) --"]
)
def test_filter_values_are_not_interpreted_as_expressions(page: TestClient, name: str, value: str) -> None:
    answer = page.get("/api/search", params={"q": "Sentence", name: value})
    assert answer.status_code == 200, answer.text
    assert answer.json()["moments"] == []


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"q": "a" * 1001},
        {"q": "a", "limit": "0"},
        {"q": "a", "limit": "101"},
        {"q": "a", "offset": "1001"},
        {"q": "a", "offset": "-1"},
        {"q": "a", "since": "yesterday"},
        {"q": "a", "until": "0"},
        {"q": "a", "longest": "nan"},
        {"q": "a", "shortest": "-1"},
        {"q": "a", "prefix": "a" * 2000},
        {"q": "a", "language": ["en"] * 21},
    ],
)
def test_invalid_parameters_are_refused_with_a_reason(page: TestClient, asked: dict[str, str]) -> None:
    answer = page.get("/api/search", params=asked)
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) > 10


def test_similar_moments_have_the_shape_of_results(page: TestClient) -> None:
    answer = page.get("/api/similar", params={"key": TALK, "at": 5.0})
    assert answer.status_code == 200
    found = answer.json()
    assert found["query"] == ""
    assert all(moment["url"].startswith("/watch/") for moment in found["moments"])
    assert page.get("/api/similar", params={"key": "video/none.mp4", "at": 0}).json()["moments"] == []


@pytest.mark.parametrize(
    "wrong", [{"at": -1}, {"at": "nan"}, {"key": ""}, {"key": "k" * 2000}, {"limit": 0}, {"moment_kind": "film"}]
)
def test_similar_moments_of_an_invalid_moment_are_refused(page: TestClient, wrong: dict[str, object]) -> None:
    assert page.get("/api/similar", params={"key": TALK, "at": 0, **wrong}).status_code == 422


def test_search_in_one_recording_finds_no_other(page: TestClient) -> None:
    moments = page.get("/api/search", params={"q": "Sentence of seconds", "recording": TALK}).json()["moments"]
    assert {moment["key"] for moment in moments} == {TALK}
