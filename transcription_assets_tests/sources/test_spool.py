"""The spool of uploads: offsets, limits, checksums, and what a killed process leaves."""

import fcntl
import hashlib
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.domain.media_keys import encode, is_media
from transcription_assets.errors import NotFound, StoreAway, StoreFull, TooLarge, TranscriptionError
from transcription_assets.sources import names, spool
from transcription_assets.sources.spool import Checksum, SpoolLimits, Upload, UploadRequest, UploadSpool
from transcription_assets.web.archive import is_media_key

LIMITS = SpoolLimits(most_bytes=1000, most_unfinished_bytes=2500, most_unfinished=4, expire_s=60.0)


@pytest.fixture
def place(tmp_path: Path) -> UploadSpool:
    return UploadSpool(tmp_path / "uploads", LIMITS)


def talk(length: int = 100) -> UploadRequest:
    return UploadRequest("a talk.mp4", length)


def append(place: UploadSpool, upload: Upload, offset: int, data: bytes, checksum: Checksum | None = None) -> int:
    with place.writing(upload.identifier, offset, checksum) as writer:
        writer.write(data)
    return writer.offset


@given(
    data=st.binary(min_size=1, max_size=1000),
    requests=st.lists(
        st.tuples(st.integers(-3, 3), st.integers(0, 400), st.sampled_from(["", "good", "bad"]), st.booleans()),
        max_size=12,
    ),
)
def test_any_order_of_requests_gives_the_same_bytes(data: bytes, requests: list[tuple[int, int, str, bool]]) -> None:
    with TemporaryDirectory() as folder:
        place = UploadSpool(Path(folder), LIMITS)
        upload = place.create(talk(len(data)))
        received = 0
        for shift, length, checked, is_restarted in requests:
            if is_restarted:
                place = UploadSpool(Path(folder), LIMITS)
            block = data[received : received + length]
            sent = hashlib.sha1(block if checked == "good" else block + b"x", usedforsecurity=False).digest()
            checksum = Checksum("sha1", sent) if checked else None
            try:
                append(place, upload, received + shift, block, checksum)
            except spool.WrongOffset:
                assert shift
            except spool.WrongChecksum:
                assert checked == "bad"
            else:
                received += len(block)
            assert place.offset(place.get(upload.identifier)) == received
        append(place, upload, received, data[received:])
        assert place.path(upload.identifier).read_bytes() == data


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (UploadRequest("notes.txt", 10), spool.UnsupportedFile),
        (UploadRequest("", 10), spool.UnsupportedFile),
        (UploadRequest("..", 10), spool.UnsupportedFile),
        (UploadRequest(".mp4", 10), spool.UnsupportedFile),
        (talk(0), spool.EmptyFile),
        (talk(1001), TooLarge),
    ],
    ids=["suffix", "no name", "dots", "only a suffix", "empty", "too large"],
)
def test_what_cannot_become_a_recording_is_refused(
    place: UploadSpool, request_: UploadRequest, error: type[TranscriptionError]
) -> None:
    with pytest.raises(error):
        place.create(request_)
    assert not place.folder.exists()


def test_unfinished_uploads_are_limited_in_number_and_size(tmp_path: Path) -> None:
    place = UploadSpool(tmp_path, LIMITS)
    kept = [place.create(talk(1000)) for _ in range(2)]
    with pytest.raises(StoreFull):
        place.create(talk(501))
    place.create(talk(1))
    place.create(talk(1))
    with pytest.raises(spool.TooManyUploads):
        place.create(talk(1))
    place.mark(kept[0], "landed")
    place.create(talk(1000))


def test_no_upload_begins_without_room_on_the_disk(tmp_path: Path) -> None:
    place = UploadSpool(tmp_path, LIMITS, free=lambda _folder: spool.FREE_BYTES + 150)
    place.create(talk(100))
    with pytest.raises(StoreFull):
        place.create(talk(100))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_keeps_what_was_received(place: UploadSpool) -> None:
    upload = place.create(talk(100))
    append(place, upload, 0, b"x" * 10)
    with Path("/dev/full").open("r+b", buffering=0) as full, place.writing(upload.identifier, 10) as writer:
        writer.file = full
        with pytest.raises(StoreFull):
            writer.write(b"y")
    assert place.offset(upload) == 10


def test_more_bytes_than_announced_are_refused(place: UploadSpool) -> None:
    upload = place.create(talk(10))
    with pytest.raises(TooLarge):
        append(place, upload, 0, b"x" * 11)
    assert place.offset(upload) == 0


def test_an_upload_has_one_writer(place: UploadSpool) -> None:
    upload = place.create(talk())
    with place.writing(upload.identifier, 0):
        with pytest.raises(spool.UploadInUse):
            append(place, upload, 0, b"x")
        with pytest.raises(spool.UploadInUse):
            place.discard(upload.identifier)
    assert append(place, upload, 0, b"x") == 1


def test_unchecked_bytes_of_a_killed_process_do_not_count(place: UploadSpool) -> None:
    upload = place.create(talk())
    append(place, upload, 0, b"good")
    record = place.folder / f"{upload.identifier}.json"
    record.write_text(json.dumps(asdict(replace(upload, unchecked_from=4))))
    with place.path(upload.identifier).open("ab") as file:
        file.write(b"unchecked")
    found = place.get(upload.identifier)
    assert place.offset(found) == 4
    append(place, found, 4, b"more")
    assert place.offset(place.get(upload.identifier)) == 8
    assert place.path(upload.identifier).read_bytes() == b"goodmore"


