"""Slides in the API: hits with their slide, the list of a recording, thumbnails."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.slides import pictures
from transcription_assets_tests.slides.pictures import ScriptedReader

KEY = "video/talks/slides.mp4"
TEXTS = {1: ["Zebra crossing"], 2: ["<script>alert(1)</script>", "Walrus"]}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A processed store with a talk of two slides, 10 s each, and secrets beside it."""
    folder = tmp_path_factory.mktemp("slides")
    store = Store.open(str(folder / "store"))
    talk = pictures.talk(folder / "a.mp4", [(pictures.slide(number, *TEXTS[number]), 10.0) for number in TEXTS])
    store.put_media(KEY, talk)
    store.write("slides/secret.webp", b"secret")
    Chain(store, reader=ScriptedReader(dict(TEXTS))).run(KEY)
    return store


@pytest.fixture
def page(shown: Store) -> Iterator[TestClient]:
    with served.client(served.archive(shown, slides=True)) as client:
        yield client


def picture(number: object) -> str:
    return f"/slides/{quote(KEY)}/{number}.webp"


def test_a_hit_has_the_slide_and_its_picture(page: TestClient) -> None:
    (moment,) = page.get("/api/search", params={"q": '"zebra crossing"'}).json()["moments"]
    assert (moment["kind"], moment["start"]) == ("slide", 0.0)
    assert (moment["slide"]["number"], moment["slide"]["picture"]) == (1, picture(1))


def test_results_are_restricted_to_a_kind(page: TestClient) -> None:
    for kind in ("speech", "slide"):
        answer = page.get("/api/search", params={"q": "walrus sentence", "kind": kind}).json()
        assert {moment["kind"] for moment in answer["moments"]} == {kind}
    assert page.get("/api/search", params={"q": "a", "kind": "film"}).status_code == 422
    assert page.get("/api/facets").json()["kinds"] == {"speech": 1, "slide": 1}


def test_slides_of_a_recording_are_listed(page: TestClient) -> None:
    link = page.get(f"/api/media/{KEY}").json()["links"]["slides"]
    found = page.get(link).json()
    assert [slide["text"] for slide in found["slides"]] == ["Zebra crossing", "<script>alert(1)</script>\nWalrus"]
    assert found["slides"][1]["start"] == pytest.approx(10.0, abs=0.3)


def test_thumbnails_are_passive_pictures(page: TestClient) -> None:
    answer = page.get(picture(1))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.content[8:12] == b"WEBP"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("number", [3, 0, -1, "x", "1%2F..%2F..%2Fsecret", 99_999])
def test_other_files_are_not_served(page: TestClient, number: object) -> None:
    answer = page.get(picture(number))
    assert answer.status_code in {404, 422}
    assert b"secret" not in answer.content


def test_thumbnails_need_the_token(shown: Store) -> None:
    with served.client(served.archive(shown, slides=True, serve_token="a" * 20)) as client:
        assert client.get(picture(1)).status_code in {303, 401}
        assert client.get(f"/api/media/{KEY}/slides").status_code == 401


def test_slides_have_no_link_unless_they_are_read(shown: Store) -> None:
    with served.client(served.archive(shown)) as client:
        assert client.get(f"/api/media/{KEY}").json()["links"]["slides"] == ""


def test_a_recording_without_slides_has_an_empty_list(page: TestClient, shown: Store, tmp_path: Path) -> None:
    shown.put_media("audio/b.wav", served.recordings.tone(tmp_path / "b.wav"))
    assert page.get("/api/media/audio/b.wav/slides").json()["slides"] == []
    assert page.get("/api/media/audio/none.wav/slides").status_code == 404
