"""Uploads through the API: who may, what is refused, and what follows. A real server, and a real client of tus."""

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import Request
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from transcription_assets.errors import StoreAway, TransientFailure
from transcription_assets.sources import spool
from transcription_assets.sources.uploads import Landing
from transcription_assets.storage import Store
from transcription_assets.web import body_limit, upload_receiver, uploads, waiters
from transcription_assets.web.archive import Archive
from transcription_assets.web.library import Library
from transcription_assets.web.thread_pool import ThreadPool
from transcription_assets_tests import recordings, seaweed, served, waiting
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.stores import listed

WRITER = {"authorization": "Bearer may write"}
TUS = WRITER | {"tus-resumable": "1.0.0"}
APPEND = TUS | {"content-type": "application/offset+octet-stream"}
SETTINGS: dict[str, Any] = {"serve_write_token": "may write", "upload_max_gb": 0.001}


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return recordings.tone(tmp_path_factory.mktemp("tone") / "tone.wav", 10.0, rate=8_000).read_bytes()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store.open(str(tmp_path / "store"))
    server: seaweed.S3Server = request.getfixturevalue("s3_account")
    return Store.open(f"s3://{server.bucket}/{tmp_path.name}")


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def site(store: Store, tmp_path: Path, **settings: Any) -> Archive:
    return served.archive(store, **SETTINGS | {"uploads_dir": tmp_path / "uploads"} | settings)


@pytest.fixture
def address(local: Store, tmp_path: Path) -> Iterator[str]:
    with served.listening(site(local, tmp_path)) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, timeout=120, headers=WRITER) as asking:
        yield asking


def begin(client: httpx2.Client, length: int, filename: str = "tone.wav") -> str:
    metadata = f"filename {base64.b64encode(filename.encode()).decode()}"
    answer = client.post("/api/uploads", headers=TUS | {"upload-length": str(length), "upload-metadata": metadata})
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-expires"]
    return str(answer.headers["location"])


def append(client: httpx2.Client, url: str, offset: int, data: bytes, **headers: str) -> httpx2.Response:
    return client.patch(url, content=data, headers=APPEND | {"upload-offset": str(offset)} | headers)


def offset(client: httpx2.Client, url: str) -> int:
    return int(client.head(url, headers=TUS).headers["upload-offset"])


def test_post_a_file_get_the_text(store: Store, tone: bytes, tmp_path: Path) -> None:
    with (
        served.listening(site(store, tmp_path)) as address,
        httpx2.Client(base_url=address, timeout=120, headers=WRITER) as client,
    ):
        posted = client.post("/api/media", files={"file": ("../My talk.wav", tone)}, params={"folder": "tones"})
        assert (posted.status_code, posted.json()["state"]) == (201, "landed")
        (key,) = listed(store)
        assert (posted.json()["key"], key.rpartition(" ")[0]) == (key, "audio/uploads/tones/My talk")
        recording = posted.headers["location"]
        found = client.get(recording).json()
        assert (found["state"], found["step"], found["title"]) == ("waiting", "video", "My talk")
        assert found["origin"]["source"] == "uploads"
        assert client.get(recording, params={"wait": 1}).json()["state"] == "waiting"
        Chain(store).run(key)
        found = client.get(recording, params={"wait": 60}).json()
        assert (found["state"], found["progress"]) == ("done", None)
        assert "Sentence 1" in client.get(found["links"]["transcripts"]["txt"]).text
        moments = client.get("/api/search", params={"q": "sentence", "source": "uploads"}).json()["moments"]
        assert {moment["key"] for moment in moments} == {key}