def test_abandoned_uploads_and_old_results_expire(place: UploadSpool) -> None:
    old, ended, fresh = (place.create(talk()) for _ in range(3))
    place.mark(ended, "failed", "not a recording")
    stray = place.folder / f"{'0' * 32}.part"
    stray.touch()
    for path in (place.path(old.identifier), stray, *place.folder.glob(f"{ended.identifier}.*")):
        os.utime(path, (time.time() - 61, time.time() - 61))
    assert place.expire() == 2
    assert [upload.identifier for upload in place.all()] == [fresh.identifier]
    assert not stray.exists()


@pytest.mark.parametrize("state", ["receiving", "checking", "storing"])
def test_complete_uploads_do_not_expire(place: UploadSpool, state: spool.State) -> None:
    upload = place.create(talk(4))
    append(place, upload, 0, b"data")
    place.mark(upload, state)
    later = replace(place, now=lambda: time.time() + 1e6)
    assert later.expire() == 0
    assert later.expires(place.get(upload.identifier)) > later.now()


@pytest.mark.parametrize(("is_resumable", "data"), [(True, b""), (False, b"some")], ids=["no bytes", "one request"])
def test_what_nobody_continues_expires_early(tmp_path: Path, is_resumable: bool, data: bytes) -> None:  # noqa: FBT001
    place = UploadSpool(tmp_path, replace(LIMITS, expire_s=1e6))
    upload = place.create(replace(talk(), is_resumable=is_resumable))
    append(place, upload, 0, data)
    assert place.expire() == 0
    assert replace(place, now=lambda: time.time() + spool.UNSTARTED_S + 60).expire() == 1


@pytest.mark.parametrize("next_checksum", [False, True], ids=["without", "with"])
def test_an_interrupted_checked_request_is_continued(place: UploadSpool, next_checksum: bool) -> None:  # noqa: FBT001
    upload = place.create(talk(8))
    data = b"complete"
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    writing = place.writing(upload.identifier, 0, Checksum("sha1", digest))
    writing.__enter__().write(data)
    writing.__exit__(StoreAway, StoreAway(), None)
    assert place.get(upload.identifier).unchecked_from is None
    assert append(place, upload, 0, data, Checksum("sha1", digest) if next_checksum else None) == 8
    assert place.offset(place.get(upload.identifier)) == 8


def test_a_file_that_lost_its_name_is_not_locked(place: UploadSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = place.create(talk())
    lock = fcntl.flock

    def lock_late(file: Any, kind: int) -> None:
        place.path(upload.identifier).unlink(missing_ok=True)
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with pytest.raises(NotFound), place.locked(upload.identifier):
        pass


@pytest.mark.parametrize("identifier", ["../../etc/passwd", "0" * 32, "x", "", "0" * 31 + "\n"])
def test_unknown_identifiers_name_no_file(place: UploadSpool, identifier: str) -> None:
    with pytest.raises(NotFound):
        place.get(identifier)


def test_damaged_records_are_no_uploads(place: UploadSpool) -> None:
    upload = place.create(talk())
    (place.folder / f"{upload.identifier}.json").write_text("[1")
    with pytest.raises(NotFound):
        place.get(upload.identifier)
    assert place.all() == []


@pytest.mark.parametrize(
    ("filename", "kind", "folder", "name"),
    [
        ("../x.mp4", "", "", "video/uploads/x 0f.mp4"),
        ("C:\\talks\\My Talk.MP3", "", "", "audio/uploads/My Talk 0f.mp3"),
        ("a\nb\x07c\u202e.wav", "", "", "audio/uploads/a b c 0f.wav"),
        ("???.mp4", "", "", "video/uploads/0f.mp4"),
        ("recording", "audio/mpeg; charset=x", "", "audio/uploads/recording 0f.mp3"),
        ("a.mp4", "", "../talks//2026/..", "video/uploads/talks/2026/a 0f.mp4"),
        ("Größe, 1 (2).mp4", "", "", "video/uploads/Größe, 1 (2) 0f.mp4"),
        ("._a.mp4", "", "", "video/uploads/_a 0f.mp4"),
        ("a.exe", "video/mp4", "", "video/uploads/a.exe 0f.mp4"),
    ],
)
def test_names_of_clients_become_safe_names(filename: str, kind: str, folder: str, name: str) -> None:
    assert names.uploaded(filename, kind, folder, "0f") == name


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_name_becomes_a_recording_in_its_folder(filename: str, folder: str) -> None:
    name = names.uploaded(f"{filename}.mp4", "", folder, "3f2a9b1c")
    if name:
        assert name.startswith("video/uploads/")
        assert is_media(name)
        assert is_media_key(encode(name))
        assert not {"", ".", ".."} & set(name.split("/"))
        assert all(len(part.encode()) < 200 for part in name.split("/"))
        assert len(name.encode()) < 500
        assert name.count("/") <= 2 + names.MOST_FOLDERS
