"""The `vocabulary.txt` beside recordings: what is read of it, and what an odd one does to its folder and to others."""

import os
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure, TooLarge
from transcription_assets.pipeline.transcript import VOCABULARY_BYTES, vocabulary
from transcription_assets.storage import Store
from transcription_assets_tests.stores import Case


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("good", "odd"):
        (tmp_path / "video" / name).mkdir(parents=True)
    (tmp_path / "video/good/vocabulary.txt").write_text("Ada\n# a comment\n\n  silver   compass \n")
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Store:
    return Store.open(str(folder))


def require_good(store: Store) -> None:
    assert vocabulary(store, "video/good/a.mp4") == ["Ada", "silver compass"]
    assert vocabulary(store, "video/a.mp4") == []


def test_the_nearest_list_above_a_recording_holds(store: Store) -> None:
    require_good(store)
    assert vocabulary(store, "video/good/deeper/a.mp4") == ["Ada", "silver compass"]


def test_a_huge_list_fails_its_folder_and_is_not_read(store: Store, folder: Path) -> None:
    with (folder / "video/odd/vocabulary.txt").open("wb") as huge:
        huge.truncate(3 << 30)  # takes no space on disk
    with pytest.raises(TooLarge):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)


def test_a_list_of_the_largest_size_is_read(case: Case) -> None:
    case.put("video/vocabulary.txt", b"x" * VOCABULARY_BYTES)
    assert vocabulary(case.store, "video/a.mp4") == ["x" * VOCABULARY_BYTES]
    case.put("video/vocabulary.txt", b"x" * (VOCABULARY_BYTES + 1))
    with pytest.raises(TooLarge):
        vocabulary(case.store, "video/a.mp4")


def test_a_pipe_is_never_opened(store: Store, folder: Path) -> None:
    os.mkfifo(folder / "video/odd/vocabulary.txt")
    with pytest.raises(PermanentFailure):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)


def test_a_folder_of_that_name_fails_its_folder_only(store: Store, folder: Path) -> None:
    (folder / "video/odd/vocabulary.txt").mkdir()
    with pytest.raises(PermanentFailure):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)


def test_a_list_that_is_no_text_fails_its_folder_only(store: Store, folder: Path) -> None:
    (folder / "video/odd/vocabulary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PermanentFailure):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)