def test_too_many_waiting_requests_are_answered_at_once(
    client: httpx2.Client, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = client.post("/api/media", params={"name": "a.wav"}, content=tone)
    monkeypatch.setattr(waiters, "MOST_OF_ADDRESS", 0)
    monkeypatch.setattr(waiters, "STEPS_S", (1e6,))
    assert client.get(posted.headers["location"], params={"wait": 60}).json()["state"] == "waiting"


def test_a_request_whose_client_has_left_waits_no_more(local: Store, tmp_path: Path, tone: bytes) -> None:
    """The request is a fake: it has no client any more."""
    archive = site(local, tmp_path)
    local.write("audio/a.wav", tone)
    workers = ThreadPool(1, 60.0)
    waiting_ones = waiters.Waiters(Library(archive), workers)

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    gone = Request({"type": "http", "client": ("127.0.0.1", 1)}, receive)
    asyncio.run(asyncio.wait_for(waiting_ones.wait(gone, "audio/a.wav", 1e9), 60))
    workers.close()


def test_a_real_client_resumes_an_upload(store: Store, tone: bytes, tmp_path: Path) -> None:
    with served.listening(site(store, tmp_path)) as address:
        tus = TusClient(f"{address}/api/uploads", headers=WRITER)
        about = {"metadata": {"filename": "tone.wav"}, "chunk_size": 50_000, "upload_checksum": True}
        first = tus.uploader(file_stream=BytesIO(tone), **about)
        first.upload_chunk()
        assert first.offset == 50_000
        second = tus.uploader(file_stream=BytesIO(tone), url=first.url, **about)
        assert second.offset == 50_000
        second.upload()
        (key,) = listed(store)
        assert store.read_media(key, 0, len(tone) + 1) == tone


def test_a_cut_connection_keeps_what_was_received(client: httpx2.Client, local: Store, tone: bytes) -> None:
    url = begin(client, len(tone))
    head = "".join(f"{name}: {value}\r\n" for name, value in (APPEND | {"upload-offset": "0"}).items())
    with socket.create_connection(served.place(str(client.base_url).rstrip("/"))) as sending:
        lines = f"PATCH {url} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(tone)}\r\n{head}\r\n"
        sending.sendall(lines.encode() + tone[:100_000])
    waiting.until("bytes", lambda: offset(client, url) == 100_000, lambda: None)
    assert append(client, url, 100_000, tone[100_000:]).status_code == 204
    (key,) = listed(local)
    assert local.read_media(key, 0, len(tone) + 1) == tone


def test_a_silent_connection_is_replaced_by_its_client(client: httpx2.Client, local: Store, tone: bytes) -> None:
    url = begin(client, len(tone))
    head = "".join(f"{name}: {value}\r\n" for name, value in (APPEND | {"upload-offset": "0"}).items())
    with socket.create_connection(served.place(str(client.base_url).rstrip("/"))) as silent:
        lines = f"PATCH {url} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(tone)}\r\n{head}\r\n"
        silent.sendall(lines.encode() + tone[:70_000])
        waiting.until("bytes", lambda: offset(client, url) == 70_000, lambda: offset(client, url))
        answer = append(client, url, 70_000, tone[70_000:])
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(len(tone)))
    (key,) = listed(local)
    assert answer.headers["content-location"] == f"/api/media/{served.of(key)}"


def test_a_lost_answer_to_the_last_request_is_given_again(client: httpx2.Client, local: Store, tone: bytes) -> None:
    url = begin(client, len(tone))
    append(client, url, 0, tone)
    assert offset(client, url) == len(tone)
    assert append(client, url, len(tone), b"").status_code == 204
    assert append(client, url, 0, tone).status_code == 409
    assert len(listed(local)) == 1


def test_an_upload_can_be_cancelled(client: httpx2.Client, tone: bytes) -> None:
    url = begin(client, len(tone))
    append(client, url, 0, tone[:100])
    assert client.delete(url, headers=TUS).status_code == 204
    assert client.head(url, headers=TUS).status_code == 404
    assert client.get(url).status_code == 404


def test_an_upload_can_begin_with_its_first_bytes(client: httpx2.Client, tone: bytes) -> None:
    metadata = f"filename {base64.b64encode(b'a.wav').decode()}"
    about = APPEND | {"upload-length": str(len(tone)), "upload-metadata": metadata}
    answer = client.post("/api/uploads", content=tone[:100], headers=about)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "100")


def test_a_first_request_that_fails_is_answered(client: httpx2.Client, tmp_path: Path) -> None:
    metadata = f"filename {base64.b64encode(b'a.wav').decode()}"
    about = APPEND | {"upload-length": "4", "upload-metadata": metadata}
    answer = client.post("/api/uploads", content=b"text", headers=about)
    assert (answer.status_code, bool(answer.json()["detail"])) == (422, True)
    checked = about | {"upload-checksum": "sha1 eA=="}
    assert client.post("/api/uploads", content=b"te", headers=checked).status_code == 460
    assert list((tmp_path / "uploads").rglob("*.part")) == []


def test_the_metadata_are_sent_back(client: httpx2.Client) -> None:
    answer = client.head(begin(client, 10), headers=TUS)
    assert answer.headers["upload-metadata"] == "filename dG9uZS53YXY="


