"""Behaviour and failures that only a bucket has."""

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from transcription_assets.errors import NotFound, PermanentFailure, Refused, TransientFailure
from transcription_assets.storage import Store
from transcription_assets_tests import seaweed
from transcription_assets_tests.serving import answering
from transcription_assets_tests.stores import bucket_case, listed


@pytest.mark.usefixtures("s3_endpoint")
def test_opening_a_missing_bucket_fails() -> None:
    with pytest.raises(PermanentFailure) as caught:
        Store.open("s3://nobody-made-this", s3_session=seaweed.session())
    assert type(caught.value) is PermanentFailure
    assert caught.value.hint


def test_deleted_bucket_is_not_an_empty_bucket(s3_endpoint: seaweed.S3Server) -> None:
    s3_endpoint.client().create_bucket(Bucket="shortlived")
    store = Store.open("s3://shortlived", s3_session=seaweed.session())
    assert listed(store) == []
    s3_endpoint.client().delete_bucket(Bucket="shortlived")
    with pytest.raises(PermanentFailure) as caught:
        store.list_media()
    assert type(caught.value) is PermanentFailure
    assert caught.value.hint


def test_wrong_credentials_are_refused_with_a_hint(s3_endpoint: seaweed.S3Server) -> None:
    stranger = seaweed.session(seaweed.Account("owner", "wrong"))
    with pytest.raises(Refused) as caught:
        Store.open(f"s3://{s3_endpoint.bucket}", s3_session=stranger)
    assert caught.value.hint


@pytest.mark.usefixtures("s3_endpoint")
def test_missing_credentials_are_a_permanent_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") and "ENDPOINT" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(PermanentFailure) as caught:
        Store.open("s3://media")
    assert caught.value.hint


def test_writing_with_read_only_credentials_fails_permanently(
    s3_endpoint: seaweed.S3Server,
) -> None:
    store = Store.open(f"s3://{s3_endpoint.bucket}/reader", s3_session=seaweed.session(seaweed.READER))
    assert listed(store) == []
    with pytest.raises(Refused):
        store.write("transcripts/a.json", b"{}")
    with pytest.raises(Refused):
        store.delete("transcripts/a.json")


def test_media_url_allows_range_requests_for_an_hour(
    s3_endpoint: seaweed.S3Server,
) -> None:
    case = bucket_case(s3_endpoint)
    case.put("video/a b.mp4", b"0123456789")
    url = case.store.media_url("video/a b.mp4")
    assert "X-Amz-Expires=3600" in url
    with urlopen(Request(url, headers={"Range": "bytes=3-5"})) as response:  # noqa: S310
        assert response.read() == b"345"


def test_public_url_has_no_signature(s3_endpoint: seaweed.S3Server) -> None:
    store = Store.open(f"s3://{s3_endpoint.bucket}/", s3_session=seaweed.session())
    assert not store.is_local
    assert store.url == f"s3://{s3_endpoint.bucket}"
    assert store.public_url("video/a%2Cb.mp4") == f"s3://{s3_endpoint.bucket}/video/a,b.mp4"
    assert store.lancedb_uri == f"s3://{s3_endpoint.bucket}/lancedb"


def test_name_too_long_for_s3_artefacts_is_refused_early(
    s3_endpoint: seaweed.S3Server,
) -> None:
    case = bucket_case(s3_endpoint)
    name = "/".join(["video", *["x" * 100] * 9, "a.mp4"])
    case.put(name, b"x")
    assert listed(case.store) == [name]
    assert case.store.stat(name).size == 1
    long = "/".join(["video", *["x" * 100] * 9, "x" * 70 + ".mp4"])
    case.put(long, b"x")
    with pytest.raises(PermanentFailure, match=r"\d+ bytes"):
        case.store.stat(long)


def test_listing_covers_more_than_one_page(s3_endpoint: seaweed.S3Server) -> None:
    case = bucket_case(s3_endpoint)
    names = [f"audio/{number:04}.mp3" for number in range(1005)]
    for name in names:
        case.put(name, b"")
    assert listed(case.store) == names
    case.put("audio/a\nb.mp3", b"")
    assert listed(case.store) == [*names, "audio/a%0Ab.mp3"]


class Busy(BaseHTTPRequestHandler):
    """An S3 server that answers GET with the statuses in `script`, then with the object."""

    script: list[tuple[int, str]]

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        status, code = self.script.pop(0) if self.script else (200, "")
        error = f"<Error><Code>{code}</Code><Message>not now</Message></Error>".encode()
        self._answer(status, error if code else b"the object")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sun, 01 Mar 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture
def busy_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Busy)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        yield Store.open("s3://bucket", s3_session=seaweed.session())


def test_busy_store_is_retried(busy_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Busy, "script", [(503, "SlowDown"), (500, "InternalError")], raising=False)
    assert busy_store.read("transcripts/a.json") == b"the object"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ((400, "RequestTimeout"), TransientFailure),
        ((400, "ExpiredToken"), TransientFailure),
        ((400, "AuthorizationHeaderMalformed"), PermanentFailure),
        ((403, "AccessDenied"), Refused),
        ((404, "NoSuchBucket"), PermanentFailure),
        ((404, "NoSuchKey"), NotFound),
    ],
)
def test_s3_error_codes_map_to_failure_types(
    busy_store: Store, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str], failure: type[Exception]
) -> None:
    monkeypatch.setattr(Busy, "script", [answer], raising=False)
    with pytest.raises(failure) as raised:
        busy_store.read("transcripts/a.json")
    assert type(raised.value) is failure
    assert "s3://bucket" in str(raised.value)
