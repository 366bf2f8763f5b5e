"""The `vocabulary.txt` beside recordings: how it is read, and that an invalid one fails only its own folder."""

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


def test_nearest_vocabulary_above_a_recording_applies(store: Store) -> None:
    require_good(store)
    assert vocabulary(store, "video/good/deeper/a.mp4") == ["Ada", "silver compass"]


def test_huge_vocabulary_is_not_read_and_fails_only_its_folder(store: Store, folder: Path) -> None:
    with (folder / "video/odd/vocabulary.txt").open("wb") as huge:
        huge.truncate(3 << 30)  # sparse: takes no space on disk
    with pytest.raises(TooLarge):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)


def test_vocabulary_of_maximum_size_is_read(case: Case) -> None:
    case.put("video/vocabulary.txt", b"x" * VOCABULARY_BYTES)
    assert vocabulary(case.store, "video/a.mp4") == ["x" * VOCABULARY_BYTES]
    case.put("video/vocabulary.txt", b"x" * (VOCABULARY_BYTES + 1))
    with pytest.raises(TooLarge):
        vocabulary(case.store, "video/a.mp4")


def test_named_pipe_as_vocabulary_is_never_opened(store: Store, folder: Path) -> None:
    os.mkfifo(folder / "video/odd/vocabulary.txt")
    with pytest.raises(PermanentFailure):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)


def test_folder_named_as_vocabulary_fails_only_its_folder(store: Store, folder: Path) -> None:
    (folder / "video/odd/vocabulary.txt").mkdir()
    with pytest.raises(PermanentFailure):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)


def test_non_utf8_vocabulary_fails_only_its_folder(store: Store, folder: Path) -> None:
    (folder / "video/odd/vocabulary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PermanentFailure):
        vocabulary(store, "video/odd/a.mp4")
    require_good(store)
