"""One contract for a folder and for a bucket on a real S3 server, then what only one of them can do wrong."""

import os
import shutil
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from transcription_assets import keys
from transcription_assets.catalog import SCHEMA
from transcription_assets.failures import NotFound, PermanentFailure, TransientFailure
from transcription_assets.storage import Store, bucket
from transcription_assets_tests import seaweed

ODD_NAMES = {
    "spaces": "video/my talk, final (2) .mp4",
    "umlaut, composed": unicodedata.normalize("NFC", "video/Größe.mp4"),
    "umlaut, decomposed": unicodedata.normalize("NFD", "video/Größe.mp4"),
    "emoji": "video/👩‍👩‍👧🎬.mp4",
    "200 characters": f"video/{'x' * 200}.mp4",
    "dots": "video/wait...what.mp4",
    "leading dot": "video/.hidden.mp4",
    "newline": "video/two\nlines.mp4",
    "delete": "video/\x7f.mp4",
    "percent": "video/100%.mp4",
    "an escape": "video/a%20b.mp4",
    "quotes": 'video/"it\'s".mp4',
    "brackets": "video/[a]{b}<c>(d).mp4",
    "number sign": "video/a#1.mp4",
    "folder with number sign": "video/a#1/b.mp4",
    "URL syntax": "video/a?b=c&d=e+f;g~^`|$@!.mp4",
    "one stem, two suffixes": "video/ep.mp4",
    "one stem, the other": "video/ep.MKV",
    "nested": "audio/a/b/c/ep.wav",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A store, and how people put files into it and take them away, without our code."""

    store: Store
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]


def folder_case(root: Path) -> Case:
    def put(name: str, data: bytes) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return Case(Store.open(str(root)), put, lambda name: (root / name).unlink())


prefixes = count()


def bucket_case(server: seaweed.S3Server) -> Case:
    client = server.client()
    prefix = f"my archive/Größe {next(prefixes)}%"

    def put(name: str, data: bytes) -> None:
        client.put_object(Bucket=server.bucket, Key=f"{prefix}/{name}", Body=data)

    def remove(name: str) -> None:
        client.delete_object(Bucket=server.bucket, Key=f"{prefix}/{name}")

    store = Store.open(f"s3://{server.bucket}/{prefix}", s3_session=seaweed.session())
    return Case(store, put, remove)


@pytest.fixture
def s3_endpoint(s3_server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> seaweed.S3Server:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    return s3_server


@pytest.fixture(params=["folder", "s3"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "s3":
        return bucket_case(request.getfixturevalue("s3_endpoint"))
    return folder_case(tmp_path / "my store #1, 100% ü")


def content(url: str) -> bytes:
    """What ffmpeg would read."""
    if url.startswith("file:"):
        return Path(url.removeprefix("file:")).read_bytes()
    with urlopen(url) as response:  # noqa: S310 - a URL that the store signed
        return bytes(response.read())


def listed(store: Store) -> list[str]:
    return [str(key) for key in store.list_media().frame["key"]]


def test_every_odd_name_is_listed_and_none_hides_the_others(case: Case) -> None:
    for number, name in enumerate(ODD_NAMES.values()):
        case.put(name, b"x" * number)
    listing = case.store.list_media()
    assert listing.frame.schema == SCHEMA
    assert listed(case.store) == sorted(keys.encode(name) for name in ODD_NAMES.values())
    sizes = dict(listing.frame.select("key", "size").iter_rows())
    assert sizes == {keys.encode(name): number for number, name in enumerate(ODD_NAMES.values())}
    assert listing.frame.null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_recording_of_any_name_can_be_read_and_its_artefacts_kept(case: Case, name: str) -> None:
    case.put(name, b"the recording")
    [(key, etag, size, last_modified)] = case.store.list_media().frame.iter_rows()
    now = case.store.stat(key)
    assert (now.key, now.etag, now.size) == (key, etag, size) == (keys.encode(name), etag, 13)
    assert abs(now.last_modified - last_modified) < timedelta(seconds=1)
    assert content(case.store.media_url(key)) == b"the recording"
    for path in (keys.flac(key), keys.transcript(key), keys.passages(key), keys.poster(key)):
        case.store.write(path, path.encode())
        assert case.store.read(path) == path.encode()
        assert case.store.exists(path)
        assert case.store.list(path.partition("/")[0]) == [path]
    assert listed(case.store) == [key]


def test_an_empty_store_lists_nothing_and_says_so(case: Case) -> None:
    listing = case.store.list_media()
    assert listing.frame.schema == SCHEMA
    assert listing.frame.is_empty()
    assert listing.ignored == 0


def test_what_is_not_a_recording_is_counted_and_left_alone(case: Case) -> None:
    for name in ("video/a.mp4", "video/notes.txt", "video/.DS_Store", "audio/b.mp3.part", "other/c.mp4"):
        case.put(name, b"x")
    listing = case.store.list_media()
    assert listing.frame["key"].to_list() == ["video/a.mp4"]
    assert listing.ignored == 3


def test_a_replaced_recording_has_another_etag(case: Case) -> None:
    case.put("video/a.mp4", b"one")
    before = case.store.stat("video/a.mp4")
    case.put("video/a.mp4", b"two, longer")
    after = case.store.stat("video/a.mp4")
    assert before.etag != after.etag
    assert case.store.list_media().frame["etag"].to_list() == [after.etag]
    assert before.last_modified <= after.last_modified


def test_times_are_of_now_and_in_utc(case: Case) -> None:
    case.put("video/a.mp4", b"x")
    found = case.store.stat("video/a.mp4")
    assert abs(datetime.now(UTC) - found.last_modified) < timedelta(minutes=1)


def test_a_recording_that_is_gone_is_said_to_be_gone_not_broken(case: Case) -> None:
    case.put("video/a.mp4", b"x")
    case.remove("video/a.mp4")
    with pytest.raises(NotFound, match=r"video/a\.mp4"):
        case.store.stat("video/a.mp4")
    assert listed(case.store) == []


@pytest.mark.parametrize(
    "key", ["../secret.mp4", "video/../../secret.mp4", "%2Fetc%2Fpasswd", "video/%2E%2E/x.mp4", ""]
)
def test_a_key_from_outside_cannot_leave_the_store(case: Case, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    with pytest.raises(PermanentFailure):
        case.store.stat(key)


@pytest.mark.parametrize("path", ["../a.json", "transcripts/../../a.json", "a\nb", "a//b"])
def test_a_path_that_no_store_can_hold_is_refused_with_its_name(case: Case, path: str) -> None:
    with pytest.raises(PermanentFailure, match=path.partition("\n")[0]):
        case.store.write(path, b"")


@pytest.mark.parametrize("size", [0, 1, 11 << 20])
def test_files_of_all_sizes_come_back_whole(case: Case, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    case.store.upload("extracted/a.flac", source)
    case.store.fetch("extracted/a.flac", target)
    assert target.read_bytes() == data
    assert case.store.read("extracted/a.flac") == data
    case.store.write("extracted/b.flac", data)
    assert case.store.read("extracted/b.flac") == data


def test_a_missing_artefact_is_not_found_and_deleting_it_is_fine(case: Case, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"transcripts/a\.json"):
        case.store.read("transcripts/a.json")
    with pytest.raises(NotFound):
        case.store.fetch("transcripts/a.json", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert not case.store.exists("transcripts/a.json")
    case.store.delete("transcripts/a.json", "transcripts/b.json")
    assert case.store.list("transcripts/") == []


def test_all_that_is_asked_for_is_deleted_and_nothing_beside_it(case: Case) -> None:
    for name in ("a.json", "a.json.bak", "b.json", "c/d.json"):
        case.store.write(f"transcripts/{name}", b"{}")
    case.store.write("transcripts2/a.json", b"{}")
    case.store.delete("transcripts/a.json", "transcripts/nothing", "transcripts/b.json")
    assert case.store.list("transcripts/") == ["transcripts/a.json.bak", "transcripts/c/d.json"]
    assert case.store.list("transcripts2") == ["transcripts2/a.json"]


def test_a_stray_name_among_the_artefacts_hides_none_of_them(case: Case) -> None:
    case.store.write("transcripts/a.json", b"{}")
    case.store.write("transcripts2/a.json", b"{}")
    case.put("transcripts/two\nlines.json", b"{}")
    assert case.store.list("transcripts") == ["transcripts/a.json", "transcripts/two\nlines.json"]


def test_a_reader_never_sees_half_a_file(case: Case) -> None:
    versions = [bytes([letter]) * (6 << 20) for letter in b"ab"]
    case.store.write("transcripts/a.json", versions[0])
    stop = threading.Event()

    def keep_writing() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            case.store.write("transcripts/a.json", versions[turn % 2])

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for _ in range(20):
            assert case.store.read("transcripts/a.json") in versions
            assert case.store.list("transcripts") == ["transcripts/a.json"]
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_recording_that_is_done_keeps_its_key_its_etag_and_its_sound(case: Case, name: str) -> None:
    case.put(name, b"the recording")
    key = keys.encode(name)
    before = case.store.stat(key)
    assert case.store.move_when_done(key, before.etag)
    assert listed(case.store) == []
    assert case.store.list_done()["key"].to_list() == [key]
    assert case.store.list_done().schema == SCHEMA
    after = case.store.stat(key)
    assert (after.key, after.etag, after.size) == (key, before.etag, 13)
    assert content(case.store.media_url(key)) == b"the recording"
    assert "/DONE_" in case.store.public_url(key)
    assert not case.store.move_when_done(key, before.etag)


def test_nothing_is_done_in_a_new_store(case: Case) -> None:
    assert case.store.list_done().is_empty()
    assert case.store.list_done().schema == SCHEMA
    with pytest.raises(NotFound):
        case.store.move_when_done("video/a.mp4", "1")


def test_a_new_version_is_not_moved_for_the_old_one(case: Case) -> None:
    case.put("video/a.mp4", b"one")
    old = case.store.stat("video/a.mp4")
    case.put("video/a.mp4", b"two, longer")
    assert not case.store.move_when_done("video/a.mp4", old.etag)
    assert listed(case.store) == ["video/a.mp4"]
    assert case.store.list_done().is_empty()


def test_a_new_recording_of_a_name_that_is_done_is_the_one_that_counts(case: Case) -> None:
    case.put("video/a.mp4", b"one")
    case.store.move_when_done("video/a.mp4", case.store.stat("video/a.mp4").etag)
    case.put("video/a.mp4", b"two, longer")
    new = case.store.stat("video/a.mp4")
    assert new.size == 11
    assert content(case.store.media_url("video/a.mp4")) == b"two, longer"
    assert "/DONE_" not in case.store.public_url("video/a.mp4")
    assert case.store.move_when_done("video/a.mp4", new.etag)
    assert case.store.stat("video/a.mp4").etag == new.etag
    assert content(case.store.media_url("video/a.mp4")) == b"two, longer"


def test_a_recording_that_is_replaced_where_it_is_done_has_another_etag(case: Case) -> None:
    case.put("video/a.mp4", b"one")
    before = case.store.stat("video/a.mp4")
    case.store.move_when_done("video/a.mp4", before.etag)
    case.put("DONE_video/a.mp4", b"another, cut by hand")
    assert case.store.stat("video/a.mp4").etag != before.etag


def test_lancedb_keeps_its_tables_in_the_store(case: Case) -> None:
    import lancedb

    rows = [{"id": "a", "vector": [0.0, 1.0]}]
    database = lancedb.connect(case.store.lancedb_uri, storage_options=case.store.lancedb_options)
    database.create_table("passages", rows)
    assert database.open_table("passages").count_rows() == 1
    assert any(path.startswith("lancedb/passages.lance/") for path in case.store.list("lancedb"))


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://example.org", "s3:///x"])
def test_what_is_not_a_store_is_refused_with_what_would_be_one(url: str) -> None:
    with pytest.raises(PermanentFailure, match="s3://bucket"):
        Store.open(url)


# What only a folder can do wrong


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_new_store_has_its_inboxes_so_that_people_see_where_to_drop_files(folder: Path) -> None:
    store = Store.open(str(folder))
    assert store.is_local
    assert store.url == str(folder)
    assert (folder / "video").is_dir()
    assert (folder / "audio").is_dir()


def test_a_file_url_means_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%"
    assert Store.open(folder.as_uri()).url == str(folder)


def test_urls_for_people_open_in_a_browser(folder: Path) -> None:
    store = Store.open(str(folder))
    assert store.public_url("video/%FF a.mp4").endswith("/store/video/%FF%20a.mp4")
    assert store.artefact_url("transcripts/100%25 ü.json").endswith("/transcripts/100%2525%20%C3%BC.json")


def test_a_name_that_is_not_utf_8_is_a_recording_like_any_other(folder: Path) -> None:
    store = Store.open(str(folder))
    Path(os.fsdecode(os.fsencode(folder) + b"/video/caf\xe9.mp4")).write_bytes(b"x")
    assert listed(store) == ["video/caf%E9.mp4"]
    assert store.stat("video/caf%E9.mp4").size == 1
    assert content(store.media_url("video/caf%E9.mp4")) == b"x"
    store.write(keys.transcript("video/caf%E9.mp4"), b"{}")
    assert store.list("transcripts") == ["transcripts/video/caf%E9.mp4.json"]


def test_a_link_to_a_recording_or_to_a_folder_of_them_is_followed(folder: Path, tmp_path: Path) -> None:
    store = Store.open(str(folder))
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.mp4").write_bytes(b"abc")
    (folder / "video" / "b.mp4").symlink_to(tmp_path / "archive" / "a.mp4")
    (folder / "video" / "archive").symlink_to(tmp_path / "archive")
    assert listed(store) == ["video/archive/a.mp4", "video/b.mp4"]
    assert content(store.media_url("video/b.mp4")) == b"abc"


def test_one_bad_entry_does_not_stop_the_others(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.open(str(folder))
    (folder / "video" / "a.mp4").write_bytes(b"x")
    (folder / "video" / "broken.mp4").symlink_to("nowhere")
    (folder / "video" / "itself.mp4").symlink_to("itself.mp4")
    (folder / "video" / "round").symlink_to(folder / "video")
    os.mkfifo(folder / "video" / "pipe.mp4")
    assert listed(store) == ["video/a.mp4"]
    for name in ("broken.mp4", "itself.mp4", "round"):
        assert name in caplog.text
    for name in ("pipe", "broken"):
        with pytest.raises(NotFound):
            store.stat(f"video/{name}.mp4")


def test_files_that_come_and_go_during_a_listing_do_not_stop_it(folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "video" / "stays.mp4").write_bytes(b"x")
    stop = threading.Event()

    def come_and_go() -> None:
        passing = [folder / "video" / f"passing{number}.mp4" for number in range(20)]
        while not stop.is_set():
            for path in passing:
                path.write_bytes(b"x")
            for path in passing:
                path.unlink()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(50):
            assert "video/stays.mp4" in listed(store)
    finally:
        stop.set()
        other.join()


def test_an_inbox_that_is_away_is_not_an_empty_inbox(folder: Path) -> None:
    store = Store.open(str(folder))
    shutil.rmtree(folder / "audio")
    with pytest.raises(TransientFailure, match=r"audio: .*mounted"):
        store.list_media()


def test_an_inbox_that_cannot_be_read_is_not_an_empty_inbox(folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "audio").rmdir()
    (folder / "audio").write_bytes(b"not a folder")
    with pytest.raises(TransientFailure, match="audio: cannot be read"):
        store.list_media()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
@pytest.mark.parametrize("mode", [0o000, 0o444], ids=["cannot be listed", "can be listed only"])
def test_a_folder_that_is_closed_to_us_is_not_an_empty_folder(folder: Path, mode: int) -> None:
    store = Store.open(str(folder))
    closed = folder / "video" / "closed"
    closed.mkdir()
    (closed / "a.mp4").write_bytes(b"x")
    closed.chmod(mode)
    with pytest.raises(TransientFailure, match=r"closed.*: cannot be read"):
        store.list_media()


def test_a_copy_that_keeps_its_old_date_still_counts_as_just_written(folder: Path) -> None:
    store = Store.open(str(folder))
    copy = folder / "video" / "a.mp4"
    copy.write_bytes(b"x")
    os.utime(copy, (0, 0))
    assert datetime.now(UTC) - store.stat("video/a.mp4").last_modified < timedelta(minutes=1)
    os.utime(copy, (2**33, 2**33))
    assert store.list_media().frame["last_modified"][0] < datetime.now(UTC) + timedelta(minutes=1)


def test_a_name_too_long_for_its_artefacts_is_refused_before_any_work_is_done(folder: Path) -> None:
    store = Store.open(str(folder))
    for stem in ("x" * 246, "%" * 84):
        (folder / "video" / f"{stem}.mp4").write_bytes(b"x")
    for key in listed(store):
        with pytest.raises(PermanentFailure, match=r"shorten the name by \d+ bytes"):
            store.stat(key)
        with pytest.raises(PermanentFailure, match="shorten the name"):
            store.write(keys.passages(key), b"")


def test_the_longest_name_that_is_accepted_can_have_all_its_artefacts(folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "video" / ("x" * 241 + ".mp4")).write_bytes(b"x")
    [key] = listed(store)
    assert store.stat(key).size == 1
    store.write(keys.passages(key), b"")


def test_what_a_killed_writer_left_is_not_an_artefact(folder: Path) -> None:
    store = Store.open(str(folder))
    store.write("transcripts/a.json", b"{}")
    (folder / "transcripts" / "b.json#1").write_bytes(b"half")
    assert store.list("transcripts") == ["transcripts/a.json"]


def test_a_rename_keeps_the_etag_so_nothing_has_to_be_remembered(folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "video" / "a.mp4").write_bytes(b"x")
    assert store.move_when_done("video/a.mp4", store.stat("video/a.mp4").etag)
    assert not (folder / "moved").exists()


def test_what_lies_elsewhere_by_way_of_a_link_is_not_taken_from_there(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(str(folder))
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.mp4").write_bytes(b"abc")
    (folder / "video" / "b.mp4").symlink_to(tmp_path / "archive" / "a.mp4")
    (folder / "video" / "archive").symlink_to(tmp_path / "archive")
    for key in listed(store):
        assert not store.move_when_done(key, store.stat(key).etag)
    assert listed(store) == ["video/archive/a.mp4", "video/b.mp4"]
    assert "stays where it is" in caplog.text


@pytest.mark.parametrize("keeps_times", [True, False])
def test_a_recording_is_carried_to_another_disk_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, keeps_times: bool
) -> None:
    other_disk = Path("/dev/shm")  # noqa: S108 - tmpfs, another device than the folder of the test
    if not other_disk.is_dir() or other_disk.stat().st_dev == folder.parent.stat().st_dev:
        pytest.skip("there is no other disk here")
    if not keeps_times:
        monkeypatch.setattr(shutil, "copystat", lambda *_args, **_options: None)
    store = Store.open(str(folder))
    (folder / "video" / "a.mp4").write_bytes(b"the recording")
    os.utime(folder / "video" / "a.mp4", (1, 1))
    with tempfile.TemporaryDirectory(dir=other_disk) as disk:
        (folder / "DONE_video").symlink_to(disk)
        before = store.stat("video/a.mp4")
        assert store.move_when_done("video/a.mp4", before.etag)
        assert listed(store) == []
        assert [path.name for path in Path(disk).iterdir()] == ["a.mp4"]
        assert store.stat("video/a.mp4").etag == before.etag
        assert content(store.media_url("video/a.mp4")) == b"the recording"


def test_a_version_that_arrives_in_the_moment_of_the_move_is_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(folder))
    (folder / "video" / "a.mp4").write_bytes(b"one")
    old = store.stat("video/a.mp4")
    rename = Path.replace

    def replaced_meanwhile(self: Path, target: Path) -> Path:
        self.write_bytes(b"two, longer")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replaced_meanwhile)
    assert not store.move_when_done("video/a.mp4", old.etag)
    assert listed(store) == ["video/a.mp4"]
    assert (folder / "video" / "a.mp4").read_bytes() == b"two, longer"
    assert store.list_done().is_empty()


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(PermanentFailure, match="file"):
        Store.open(str(tmp_path / "file" / "store"))


# What only a bucket can do wrong


@pytest.mark.usefixtures("s3_endpoint")
def test_a_missing_bucket_is_said_at_once() -> None:
    with pytest.raises(PermanentFailure, match="no such bucket"):
        Store.open("s3://nobody-made-this", s3_session=seaweed.session())


def test_a_bucket_that_is_gone_is_not_an_empty_bucket(s3_endpoint: seaweed.S3Server) -> None:
    s3_endpoint.client().create_bucket(Bucket="shortlived")
    store = Store.open("s3://shortlived", s3_session=seaweed.session())
    assert listed(store) == []
    s3_endpoint.client().delete_bucket(Bucket="shortlived")
    with pytest.raises(PermanentFailure, match="no such bucket"):
        store.list_media()


def test_wrong_credentials_are_refused_with_what_to_do(s3_endpoint: seaweed.S3Server) -> None:
    stranger = seaweed.session(seaweed.Account("owner", "wrong"))
    with pytest.raises(PermanentFailure, match=r"access refused.*credentials"):
        Store.open(f"s3://{s3_endpoint.bucket}", s3_session=stranger)


@pytest.mark.usefixtures("s3_endpoint")
def test_no_credentials_at_all_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") and "ENDPOINT" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(PermanentFailure, match="no AWS credentials"):
        Store.open("s3://media")


def test_credentials_that_may_only_read_do_not_look_like_a_passing_trouble(
    s3_endpoint: seaweed.S3Server,
) -> None:
    store = Store.open(f"s3://{s3_endpoint.bucket}/reader", s3_session=seaweed.session(seaweed.READER))
    assert listed(store) == []
    with pytest.raises(PermanentFailure, match="access refused"):
        store.write("transcripts/a.json", b"{}")
    with pytest.raises(PermanentFailure, match="access refused"):
        store.delete("transcripts/a.json")


def test_ffmpeg_can_seek_in_a_recording_for_an_hour_without_credentials(
    s3_endpoint: seaweed.S3Server,
) -> None:
    case = bucket_case(s3_endpoint)
    case.put("video/a b.mp4", b"0123456789")
    url = case.store.media_url("video/a b.mp4")
    assert "X-Amz-Expires=3600" in url
    with urlopen(Request(url, headers={"Range": "bytes=3-5"})) as response:  # noqa: S310
        assert response.read() == b"345"


def test_people_are_shown_where_an_object_is_without_a_signature(s3_endpoint: seaweed.S3Server) -> None:
    store = Store.open(f"s3://{s3_endpoint.bucket}/", s3_session=seaweed.session())
    assert not store.is_local
    assert store.url == f"s3://{s3_endpoint.bucket}"
    assert store.public_url("video/a%2Cb.mp4") == f"s3://{s3_endpoint.bucket}/video/a,b.mp4"
    assert store.lancedb_uri == f"s3://{s3_endpoint.bucket}/lancedb"


def test_a_name_too_long_for_s3_with_its_artefacts_is_refused_before_any_work_is_done(
    s3_endpoint: seaweed.S3Server,
) -> None:
    case = bucket_case(s3_endpoint)
    name = "/".join(["video", *["x" * 100] * 9, "a.mp4"])
    case.put(name, b"x")
    assert listed(case.store) == [name]
    assert case.store.stat(name).size == 1
    long = "/".join(["video", *["x" * 100] * 9, "x" * 70 + ".mp4"])
    case.put(long, b"x")
    with pytest.raises(PermanentFailure, match=r"shorten the name by \d+ bytes"):
        case.store.stat(long)


def test_more_objects_than_one_page_holds_are_all_listed(s3_endpoint: seaweed.S3Server) -> None:
    case = bucket_case(s3_endpoint)
    names = [f"audio/{number:04}.mp3" for number in range(1005)]
    for name in names:
        case.put(name, b"")
    assert listed(case.store) == names
    case.put("audio/a\nb.mp3", b"")
    assert listed(case.store) == [*names, "audio/a%0Ab.mp3"]


def test_a_large_object_is_copied_in_parts_and_keeps_what_it_says_of_itself(
    s3_endpoint: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Over 5 GB S3 refuses to copy in one piece; here every object over 5 MiB goes the way that those go.
    monkeypatch.setattr(bucket, "_COPY_PART", 5 << 20)
    case = bucket_case(s3_endpoint)
    place: Any = case.store._place  # noqa: SLF001 - to put an object with headers where the case's prefix is
    data = os.urandom(12 << 20)
    name = f"{place._prefix}video/deep/a.mp4"  # noqa: SLF001
    client = s3_endpoint.client()
    client.put_object(Bucket=s3_endpoint.bucket, Key=name, Body=data, ContentType="video/mp4", Metadata={"camera": "3"})
    before = case.store.stat("video/deep/a.mp4")
    assert case.store.move_when_done("video/deep/a.mp4", before.etag)
    head = client.head_object(Bucket=s3_endpoint.bucket, Key=name.replace("video/", "DONE_video/"))
    assert head["ETag"].endswith('-3"')
    assert (head["ContentType"], head["Metadata"]) == ("video/mp4", {"camera": "3"})
    assert case.store.stat("video/deep/a.mp4").etag == before.etag
    assert content(case.store.media_url("video/deep/a.mp4")) == data
    assert listed(case.store) == []


def test_a_version_that_arrives_during_the_copy_stays_in_the_inbox(
    s3_endpoint: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = bucket_case(s3_endpoint)
    case.put("video/a.mp4", b"one")
    old = case.store.stat("video/a.mp4")
    copied = bucket.Bucket._copied  # noqa: SLF001

    def replaced_meanwhile(self: bucket.Bucket, source: str, target: str, etag: str) -> bool:
        there = copied(self, source, target, etag)
        case.put("video/a.mp4", b"two, longer")
        return there

    monkeypatch.setattr(bucket.Bucket, "_copied", replaced_meanwhile)
    assert not case.store.move_when_done("video/a.mp4", old.etag)
    assert listed(case.store) == ["video/a.mp4"]
    assert content(case.store.media_url("video/a.mp4")) == b"two, longer"


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
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        try:
            yield Store.open("s3://bucket", s3_session=seaweed.session())
        finally:
            server.shutdown()
            thread.join()


def test_a_busy_store_is_asked_again(busy_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Busy, "script", [(503, "SlowDown"), (500, "InternalError")], raising=False)
    assert busy_store.read("transcripts/a.json") == b"the object"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ((400, "RequestTimeout"), TransientFailure),
        ((400, "ExpiredToken"), TransientFailure),
        ((400, "AuthorizationHeaderMalformed"), PermanentFailure),
        ((403, "AccessDenied"), PermanentFailure),
        ((404, "NoSuchBucket"), PermanentFailure),
        ((404, "NoSuchKey"), NotFound),
    ],
)
def test_only_what_may_pass_is_called_transient(
    busy_store: Store, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str], failure: type[Exception]
) -> None:
    monkeypatch.setattr(Busy, "script", [answer], raising=False)
    with pytest.raises(failure) as raised:
        busy_store.read("transcripts/a.json")
    assert type(raised.value) is failure
    assert "s3://bucket" in str(raised.value)
