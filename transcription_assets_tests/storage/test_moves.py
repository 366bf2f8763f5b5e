"""Finished recordings leave the inbox of a folder or a bucket and stay readable under the same key."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.inbox_diff import SCHEMA
from transcription_assets.errors import NotFound
from transcription_assets.storage import Store, bucket
from transcription_assets_tests import seaweed
from transcription_assets_tests.stores import ODD_NAMES, Case, bucket_case, content, listed


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_moved_recording_keeps_key_etag_and_content(case: Case, name: str) -> None:
    case.put(name, b"the recording")
    key = media_keys.encode(name)
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


def test_new_store_has_no_finished_recordings(case: Case) -> None:
    assert case.store.list_done().is_empty()
    assert case.store.list_done().schema == SCHEMA
    with pytest.raises(NotFound):
        case.store.move_when_done("video/a.mp4", "1")


def test_new_version_is_not_moved_in_place_of_the_old_one(case: Case) -> None:
    case.put("video/a.mp4", b"one")
    old = case.store.stat("video/a.mp4")
    case.put("video/a.mp4", b"two, longer")
    assert not case.store.move_when_done("video/a.mp4", old.etag)
    assert listed(case.store) == ["video/a.mp4"]
    assert case.store.list_done().is_empty()


def test_new_recording_takes_precedence_over_the_done_one(case: Case) -> None:
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


def test_replaced_done_recording_has_a_new_etag(case: Case) -> None:
    case.put("video/a.mp4", b"one")
    before = case.store.stat("video/a.mp4")
    case.store.move_when_done("video/a.mp4", before.etag)
    case.put("DONE_video/a.mp4", b"another, cut by hand")
    assert case.store.stat("video/a.mp4").etag != before.etag


def test_rename_keeps_the_etag_and_needs_no_record(folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "video" / "a.mp4").write_bytes(b"x")
    assert store.move_when_done("video/a.mp4", store.stat("video/a.mp4").etag)
    assert not (folder / "moved").exists()


def test_linked_recording_is_not_moved(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.open(str(folder), link_roots=[tmp_path / "archive"])
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.mp4").write_bytes(b"abc")
    (folder / "video" / "b.mp4").symlink_to(tmp_path / "archive" / "a.mp4")
    (folder / "video" / "archive").symlink_to(tmp_path / "archive")
    for key in listed(store):
        assert not store.move_when_done(key, store.stat(key).etag)
    assert listed(store) == ["video/archive/a.mp4", "video/b.mp4"]
    assert [record.levelname for record in caplog.records if record.module == "folder"] == ["WARNING"] * 2


@pytest.mark.parametrize("keeps_times", [True, False])
def test_recording_is_moved_completely_to_another_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, keeps_times: bool
) -> None:
    other_disk = Path("/dev/shm")  # noqa: S108 - tmpfs, another device than the folder of the test
    if not other_disk.is_dir() or other_disk.stat().st_dev == folder.parent.stat().st_dev:
        pytest.skip("no second file system is available")
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


def test_version_replaced_during_a_rename_is_put_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_large_object_is_copied_in_parts_with_its_metadata(
    s3_endpoint: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # S3 refuses to copy more than 5 GB in one request; the lowered limit forces a copy in parts.
    monkeypatch.setattr(bucket, "_COPY_PART", 5 << 20)
    case = bucket_case(s3_endpoint)
    place: Any = case.store._backend  # noqa: SLF001 - to put an object with headers below the case's prefix
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


def test_version_replaced_during_a_copy_stays_in_the_inbox(
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
