"""How much of a recording is decoded, from its checkpoints and from the statuses of workers."""

from pathlib import Path

import pytest

from transcription_assets.pipeline import shard_status, window_plan
from transcription_assets.pipeline.checkpoints import Checkpoints
from transcription_assets.pipeline.progress import decoded_share
from transcription_assets.pipeline.shard_status import StatusWriter
from transcription_assets.pipeline.window_plan import WindowPlan
from transcription_assets.speech import PlannedWindow
from transcription_assets.storage import Store

KEY, SOUND, VERSION = "audio/a.wav", "digest", "version"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    place = Store.open(str(tmp_path))
    windows = tuple(PlannedWindow(start, start + 100.0, ()) for start in (0.0, 100.0, 200.0, 300.0))
    window_plan.write(place, KEY, WindowPlan(SOUND, (windows,)))
    return place


def decode(store: Store, number: int, version: str = VERSION) -> None:
    """Write a checkpoint; only its name counts."""
    place = Checkpoints(store, KEY, version)
    store.write(place._path((0, number)), b"{}")  # noqa: SLF001


def test_decoded_windows_count(store: Store) -> None:
    assert decoded_share(store, KEY, SOUND) == 0.0
    decode(store, 0)
    decode(store, 2)
    assert decoded_share(store, KEY, SOUND) == 0.5


def test_windows_that_are_being_decoded_count_in_part(store: Store) -> None:
    decode(store, 0)
    with StatusWriter(store, shard_status.path("batch", 0), "run", keep=True) as status:
        status.begin([(KEY, 0, 1), (KEY, 0, 2), ("audio/other.wav", 0, 0)], {KEY: VERSION, "audio/other.wav": "x"})
        status.progress(0.5)
        status.fail("audio/other.wav", ValueError("writes the status"))
        assert decoded_share(store, KEY, SOUND) == 0.5


def test_checkpoints_of_other_options_do_not_add_up(store: Store) -> None:
    decode(store, 0)
    decode(store, 1, "other options")
    decode(store, 2, "other options")
    assert decoded_share(store, KEY, SOUND) == 0.5
    with StatusWriter(store, shard_status.path("batch", 0), "run", keep=True) as status:
        status.begin([(KEY, 0, 1)], {KEY: VERSION})
        assert decoded_share(store, KEY, SOUND) == 0.25


def test_audio_without_a_plan_has_no_progress(store: Store) -> None:
    decode(store, 0)
    assert decoded_share(store, KEY, "another digest") == 0.0
    assert decoded_share(store, "audio/b.wav", SOUND) == 0.0
