"""The storage contract, tested on a folder and on a bucket of a real S3 server."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.inbox_diff import SCHEMA
from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.storage import Store
from transcription_assets_tests.stores import ODD_NAMES, Case, content, listed


def test_listing_includes_every_odd_name(case: Case) -> None:
    for number, name in enumerate(ODD_NAMES.values()):
        case.put(name, b"x" * number)
    listing = case.store.list_media()
    assert listing.frame.schema == SCHEMA
    assert listed(case.store) == sorted(media_keys.encode(name) for name in ODD_NAMES.values())
    sizes = dict(listing.frame.select("key", "size").iter_rows())
    assert sizes == {media_keys.encode(name): number for number, name in enumerate(ODD_NAMES.values())}
    assert listing.frame.null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_recording_with_odd_name_is_readable_with_its_artefacts(case: Case, name: str) -> None:
    case.put(name, b"the recording")
    [(key, etag, size, last_modified)] = case.store.list_media().frame.iter_rows()
    now = case.store.stat(key)
    assert (now.key, now.etag, now.size) == (key, etag, size) == (media_keys.encode(name), etag, 13)
    assert abs(now.last_modified - last_modified) < timedelta(seconds=1)
    assert content(case.store.media_url(key)) == b"the recording"
    for path in (media_keys.flac(key), media_keys.transcript(key), media_keys.passages(key), media_keys.poster(key)):
        case.store.write(path, path.encode())
        assert case.store.read(path) == path.encode()
        assert case.store.exists(path)
        assert case.store.list(path.partition("/")[0]) == [path]
    assert listed(case.store) == [key]


def test_part_of_a_recording_can_be_read(case: Case) -> None:
    case.put("audio/a.wav", b"0123456789")
    case.put("audio/empty.wav", b"")
    assert case.store.read_media("audio/a.wav", 0, 4) == b"0123"
    assert case.store.read_media("audio/a.wav", 8, 4) == b"89"
    assert case.store.read_media("audio/a.wav", 10, 4) == b""
    assert case.store.read_media("audio/empty.wav", 0, 4) == b""
    with pytest.raises(NotFound):
        case.store.read_media("audio/gone.wav", 0, 4)


def test_empty_store_has_an_empty_listing(case: Case) -> None:
    listing = case.store.list_media()
    assert listing.frame.schema == SCHEMA
    assert listing.frame.is_empty()
    assert listing.ignored == 0


def test_other_files_are_counted_as_ignored(case: Case) -> None:
    for name in ("video/a.mp4", "video/notes.txt", "video/.DS_Store", "audio/b.mp3.part", "other/c.mp4"):
        case.put(name, b"x")
    listing = case.store.list_media()
    assert listing.frame["key"].to_list() == ["video/a.mp4"]
    assert listing.ignored == 3


def test_replaced_recording_has_a_new_etag(case: Case) -> None:
    case.put("video/a.mp4", b"one")
    before = case.store.stat("video/a.mp4")
    case.put("video/a.mp4", b"two, longer")
    after = case.store.stat("video/a.mp4")
    assert before.etag != after.etag
    assert case.store.list_media().frame["etag"].to_list() == [after.etag]
    assert before.last_modified <= after.last_modified


def test_modification_time_is_current_and_in_utc(case: Case) -> None:
    case.put("video/a.mp4", b"x")
    found = case.store.stat("video/a.mp4")
    assert abs(datetime.now(UTC) - found.last_modified) < timedelta(minutes=1)


def test_artefact_states_when_it_was_written(case: Case) -> None:
    case.store.write("transcripts/audio/a.wav.json", b"{}")
    found = case.store.last_modified("transcripts/audio/a.wav.json")
    assert abs(datetime.now(UTC) - found) < timedelta(minutes=5)
    with pytest.raises(NotFound):
        case.store.last_modified("transcripts/audio/b.wav.json")


def test_deleted_recording_is_not_found(case: Case) -> None:
    case.put("video/a.mp4", b"x")
    case.remove("video/a.mp4")
    with pytest.raises(NotFound, match=r"video/a\.mp4"):
        case.store.stat("video/a.mp4")
    assert listed(case.store) == []


@pytest.mark.parametrize(
    "key", ["../secret.mp4", "video/../../secret.mp4", "%2Fetc%2Fpasswd", "video/%2E%2E/x.mp4", ""]
)
def test_key_cannot_escape_the_store(case: Case, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    with pytest.raises(PermanentFailure):
        case.store.stat(key)


@pytest.mark.parametrize("path", ["../a.json", "transcripts/../../a.json", "a\nb", "a//b"])
def test_invalid_path_is_refused_with_its_name(case: Case, path: str) -> None:
    with pytest.raises(PermanentFailure, match=path.partition("\n")[0]):
        case.store.write(path, b"")


@pytest.mark.parametrize("size", [0, 1, 11 << 20])
def test_files_of_all_sizes_round_trip(case: Case, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    case.store.upload("extracted/a.flac", source)
    case.store.fetch("extracted/a.flac", target)
    assert target.read_bytes() == data
    assert case.store.read("extracted/a.flac") == data
    case.store.write("extracted/b.flac", data)
    assert case.store.read("extracted/b.flac") == data


def test_missing_artefact_is_not_found_and_can_be_deleted(case: Case, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"transcripts/a\.json"):
        case.store.read("transcripts/a.json")
    with pytest.raises(NotFound):
        case.store.fetch("transcripts/a.json", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert not case.store.exists("transcripts/a.json")
    case.store.delete("transcripts/a.json", "transcripts/b.json")
    assert case.store.list("transcripts/") == []


def test_delete_removes_only_the_given_paths(case: Case) -> None:
    for name in ("a.json", "a.json.bak", "b.json", "c/d.json"):
        case.store.write(f"transcripts/{name}", b"{}")
    case.store.write("transcripts2/a.json", b"{}")
    case.store.delete("transcripts/a.json", "transcripts/nothing", "transcripts/b.json")
    assert case.store.list("transcripts/") == ["transcripts/a.json.bak", "transcripts/c/d.json"]
    assert case.store.list("transcripts2") == ["transcripts2/a.json"]


def test_odd_name_hides_no_other_artefact(case: Case) -> None:
    case.store.write("transcripts/a.json", b"{}")
    case.store.write("transcripts2/a.json", b"{}")
    case.put("transcripts/two\nlines.json", b"{}")
    assert case.store.list("transcripts") == ["transcripts/a.json", "transcripts/two\nlines.json"]


def test_reader_never_sees_a_partial_file(case: Case) -> None:
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


def test_lancedb_stores_tables_in_the_store(case: Case) -> None:
    import lancedb

    rows = [{"id": "a", "vector": [0.0, 1.0]}]
    database = lancedb.connect(case.store.lancedb_uri, storage_options=case.store.lancedb_options)
    database.create_table("passages", rows)
    assert database.open_table("passages").count_rows() == 1
    assert any(path.startswith("lancedb/passages.lance/") for path in case.store.list("lancedb"))


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://example.org", "s3:///x"])
def test_unsupported_store_url_is_refused(url: str) -> None:
    with pytest.raises(PermanentFailure) as caught:
        Store.open(url)
    assert caught.value.hint
