"""Behaviour and failures that only a folder has."""

import os
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound, Occupied, PermanentFailure, TransientFailure
from transcription_assets.storage import Store
from transcription_assets_tests.stores import content, listed


def test_new_store_has_inbox_folders(folder: Path) -> None:
    store = Store.open(str(folder))
    assert store.is_local
    assert store.url == str(folder)
    assert (folder / "video").is_dir()
    assert (folder / "audio").is_dir()


def test_file_url_opens_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%"
    assert Store.open(folder.as_uri()).url == str(folder)


def test_public_urls_are_percent_encoded_for_browsers(folder: Path) -> None:
    store = Store.open(str(folder))
    assert store.public_url("video/%FF a.mp4").endswith("/store/video/%FF%20a.mp4")
    assert store.artefact_url("transcripts/100%25 ü.json").endswith("/transcripts/100%2525%20%C3%BC.json")


def test_recording_with_a_non_utf8_name_is_usable(folder: Path) -> None:
    store = Store.open(str(folder))
    Path(os.fsdecode(os.fsencode(folder) + b"/video/caf\xe9.mp4")).write_bytes(b"x")
    assert listed(store) == ["video/caf%E9.mp4"]
    assert store.stat("video/caf%E9.mp4").size == 1
    assert content(store.media_url("video/caf%E9.mp4")) == b"x"
    store.write(media_keys.transcript("video/caf%E9.mp4"), b"{}")
    assert store.list("transcripts") == ["transcripts/video/caf%E9.mp4.json"]


def test_link_to_an_allowed_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    store = Store.open(str(folder), link_roots=[tmp_path / "archive"])
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.mp4").write_bytes(b"abc")
    (folder / "video" / "b.mp4").symlink_to(tmp_path / "archive" / "a.mp4")
    (folder / "video" / "archive").symlink_to(tmp_path / "archive")
    assert listed(store) == ["video/archive/a.mp4", "video/b.mp4"]
    assert content(store.media_url("video/b.mp4")) == b"abc"


def test_folder_in_place_of_a_file_is_told(folder: Path) -> None:
    """A folder `q.mp3.json/` beside `q.mp3` has the name of records of that recording; in a bucket both can exist."""
    store = Store.open(str(folder))
    store.write("failures/audio/q.mp3.json/r.wav.json", b"{}")
    store.write("posters/audio/q.mp3.json", b"{}")
    for path in ("failures/audio/q.mp3.json", "posters/audio/q.mp3.json/r.wav.json"):
        with pytest.raises(Occupied):
            store.read(path)
        with pytest.raises(Occupied):
            store.write(path, b"{}")


def test_invalid_entries_do_not_stop_a_listing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_files_appearing_and_vanishing_do_not_stop_a_listing(folder: Path) -> None:
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


def test_missing_inbox_is_a_transient_failure(folder: Path) -> None:
    store = Store.open(str(folder))
    shutil.rmtree(folder / "audio")
    with pytest.raises(TransientFailure, match="audio: ") as caught:
        store.list_media()
    assert caught.value.hint


def test_unreadable_inbox_is_a_transient_failure(folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "audio").rmdir()
    (folder / "audio").write_bytes(b"not a folder")
    with pytest.raises(TransientFailure, match="audio: ") as caught:
        store.list_media()
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every folder")
@pytest.mark.parametrize("mode", [0o000, 0o444], ids=["no permission", "list only"])
def test_folder_without_permission_is_a_transient_failure(folder: Path, mode: int) -> None:
    store = Store.open(str(folder))
    closed = folder / "video" / "closed"
    closed.mkdir()
    (closed / "a.mp4").write_bytes(b"x")
    closed.chmod(mode)
    with pytest.raises(TransientFailure, match="closed"):
        store.list_media()


def test_copy_with_an_old_date_counts_as_just_written(folder: Path) -> None:
    store = Store.open(str(folder))
    copy = folder / "video" / "a.mp4"
    copy.write_bytes(b"x")
    os.utime(copy, (0, 0))
    assert datetime.now(UTC) - store.stat("video/a.mp4").last_modified < timedelta(minutes=1)
    os.utime(copy, (2**33, 2**33))
    assert store.list_media().frame["last_modified"][0] < datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize("stem", ["x" * 246, "x" * 251, "%" * 84])
def test_longest_names_can_have_all_artefacts(stem: str, folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "video" / f"{stem}.mp4").write_bytes(b"x")
    [key] = listed(store)
    assert store.stat(key).size == 1
    for path in media_keys.artefacts(key):
        store.write(path, b"")


def test_long_name_with_short_suffix_can_have_passages(folder: Path) -> None:
    store = Store.open(str(folder))
    (folder / "video" / ("x" * 241 + ".mp4")).write_bytes(b"x")
    [key] = listed(store)
    assert store.stat(key).size == 1
    store.write(media_keys.passages(key), b"")


def test_leftover_of_a_killed_writer_is_not_an_artefact(folder: Path) -> None:
    store = Store.open(str(folder))
    store.write("transcripts/a.json", b"{}")
    (folder / "transcripts" / "b.json#1").write_bytes(b"half")
    assert store.list("transcripts") == ["transcripts/a.json"]


def test_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(PermanentFailure, match="file"):
        Store.open(str(tmp_path / "file" / "store"))