def test_a_refusal_after_the_body_is_not_delayed(client: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_receiver, "DRAIN_S", 1e6)
    url = begin(client, 10)
    assert append(client, url, 0, b"x", **{"upload-checksum": "sha1 eA=="}).status_code == 460


def test_a_refused_body_is_not_asked_for(address: str) -> None:
    with socket.create_connection(served.place(address)) as sending:
        sending.sendall(
            b"POST /api/media?name=notes.pdf HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer may write\r\n"
            b"expect: 100-continue\r\ncontent-length: 20\r\n\r\n"
        )
        assert served.response_status(sending) == 415


def test_the_offset_after_a_retry_with_checksum(client: httpx2.Client, tmp_path: Path) -> None:
    url = begin(client, 100)
    (record,) = (tmp_path / "uploads").rglob("*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"unchecked_from": 0}))
    record.with_suffix(".part").write_bytes(b"unchecked")
    digest = base64.b64encode(hashlib.sha1(b"x" * 10, usedforsecurity=False).digest()).decode()
    answer = append(client, url, 0, b"x" * 10, **{"upload-checksum": f"sha1 {digest}"})
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "10")
    assert offset(client, url) == 10


def test_damaged_bytes_are_dropped(client: httpx2.Client, tone: bytes) -> None:
    url = begin(client, len(tone))
    good = base64.b64encode(hashlib.sha256(tone[:10]).digest()).decode()
    assert append(client, url, 0, b"x" * 10, **{"upload-checksum": f"sha256 {good}"}).status_code == 460
    assert offset(client, url) == 0
    assert append(client, url, 0, tone[:10], **{"upload-checksum": f"sha256 {good}"}).status_code == 204
    assert append(client, url, 10, b"x", **{"upload-checksum": "md4 eA=="}).status_code == 400


@pytest.mark.parametrize(
    ("filename", "data", "status"),
    [
        ("empty.wav", b"", 422),
        ("notes.pdf", b"%PDF", 415),
        ("text.mp4", b"not a recording" * 100, 422),
        ("large.mp4", b"x" * 1_000_001, 413),
    ],
    ids=["empty", "suffix", "text", "too large"],
)
def test_what_is_no_recording_is_refused(
    client: httpx2.Client, local: Store, filename: str, data: bytes, status: int
) -> None:
    for answer in (
        client.post("/api/media", params={"name": filename}, content=data),
        client.post("/api/media", files={"file": (filename, data, "text/plain")}),
    ):
        assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
    assert listed(local) == []


@pytest.mark.parametrize(
    "filename", ["../../etc/x.wav", f"{'n' * 251}.wav", "a\x01\x7f.wav", "<img src=x>.wav", "ü 100%.wav"]
)
def test_odd_names_land_safely(client: httpx2.Client, local: Store, tone: bytes, filename: str) -> None:
    posted = client.post("/api/media", params={"name": filename}, content=tone)
    assert posted.status_code == 201
    (key,) = listed(local)
    assert key.startswith("audio/uploads/")
    assert client.get(posted.headers["location"]).status_code == 200


def test_the_same_name_twice_at_once_gives_two_recordings(client: httpx2.Client, local: Store, tone: bytes) -> None:
    urls = [begin(client, len(tone)) for _ in range(2)]
    for url in urls:
        append(client, url, 0, tone[:1000])
    for url in urls:
        assert append(client, url, 1000, tone[1000:]).status_code == 204
    assert len(listed(local)) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"tus-resumable": "0.2"}, 412),
        ({"upload-length": "-1"}, 400),
        ({"upload-length": "many"}, 400),
        ({"upload-metadata": "filename %%%"}, 400),
        ({"upload-metadata": ""}, 415),
        ({"upload-length": "9" * 18}, 413),
        ({"upload-length": "0"}, 422),
    ],
    ids=["version", "negative", "no number", "no base64", "no name", "huge", "empty"],
)
def test_malformed_requests_of_tus_are_refused(client: httpx2.Client, headers: dict[str, str], status: int) -> None:
    usual = TUS | {"upload-length": "10", "upload-metadata": "filename YS53YXY="}
    answer = client.post("/api/uploads", headers=usual | headers)
    assert (answer.status_code, answer.headers["tus-resumable"]) == (status, "1.0.0")


