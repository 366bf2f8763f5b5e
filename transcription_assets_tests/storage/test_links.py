"""Links in an inbox: their targets are read and served only inside the store or an allowed root."""

from pathlib import Path

import pytest

from transcription_assets.cli import put
from transcription_assets.errors import PermanentFailure, Refused
from transcription_assets.pipeline import transcript, video
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, served
from transcription_assets_tests.stores import content, listed

SECRET = b"root:x:0:0\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder outside the store, with a recording and a text file."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(SECRET)
    (folder / "vocabulary.txt").write_bytes(SECRET)
    return folder


@pytest.fixture
def store(folder: Path, outside: Path) -> Store:
    """A store with links that lead out of it, and one regular recording."""
    made = Store.open(str(folder))
    (folder / "video/good.mp4").write_bytes(b"good")
    (folder / "video/file.mp4").symlink_to(outside / "a.mp4")
    (folder / "video/folder").symlink_to(outside)
    (folder / "posters/video").mkdir(parents=True)
    (folder / "posters/video/good.mp4.jpg").symlink_to(outside / "a.mp4")
    (folder / "extracted/video").mkdir(parents=True)
    (folder / "extracted/video/good.mp4.flac").symlink_to(outside / "a.mp4")
    (folder / "video/vocabulary.txt").symlink_to(outside / "vocabulary.txt")
    return made


LINKED = ("video/file.mp4", "video/folder/a.mp4")


def test_listing_omits_links_out_of_the_store(store: Store) -> None:
    listing = store.list_media()
    assert listing.frame["key"].to_list() == ["video/good.mp4"]
    assert listing.unread == 2, "links must count as unread, or their recordings would be treated as removed"


@pytest.mark.parametrize("key", LINKED)
def test_link_out_of_the_store_is_not_read(store: Store, key: str) -> None:
    for attempt in (store.stat, store.media_url, store.read, store.exists, store.readable_url):
        with pytest.raises(Refused) as failure:
            attempt(key)
        assert "TRANSCRIPTION_LINK_ROOTS" in failure.value.hint
    with pytest.raises(Refused):
        video.materialise(store, key, MediaDecoder(recordings.wheel_ffmpeg()))
    with pytest.raises(Refused):
        transcript.vocabulary(store, "video/good.mp4")


def test_nothing_is_written_through_a_link_out_of_the_store(store: Store, outside: Path, tmp_path: Path) -> None:
    source = recordings.tone(tmp_path / "tone.wav", 1.0)
    with pytest.raises(Refused):
        store.put_media("video/folder/b.wav", source)
    with pytest.raises(Refused):
        store.write("video/folder/b.json", b"{}")
    assert sorted(path.name for path in outside.iterdir()) == ["a.mp4", "vocabulary.txt"]


def test_page_serves_nothing_from_outside_the_store(store: Store) -> None:
    with served.client(served.archive(store)) as page:
        for key in LINKED:
            for place in ("media", "sound", "posters", "api/media"):
                answer = page.get(f"/{place}/{key}")
                assert answer.status_code == 404
                assert SECRET not in answer.content
        for place in ("sound", "posters"):
            answer = page.get(f"/{place}/video/good.mp4")
            assert answer.status_code >= 400
            assert SECRET not in answer.content


def test_links_to_an_allowed_root_are_followed(folder: Path, outside: Path, store: Store) -> None:
    allowed = Store.open(store.url, link_roots=[outside])
    assert listed(allowed) == ["video/file.mp4", "video/folder/a.mp4", "video/good.mp4"]
    assert allowed.list_media().unread == 0
    assert [content(allowed.media_url(key)) for key in LINKED] == [SECRET, SECRET]
    with served.client(served.archive(allowed)) as page:
        assert page.get("/media/video/file.mp4").content == SECRET
    beside = folder.parent / "outside-not"
    beside.mkdir()
    (beside / "b.mp4").write_bytes(SECRET)
    (folder / "video/b.mp4").symlink_to(beside / "b.mp4")
    with pytest.raises(Refused):
        allowed.stat("video/b.mp4")


def test_inbox_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/video").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/a.mp4").write_bytes(b"abc")
    (tmp_path / "disk/b.mp4").symlink_to("a.mp4")
    store = Store.open(str(tmp_path / "store"))
    assert listed(store) == ["video/a.mp4", "video/b.mp4"]
    assert store.stat("video/b.mp4").size == 3
    store.put_media("video/c.mp4", tmp_path / "disk/a.mp4")
    store.put_media("video/talks/d.mp4", tmp_path / "disk/a.mp4")
    assert (tmp_path / "disk/talks/d.mp4").read_bytes() == b"abc"
    assert listed(store) == ["video/a.mp4", "video/b.mp4", "video/c.mp4", "video/talks/d.mp4"]


def test_folders_that_link_to_each_other_are_listed_once(folder: Path) -> None:
    store = Store.open(str(folder))
    folders = [folder / "video" / f"folder{number}" for number in range(8)]
    for each in folders:
        each.mkdir()
        (each / "a.mp4").write_bytes(b"x")
    for each in folders:
        for other in folders:
            (each / f"to-{other.name}").symlink_to(other)
        (each / "root").symlink_to(folder)
        (each / "up").symlink_to(folder / "video")
    assert listed(store) == [f"video/folder{number}/a.mp4" for number in range(8)]


def test_put_skips_links_out_of_its_folder(tmp_path: Path, outside: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "good.mp4").write_bytes(b"x")
    (here / "inside.mp4").symlink_to("good.mp4")
    (here / "passwd.mp4").symlink_to(outside / "a.mp4")
    assert list(put.select([here], "")) == ["video/good.mp4", "video/inside.mp4"]
    assert put.ignored([here]) == [here / "passwd.mp4"]
    assert list(put.select([here / "passwd.mp4"], "")) == ["video/passwd.mp4"], (
        "a link that is named explicitly must be copied"
    )
    assert len(put.select([here], "", [outside])) == 3


def test_read_only_store_is_never_created_or_changed(tmp_path: Path) -> None:
    for url in (str(tmp_path / "none"), (tmp_path / "none").as_uri()):
        with pytest.raises(PermanentFailure):
            Store.open(url, read_only=True)
    (tmp_path / "empty").mkdir()
    store = Store.open(str(tmp_path / "empty"), read_only=True)
    assert listed(store) == []
    assert store.list("transcripts/") == []
    for attempt in (
        lambda: store.write("a.json", b""),
        lambda: store.delete("a.json"),
        lambda: store.put_media("video/a.mp4", tmp_path),
        lambda: store.move_when_done("video/a.mp4", "1"),
    ):
        with pytest.raises(PermanentFailure):
            attempt()
    assert list((tmp_path / "empty").iterdir()) == []
