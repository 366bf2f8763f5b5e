"""Names as long as a file system allows: their artefacts can be written and their failures recorded."""

from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import audio, failure_notes, video
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets_tests import recordings

NAMES = ["x" * 227 + " [dQw4w9WgXcQ].mp4", "x" * 238 + " [1] [2] [3].mp4", "ü" * 125 + ".mp4"]
DECODER = MediaDecoder(recordings.wheel_ffmpeg())


def put(root: Path, name: str, source: Path) -> str:
    """Copy the file into the inbox as a user does."""
    (root / "video" / name).write_bytes(source.read_bytes())
    return media_keys.encode(f"video/{name}")


@pytest.mark.parametrize("name", NAMES, ids=lambda name: str(len(name.encode())))
def test_recording_with_a_long_name_is_extracted(name: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = Store.open(str(root))
    key = put(root, name, recordings.video(tmp_path / "a.mp4", 1.0))
    assert video.materialise(store, key, DECODER).has_poster
    assert audio.materialise(store, key, DECODER).duration == pytest.approx(1.0, abs=0.1)
    assert all(len(part.encode()) <= 255 for path in store.list("") for part in path.split("/"))
    assert video.materialise(store, key, DECODER).reused


@pytest.mark.parametrize("name", NAMES, ids=lambda name: str(len(name.encode())))
def test_failure_of_recording_with_long_name_is_noted(name: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = Store.open(str(root))
    (tmp_path / "a.mp4").write_text("not a film")
    key = put(root, name, tmp_path / "a.mp4")
    with pytest.raises(PermanentFailure):
        video.materialise(store, key, DECODER)
    noted = failure_notes.load(store, key)
    assert noted is not None
    assert noted.step == "video"


def test_bounded_names_of_different_names_differ() -> None:
    long = "video/" + "x" * 250
    kept = "video/" + "x" * 242
    assert media_keys.bounded(kept) == kept, "otherwise archives of older releases would be processed again"
    assert len({media_keys.bounded(long + end) for end in ("a", "b", "")}) == 3
    assert all(len(part) <= 242 for part in media_keys.bounded(long).split("/"))