def test_malformed_appends_are_refused(client: httpx2.Client) -> None:
    url = begin(client, 10)
    assert append(client, url, 5, b"x").status_code == 409
    assert append(client, url, 0, b"x" * 11).status_code == 413
    assert client.patch(url, content=b"x", headers=TUS | {"upload-offset": "0"}).status_code == 415
    assert client.patch(url, content=b"x", headers=APPEND).status_code == 400
    assert append(client, "/api/uploads/..%2f..%2fx", 0, b"x").status_code in {404, 405}
    assert offset(client, url) == 0


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"nothing", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.wav"\r\n\r\ncut off',
            "multipart/form-data; boundary=x",
        ),
        (b"--x\r\nContent-Disposition: " + b"a" * 9000, "multipart/form-data; boundary=x"),
    ],
    ids=["no boundary", "no form", "no file", "cut off", "long header"],
)
def test_malformed_forms_are_refused(client: httpx2.Client, local: Store, body: bytes, kind: str) -> None:
    assert client.post("/api/media", content=body, headers={"content-type": kind}).status_code == 422
    assert listed(local) == []


def test_a_form_takes_one_file(client: httpx2.Client, local: Store, tone: bytes) -> None:
    files = [("file", ("a.wav", tone)), ("file", ("b.wav", tone))]
    assert client.post("/api/media", files=files).status_code == 422
    assert listed(local) == []


def test_a_body_without_length_is_refused(client: httpx2.Client) -> None:
    assert client.post("/api/media", params={"name": "a.wav"}, content=iter([b"x"])).status_code == 411


def test_limits_of_unfinished_uploads_are_answered(local: Store, tmp_path: Path) -> None:
    chosen = site(local, tmp_path, upload_max_unfinished=2, upload_spool_gb=0.0015)
    with served.client(chosen, **WRITER) as client:
        about = {"tus-resumable": "1.0.0", "upload-metadata": "filename YS53YXY="}
        statuses = [
            client.post("/api/uploads", headers=about | {"upload-length": length}).status_code
            for length in ("1000000", "600000", "400000", "1")
        ]
    assert statuses == [201, 507, 201, 429]


def test_only_writers_may_upload(local: Store, tmp_path: Path, tone: bytes) -> None:
    with served.client(site(local, tmp_path, serve_token="may read", serve_write_token="")) as client:
        reader = {"authorization": "Bearer may read"}
        assert client.post("/api/media", params={"name": "a.wav"}, content=tone).status_code == 401
        assert client.post("/api/media", params={"name": "a.wav"}, content=tone, headers=reader).status_code == 403
        assert client.post("/api/uploads", headers=reader | TUS | reader).status_code == 403
        rules = client.get("/api/uploads", headers=reader).json()
    assert (rules["may_upload"], rules["sign_in"]) == (False, False)
    assert not (tmp_path / "uploads").exists()


def test_other_sites_may_not_upload(client: httpx2.Client, tone: bytes) -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    assert client.post("/api/media", params={"name": "a.wav"}, content=tone, headers=foreign).status_code == 403


def test_uploads_belong_to_their_user(local: Store, tmp_path: Path) -> None:
    chosen = site(local, tmp_path, serve_user_header="X-User", serve_writers="ada, ben", serve_write_token="")
    with served.client(chosen) as client:
        about = {"tus-resumable": "1.0.0", "upload-length": "10", "upload-metadata": "filename YS53YXY="}
        url = client.post("/api/uploads", headers=about | {"X-User": "ada"}).headers["location"]
        statuses = {user: client.get(url, headers={"X-User": user}).status_code for user in ("ada", "ben", "eve")}
        taken = client.delete(url, headers={"X-User": "ben", "tus-resumable": "1.0.0"}).status_code
    assert (statuses, taken) == ({"ada": 200, "ben": 404, "eve": 404}, 404)


def test_a_server_tells_what_it_accepts(client: httpx2.Client) -> None:
    answer = client.options("/api/uploads")
    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
    assert answer.headers["tus-max-size"] == "1000000"
    assert set(answer.headers["tus-extension"].split(",")) >= {"creation", "termination", "checksum", "expiration"}
    assert client.get("/api/uploads").json()["may_upload"] is True


def test_an_upload_waits_while_the_store_is_away(
    local: Store, tmp_path: Path, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_receiver, "SWEEP_S", 0.1)
    failures = [StoreAway("the store is away")]
    put = Store.put_media

    def put_later(store: Store, name: str, source: Path, *, move: bool = False) -> str:
        if failures:
            raise failures.pop()
        return put(store, name, source, move=move)

    monkeypatch.setattr(Store, "put_media", put_later)
    with served.client(site(local, tmp_path), **WRITER) as client:
        posted = client.post("/api/media", params={"name": "a.wav"}, content=tone)
        assert (posted.status_code, posted.json()["reason"]) == (202, "the store is away")
        waiting.until(
            "landing", lambda: client.get(posted.headers["location"]).json()["state"] == "landed", lambda: None
        )
    assert len(listed(local)) == 1


