"""The bounds of the number of speakers beside a recording: how they are read, and what invalid ones do."""

import os
from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, TooLarge
from transcription_assets.pipeline import speaker_bounds
from transcription_assets.pipeline.speaker_bounds import MOST_BYTES
from transcription_assets.speakers.diariser import Bounds
from transcription_assets.storage import Store
from transcription_assets_tests.stores import Case

KEY = "video/a.mp4"
NAME = "video/a.mp4.speakers.json"


@pytest.mark.parametrize(
    ("content", "bounds"),
    [
        (b'{"min": 2, "max": 4}', Bounds(2, 4)),
        (b'{"min": 3}', Bounds(3, 0)),
        (b'{"max": 100}', Bounds(0, 100)),
        (b"{}", Bounds()),
    ],
)
def test_bounds_beside_a_recording_are_read(case: Case, content: bytes, bounds: Bounds) -> None:
    case.put(NAME, content)
    assert speaker_bounds.load(case.store, KEY) == bounds
    assert speaker_bounds.load(case.store, "video/a.mp3") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"2",
        b"[]",
        b"null",
        b'{"min": -1}',
        b'{"max": 101}',
        b'{"min": "2"}',
        b'{"min": 2.5}',
        b'{"min": true}',
        b'{"min": 4, "max": 2}',
        b'{"least": 2}',
        b'{"min": 2',
        b"\xff\xfe\x00",
    ],
)
def test_invalid_bounds_are_a_permanent_failure(case: Case, content: bytes) -> None:
    case.put(NAME, content)
    with pytest.raises(PermanentFailure) as caught:
        speaker_bounds.load(case.store, KEY)
    assert (caught.value.key, caught.value.step, bool(caught.value.hint)) == (KEY, "speakers", True)


def test_a_large_file_is_not_read(case: Case) -> None:
    case.put(NAME, b"{}".ljust(MOST_BYTES))
    assert speaker_bounds.load(case.store, KEY) == Bounds()
    case.put(NAME, b"{}".ljust(MOST_BYTES + 1))
    with pytest.raises(TooLarge):
        speaker_bounds.load(case.store, KEY)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    (tmp_path / "video").mkdir(exist_ok=True)
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(PermanentFailure) as caught:
        speaker_bounds.load(store, KEY)
    assert caught.value.hint
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with pytest.raises(PermanentFailure):
        speaker_bounds.load(store, KEY)


def test_names_that_need_escapes_have_bounds(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    (tmp_path / "video").mkdir(exist_ok=True)
    (tmp_path / "video/a, b.mp4.speakers.json").write_text('{"max": 2}')
    assert speaker_bounds.load(store, media_keys.encode("video/a, b.mp4")) == Bounds(0, 2)


@pytest.mark.parametrize("length", [200, 237, 241, 242, 251])
def test_long_names_never_fail(tmp_path: Path, length: int) -> None:
    store = Store.open(str(tmp_path))
    assert speaker_bounds.load(store, f"video/{'a' * (length - 4)}.mp4") is None
