"""The API and the page as programs and attackers meet them; a browser opens them in test_page.py."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import urlopen

import pytest
from fastapi.testclient import TestClient

from transcription_assets import keys
from transcription_assets.app.serve.archive import Archive
from transcription_assets.app.serve.guard import content_policy
from transcription_assets.failures import PermanentFailure
from transcription_assets.query import Answer, Query
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, seaweed, served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.served import HOSTILE, SENTENCE, TALK, TONE

TOKEN = "a token that nobody guesses"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    place = Store.open(str(folder / "store"))
    served.fill(place, folder)
    (folder / "secret.mp4").write_bytes(b"secret")
    place.write("catalog/secret.mp4", b"secret")
    return place


@pytest.fixture(scope="module")
def archive(store: Store) -> Archive:
    return served.archive(store)


@pytest.fixture(scope="module")
def page(archive: Archive) -> Iterator[TestClient]:
    with served.client(archive) as client:
        yield client


def of(name: str) -> str:
    """The address of a recording."""
    return quote(keys.encode(name))


# Search


def test_a_moment_says_where_to_play_it_and_what_to_highlight(page: TestClient) -> None:
    answer = page.get("/api/search", params={"q": SENTENCE, "prefix": "video/talks/"})
    assert answer.status_code == 200
    best = answer.json()["moments"][0]
    assert (best["key"], best["title"], best["folder"]) == (TALK, "A talk", "talks")
    assert best["start"] == pytest.approx(5.0, abs=0.3)
    assert best["url"] == f"/watch/{of(TALK)}?t={best['start']:.2f}"
    assert "".join(part["text"] for part in best["parts"]) == best["text"]
    assert "".join(part["text"] for part in best["parts"] if part["sentence"]) == SENTENCE


def test_a_page_of_moments_goes_on_where_the_last_one_ended(page: TestClient) -> None:
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
def test_an_odd_question_is_answered_cleanly(page: TestClient, question: str) -> None:
    answer = page.get("/api/search", params={"q": question})
    assert answer.status_code == 200, answer.text
    assert answer.json()["query"] == question


@pytest.mark.parametrize("name", ["prefix", "language", "speaker"])
@pytest.mark.parametrize(
    "value", ["' OR '1'='1", "%", "video/%' OR media_key LIKE '%", "_", "en') OR (1=1", "\0", "\\"]
)
def test_a_filter_never_becomes_an_expression(page: TestClient, name: str, value: str) -> None:
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
        {"q": "a", "longest": "nan"},
        {"q": "a", "shortest": "-1"},
        {"q": "a", "prefix": "a" * 2000},
        {"q": "a", "language": ["en"] * 21},
    ],
)
def test_a_question_out_of_bounds_is_refused_with_its_reason(page: TestClient, asked: dict[str, str]) -> None:
    answer = page.get("/api/search", params=asked)
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) > 10


# The library


def test_the_library_tells_what_is_done_what_is_not_and_why(tmp_path: Path) -> None:
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


def test_what_succeeded_after_it_failed_is_not_called_failed(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    chain = Chain(store)
    store.put_media("audio/10.wav", recordings.tone(tmp_path / "10.wav", 10.0, rate=8_000))
    chain.engine.failures[10] = [PermanentFailure("only once")]
    chain.attempt("audio/10.wav")
    assert store.exists(keys.failure("audio/10.wav"))
    chain.run("audio/10.wav")
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert (item["state"], item["reason"]) == ("done", "")


def test_a_new_version_of_a_recording_is_not_blamed_for_the_old_one(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.put_media("video/a.mp4", recordings.video_without_audio(tmp_path / "mute.mp4", 1.0))
    Chain(store).attempt("video/a.mp4")
    store.put_media("video/a.mp4", recordings.video(tmp_path / "film.mp4", 5.0))
    with served.client(served.archive(store)) as page:
        (item,) = page.get("/api/media").json()["recordings"]
    assert (item["state"], item["reason"]) == ("waiting", "")


# One recording


def test_a_recording_tells_where_to_get_what_of_it_and_all_of_that_is_there(page: TestClient) -> None:
    answer = page.get(f"/api/media/{of(HOSTILE)}").json()
    assert answer["key"] == keys.encode(HOSTILE)
    links = answer["links"]
    for link in (links["media"], links["sound"], links["poster"], links["words"], *links["transcripts"].values()):
        found = page.get(link)
        assert found.status_code == 200, link
        assert found.headers["x-content-type-options"] == "nosniff"


def test_transcripts_come_in_every_format_by_its_own_type(page: TestClient) -> None:
    def got(kind: str) -> tuple[str, str]:
        answer = page.get(f"/api/media/{of(TALK)}/transcript.{kind}")
        return answer.headers["content-type"].partition(";")[0], answer.text

    assert got("vtt")[0] == "text/vtt"
    assert got("vtt")[1].startswith("WEBVTT")
    assert got("srt")[0] == "application/x-subrip"
    assert got("txt") == ("text/plain", f"Sentence 0 of 10 seconds.\n{SENTENCE}\n")
    kind, text = got("json")
    assert (kind, json.loads(text)["media"]["key"]) == ("application/json", TALK)
    assert page.get(f"/api/media/{of(TALK)}/transcript.exe").status_code in {404, 422}


def test_the_words_beside_the_player_are_all_words_in_their_order(page: TestClient) -> None:
    answer = page.get(f"/api/media/{of(TALK)}/words").json()
    words = [word for paragraph in answer["paragraphs"] for word in paragraph["words"]]
    assert "".join(text for _, _, text in words).split() == f"Sentence 0 of 10 seconds. {SENTENCE}".split()
    assert [start for start, _, _ in words] == sorted(start for start, _, _ in words)


# Ranges


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-50", -50, None), ("bytes=5-5", 5, 6)],
)
def test_a_player_gets_the_range_that_it_asks_for(
    page: TestClient, folder: Path, asked: str, first: int, last: int | None
) -> None:
    data = (folder / "film.mp4").read_bytes()
    answer = page.get(f"/media/{of(TALK)}", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content == data[first:last]
    assert answer.headers["content-range"].endswith(f"/{len(data)}")


def test_a_range_beyond_the_end_is_refused_and_no_range_is_everything(page: TestClient, folder: Path) -> None:
    size = (folder / "film.mp4").stat().st_size
    assert page.get(f"/media/{of(TALK)}", headers={"range": f"bytes={size}-"}).status_code == 416
    assert len(page.get(f"/media/{of(TALK)}").content) == size
    head = page.head(f"/media/{of(TALK)}")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")


# What must not be possible

ESCAPES = [
    "video/../catalog/secret.mp4",
    "video/..%2fcatalog%2fsecret.mp4",
    "video/%252e%252e/secret.mp4",
    "video/%2e%2e/%2e%2e/secret.mp4",
    "video/....//secret.mp4",
    "catalog/secret.mp4",
    "catalog%2Fsecret.mp4",
    "../secret.mp4",
    "/secret.mp4",
    "%2Fsecret.mp4",
    "video//../../secret.mp4",
    "video/%00/../../secret.mp4",
    "video/a%00.mp4",
    "transcripts/" + quote(TALK) + ".json",
    "lancedb/passages.lance/x.mp4",
    "video/talks",
    "video/talks/",
    "video/" + "a" * 300 + ".mp4",
    "DONE_video/talks/a%20talk.mp4",
    "file:/etc/passwd.mp4",
]


@pytest.mark.parametrize("key", ESCAPES)
@pytest.mark.parametrize("route", ["/media/{}", "/sound/{}", "/posters/{}", "/api/media/{}", "/api/media/{}/words"])
def test_no_address_leads_out_of_the_inboxes(page: TestClient, route: str, key: str) -> None:
    answer = page.get(route.format(key))
    assert answer.status_code in {404, 405, 422}, answer.text[:200]
    assert b"secret" not in answer.content.replace(b"secret.mp4", b"")


def test_nothing_can_be_changed(page: TestClient) -> None:
    addresses = ["/", "/library", "/api/search?q=a", "/api/media", f"/api/media/{of(TALK)}", f"/media/{of(TALK)}"]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert {page.request(method, address).status_code for address in addresses} == {405}


@pytest.mark.parametrize(
    "address", ["/", "/library", f"/watch/{of(HOSTILE)}", "/api/media", "/static/page.js", "/nowhere"]
)
def test_every_answer_forbids_what_it_does_not_need(page: TestClient, address: str) -> None:
    headers = page.get(address).headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers


def test_a_name_that_is_markup_stays_a_name(page: TestClient) -> None:
    answer = page.get(f"/watch/{of(HOSTILE)}")
    assert answer.status_code == 200
    assert "<img src=x" not in answer.text
    assert "&lt;img src=x" in answer.text


def test_what_claims_to_be_a_page_is_never_opened_as_one(page: TestClient, store: Store) -> None:
    store.put_media("video/evil.ts", Path(__file__))
    answer = page.get("/media/video/evil.ts")
    assert answer.headers["content-type"] == "video/mp2t"
    assert "sandbox" in answer.headers["content-security-policy"]
    (Path(store.url) / "video/evil.ts").unlink()


def test_the_page_names_no_other_host_and_is_small() -> None:
    static = Path(str(served.site.__file__)).parent / "static"
    assert sum(path.stat().st_size for path in static.iterdir()) < 100_000
    for path in static.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|\bon\w+=\"|<style|innerHTML|style=", text), path.name


def test_the_schema_names_every_route_that_programs_use(page: TestClient) -> None:
    described = page.get("/api/openapi.json").json()["paths"]
    assert {
        "/api/search",
        "/api/facets",
        "/api/media",
        "/api/media/{key}",
        "/api/media/{key}/words",
        "/api/media/{key}/transcript.{kind}",
        "/media/{key}",
        "/sound/{key}",
        "/posters/{key}",
    } == set(described)


# Who may read


def test_without_the_token_nothing_is_read(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        for address in (
            "/api/search?q=a",
            "/api/media",
            f"/media/{of(TALK)}",
            f"/posters/{of(TALK)}",
            "/api/openapi.json",
        ):
            assert page.get(address).status_code == 401
            assert page.get(address, headers={"authorization": "Bearer wrong"}).status_code == 401
            assert page.get(address, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert page.get("/healthz").status_code == 200
        assert page.get("/static/page.css").status_code == 200


def test_a_browser_is_asked_for_the_token_and_goes_on_where_it_wanted(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN), accept="text/html") as page:
        sent = page.get("/?q=a%20b")
        assert sent.headers["location"] == "/sign-in?next=%2F%3Fq%3Da%2520b"
        assert "That is not" in page.post("/sign-in", data={"token": "wrong", "next": "/"}).text
        assert page.get("/").status_code == 303
        opened = page.post("/sign-in", data={"token": TOKEN, "next": "/?q=a%20b"})
        assert (opened.status_code, opened.headers["location"]) == (303, "/?q=a%20b")
        cookie = opened.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
        assert page.get("/?q=a").status_code == 200


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_signing_in_never_leads_to_another_site(store: Store, elsewhere: str) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        assert page.post("/sign-in", data={"token": TOKEN, "next": elsewhere}).headers["location"] == "/"


def test_a_form_that_is_no_form_is_not_the_token(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        for body in (b"", b"\xff\xfe", b"token=" + b"a" * 100_000, b"&" * 4000):
            assert page.post("/sign-in", content=body).status_code == 401


def test_who_comes_past_the_proxy_is_refused(store: Store) -> None:
    with served.client(served.archive(store, serve_user_header="X-Forwarded-Email")) as page:
        assert page.get("/api/media").status_code == 401
        assert page.get("/", headers={"accept": "text/html"}).status_code == 401
        assert page.get("/api/media", headers={"x-forwarded-email": "ruth@example.org"}).status_code == 200


def test_a_foreign_name_that_points_to_localhost_reads_nothing(archive: Archive) -> None:
    with served.client(archive) as page:
        assert page.get("/api/media", headers={"host": "evil.example:8000"}).status_code == 400
        for name in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert page.get("/api/media", headers={"host": name}).status_code == 200
    with served.client(archive, host="0.0.0.0") as page:  # noqa: S104 -- nothing is bound
        assert page.get("/api/media", headers={"host": "archive.example"}).status_code == 200


def test_who_asks_too_often_waits_and_the_others_do_not(store: Store) -> None:
    limited = served.archive(store, serve_searches_per_minute=3, serve_user_header="x-user")
    with served.client(limited) as page:
        asked = [page.get("/api/search?q=a", headers={"x-user": "eager"}) for _ in range(4)]
        assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
        assert 0 < int(asked[3].headers["retry-after"]) <= 20
        assert page.get("/api/search?q=a", headers={"x-user": "calm"}).status_code == 200
        assert page.get("/healthz").status_code == 200


# What can be wrong with the archive


def test_a_missing_store_is_a_helpful_page_and_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "not there"
    with served.client(served.archive(missing)) as page:
        assert page.get("/").status_code == 200
        assert page.get("/healthz").status_code == 200
        ready = page.get("/readyz")
        assert (ready.status_code, ready.text.splitlines()[0].partition(":")[0]) == (503, "not ready")
        assert "store" in ready.text
        for address in ("/api/search?q=a", "/api/media", f"/api/media/{of(TALK)}"):
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
        assert page.get(f"/media/{of(TONE)}").status_code == 200


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


# A bucket


@pytest.fixture(scope="module")
def bucket(s3_server: seaweed.S3Server, folder: Path) -> Store:
    store = Store.open(f"s3://{s3_server.bucket}/served", s3_session=seaweed.session(), s3_endpoint=s3_server.endpoint)
    served.fill(store, folder)
    return store


def test_a_recording_in_a_bucket_is_played_by_a_link_that_is_good_for_an_hour_at_most(
    bucket: Store, s3_server: seaweed.S3Server, folder: Path
) -> None:
    with served.client(served.archive(bucket)) as page:
        moments = page.get("/api/search", params={"q": SENTENCE}).json()["moments"]
        assert TALK in {moment["key"] for moment in moments}
        for address in (f"/media/{of(TALK)}", f"/sound/{of(TALK)}"):
            answer = page.get(address)
            assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
            link = answer.headers["location"]
            assert 0 < int(parse_qs(urlsplit(link).query)["X-Amz-Expires"][0]) <= 3600
        with urlopen(page.get(f"/media/{of(TALK)}").headers["location"], timeout=30) as film:  # noqa: S310 -- the S3 server's
            assert film.read() == (folder / "film.mp4").read_bytes()
        policy = page.get("/").headers["content-security-policy"]
        assert policy == content_policy(s3_server.endpoint)
        assert page.get(f"/posters/{of(TALK)}").content.startswith(b"\xff\xd8")
        assert page.get("/media/video/not-there.mp4").status_code == 404