def test_one_failing_upload_does_not_stop_the_others(
    local: Store, tmp_path: Path, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_receiver, "SWEEP_S", 0.1)
    land = Landing.land

    def fail_first(landing: Landing, upload: spool.Upload) -> spool.Upload:
        if upload.filename == "first.wav":
            raise RuntimeError
        return land(landing, upload)

    monkeypatch.setattr(Landing, "land", fail_first)
    chosen = site(local, tmp_path)
    place = chosen.tools.spool
    with served.client(chosen, **WRITER) as client:
        for name in ("first.wav", "second.wav"):
            upload = place.create(spool.UploadRequest(name, len(tone)))
            with place.writing(upload.identifier, 0) as writer:
                writer.write(tone)
        waiting.until(
            "landing", lambda: client.get(f"/api/uploads/{upload.identifier}").json()["state"] == "landed", lambda: None
        )
    assert len(listed(local)) == 1


@pytest.mark.parametrize("error", [spool.UploadInUse, TransientFailure])
def test_a_complete_body_is_accepted_although_it_does_not_land(
    local: Store, tmp_path: Path, tone: bytes, monkeypatch: pytest.MonkeyPatch, error: type[TransientFailure]
) -> None:
    def fail(_landing: Landing, _upload: spool.Upload) -> spool.Upload:
        raise error

    monkeypatch.setattr(Landing, "land", fail)
    with served.client(site(local, tmp_path), **WRITER) as client:
        posted = client.post("/api/media", params={"name": "a.wav"}, content=tone)
        assert (posted.status_code, posted.json()["state"]) == (202, "checking")


def test_a_slow_landing_is_answered_before_it_ends(
    local: Store, tmp_path: Path, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LAND_S", 0.0)
    with served.client(site(local, tmp_path), **WRITER) as client:
        posted = client.post("/api/media", params={"name": "a.wav"}, content=tone)
        assert posted.status_code in {201, 202}
        state = posted.json()["url"]
        waiting.until("landing", lambda: client.get(state).json()["state"] == "landed", lambda: None)


def test_a_stalled_client_is_given_up(client: httpx2.Client, tone: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_receiver, "STALL_S", 0.3)
    url = begin(client, len(tone))
    head = "".join(f"{name}: {value}\r\n" for name, value in (APPEND | {"upload-offset": "0"}).items())
    with socket.create_connection(served.place(str(client.base_url).rstrip("/"))) as silent:
        lines = f"PATCH {url} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(tone)}\r\n{head}\r\n"
        silent.sendall(lines.encode() + tone[:1000])
        assert served.response_status(silent) == 503
    assert offset(client, url) == 1000


def test_a_full_disk_is_answered_and_the_upload_continues(
    client: httpx2.Client, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = begin(client, len(tone))
    with monkeypatch.context() as patch, Path("/dev/full").open("r+b", buffering=0) as full:
        write = spool.UploadWriter.write

        def write_to_full(writer: spool.UploadWriter, data: bytes) -> None:
            writer.file = full  # type: ignore[assignment]
            write(writer, data)

        patch.setattr(spool.UploadWriter, "write", write_to_full)
        assert append(client, url, 0, tone).status_code == 507
    assert append(client, url, offset(client, url), tone).status_code == 204


def test_other_bodies_are_limited(client: httpx2.Client) -> None:
    target = "/api/media/audio/a.wav/speakers/1"
    assert client.put(target, content=b"x" * 65_537).status_code == 413
    assert client.put(target, content=iter([b"x" * 65_537])).status_code == 413
    assert client.put(target, json={"name": "Ada"}).status_code == 404


def test_other_bodies_have_to_arrive_in_time(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_S", 0.3)
    with socket.create_connection(served.place(address)) as slow:
        slow.sendall(
            b"PUT /api/media/audio/a.wav/speakers/1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer may write\r\n"
            b"content-type: application/json\r\ncontent-length: 20\r\n\r\n{"
        )
        assert served.response_status(slow) == 408


def test_the_client_reports_a_refusal(address: str) -> None:
    tus = TusClient(f"{address}/api/uploads")
    with pytest.raises(TusCommunicationError):
        tus.uploader(file_stream=BytesIO(b"x"), metadata={"filename": "a.wav"}).upload()
