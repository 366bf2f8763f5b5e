"""Media files: served by ranges from a folder, by signed links from a bucket."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from fastapi.testclient import TestClient

from transcription_assets.storage import Store
from transcription_assets.web.middleware import content_policy
from transcription_assets_tests import seaweed, served
from transcription_assets_tests.served import SENTENCE, TALK


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-50", -50, None), ("bytes=5-5", 5, 6)],
)
def test_range_request_returns_the_requested_bytes(
    page: TestClient, folder: Path, asked: str, first: int, last: int | None
) -> None:
    data = (folder / "film.mp4").read_bytes()
    answer = page.get(f"/media/{served.of(TALK)}", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content == data[first:last]
    assert answer.headers["content-range"].endswith(f"/{len(data)}")


def test_range_beyond_the_end_is_416_and_no_range_is_the_file(page: TestClient, folder: Path) -> None:
    size = (folder / "film.mp4").stat().st_size
    assert page.get(f"/media/{served.of(TALK)}", headers={"range": f"bytes={size}-"}).status_code == 416
    assert len(page.get(f"/media/{served.of(TALK)}").content) == size
    head = page.head(f"/media/{served.of(TALK)}")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=-0", 416),
        ("bytes=99999999999-", 416),
        ("bytes=9-5", 400),
        ("bytes=a-b", 400),
        ("lines=0-5", 400),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 400, 2)), 200),
        ("bytes=" + "0-," * 90 + "0-", 206),
        ("bytes=-99999999999999999999", 206),
    ],
)
def test_unusual_ranges_return_no_more_than_the_file(page: TestClient, folder: Path, asked: str, status: int) -> None:
    answer = page.get(f"/media/{served.of(TALK)}", headers={"range": asked})
    assert answer.status_code == status
    assert len(answer.content) <= (folder / "film.mp4").stat().st_size


def test_multiple_ranges_are_returned_as_multipart(page: TestClient, folder: Path) -> None:
    data = (folder / "film.mp4").read_bytes()
    answer = page.get(f"/media/{served.of(TALK)}", headers={"range": "bytes=0-9,100-109"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert data[:10] in answer.content
    assert data[100:110] in answer.content


def test_conditional_requests_compare_the_etag(page: TestClient) -> None:
    address = f"/media/{served.of(TALK)}"
    etag = page.head(address).headers["etag"]
    assert page.get(address, headers={"if-none-match": etag}).status_code == 304
    assert page.get(address, headers={"if-none-match": '"another"'}).status_code == 200
    ranged = {"range": "bytes=0-9"}
    assert page.get(address, headers=ranged | {"if-range": etag}).status_code == 206
    assert page.get(address, headers=ranged | {"if-range": '"another"'}).status_code == 200


def test_pages_answer_head_requests(page: TestClient) -> None:
    for address in ("/", "/library", f"/watch/{served.of(TALK)}", "/static/page.js"):
        assert page.head(address).status_code == 200
    assert page.head("/watch/video/none.mp4").status_code == 404


@pytest.fixture(scope="module")
def bucket(s3_server: seaweed.S3Server, folder: Path) -> Store:
    store = Store.open(f"s3://{s3_server.bucket}/served", s3_session=seaweed.session(), s3_endpoint=s3_server.endpoint)
    served.fill(store, folder)
    return store


def test_bucket_recordings_redirect_to_short_lived_signed_links(
    bucket: Store, s3_server: seaweed.S3Server, folder: Path
) -> None:
    with served.client(served.archive(bucket)) as page:
        moments = page.get("/api/search", params={"q": SENTENCE}).json()["moments"]
        assert TALK in {moment["key"] for moment in moments}
        for address in (f"/media/{served.of(TALK)}", f"/sound/{served.of(TALK)}"):
            answer = page.get(address)
            assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
            link = answer.headers["location"]
            assert 0 < int(parse_qs(urlsplit(link).query)["X-Amz-Expires"][0]) <= 3600
        with urlopen(page.get(f"/media/{served.of(TALK)}").headers["location"], timeout=30) as film:  # noqa: S310 -- the S3 server's
            assert film.read() == (folder / "film.mp4").read_bytes()
        policy = page.get("/").headers["content-security-policy"]
        assert policy == content_policy(s3_server.endpoint)
        assert page.get(f"/posters/{served.of(TALK)}").content.startswith(b"\xff\xd8")
        assert page.get("/media/video/not-there.mp4").status_code == 404
