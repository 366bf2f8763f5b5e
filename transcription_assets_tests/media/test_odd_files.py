"""Unusual files through `video` and `audio` with both ffmpegs: times of a player, and the recorded facts."""

from pathlib import Path

import numpy as np
import pytest

from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.pipeline import audio, playback, video
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets_tests.media.odd_files import ODD, build, detected_onsets


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the cache of generated files; each is used with both ffmpegs."""
    return {"folder": tmp_path_factory.mktemp("odd")}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_has_the_times_of_a_player(name: str, ffmpeg: str, made: dict[str, Path], tmp_path: Path) -> None:
    if name not in made:
        made[name] = build(name, made["folder"])
    odd, path = ODD[name], made[name]
    store = Store.open(str(tmp_path / "store"))
    key = store.put_media(f"audio/{path.name}", path)
    decoder = MediaDecoder(ffmpeg)

    seen = video.materialise(store, key, decoder)
    heard = audio.materialise(store, key, decoder)

    samples = np.concatenate(list(media.read_samples(store.readable_url(media_keys.flac(key)), ffmpeg=ffmpeg)))
    assert len(samples) == round(heard.duration * media.SAMPLE_RATE)
    assert heard.duration == pytest.approx(odd.length, abs=0.3)
    assert detected_onsets(samples) == pytest.approx(odd.onsets, abs=odd.tolerance_s)
    assert heard.is_whole or name == "mka paused" or "late" in name
    assert heard.original_is_exact == odd.exact
    assert heard.container_start == pytest.approx(odd.start, abs=0.1)
    assert heard.tracks == odd.tracks
    assert (heard.cancelled_s > 0) == odd.cancels
    assert (heard.gain_db > 0) == odd.quiet
    assert seen.probe.audio_tracks == heard.track_count
    assert playback.plays_itself(seen.probe, heard) == odd.plays_itself
