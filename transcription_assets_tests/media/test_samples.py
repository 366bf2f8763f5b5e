"""Reading of samples in blocks, and the end of the reading process."""

import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from transcription_assets import media
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import extract, samples


@pytest.fixture(scope="module")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return twenty minutes in the format of `extract_speech`: 38 MB of samples."""
    path = tmp_path_factory.mktemp("speech") / "long.flac"
    return recordings.sound(path, "0.1*sin(2*PI*t)", 1_200.0, rate=16_000)


def test_samples_are_read_in_blocks_without_loss(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.flac", 25.0, rate=16_000)
    blocks = list(media.read_samples(recording, ffmpeg=ffmpeg))
    assert [len(block) for block in blocks] == [160_000, 160_000, 80_000]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(400_000) / 16_000)
    assert np.abs(np.concatenate(blocks) - expected).max() < 0.001


def test_samples_can_be_read_from_any_position_to_the_end(ffmpeg: str, tmp_path: Path) -> None:
    """In quiet sound the frames of a FLAC are so small that ffmpeg 9 fails to seek to the last one."""
    recording = recordings.tone(tmp_path / "a.flac", 60.0, rate=16_000)
    whole = samples(recording, ffmpeg)
    for start in (0.01, 1.5, 2.0, 2.01, 30.0, 59.7, *np.arange(59.80, 59.87, 0.01), 59.99):
        assert np.array_equal(samples(recording, ffmpeg, start=start), whole[round(start * 16_000) :]), start


def test_samples_of_a_span_equal_those_of_the_whole_file(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.noise(tmp_path / "a.wav", 12.0)
    extract(recording, tmp_path / "a.flac", ffmpeg)
    whole = samples(tmp_path / "a.flac", ffmpeg)
    part = samples(tmp_path / "a.flac", ffmpeg, start=3.25, duration=5.5)
    assert np.array_equal(part, whole[52_000 : 52_000 + 88_000])


def test_a_span_after_the_end_is_empty(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.flac", 2.0)
    assert not len(samples(recording, ffmpeg, start=30.0, duration=5.0))


def test_reading_twenty_minutes_takes_bounded_memory(ffmpeg: str, long_speech: Path) -> None:
    tracemalloc.start()
    try:
        total = sum(len(block) for block in media.read_samples(long_speech, ffmpeg=ffmpeg))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 1_200 * 16_000
    assert peak < 4_000_000


@pytest.mark.parametrize("how", ["closed", "dropped", "exception", "to the end"])
def test_the_process_ends_however_the_consumer_stops(
    how: str, ffmpeg: str, long_speech: Path, spawned: list[subprocess.Popen[bytes]]
) -> None:
    blocks = media.read_samples(long_speech, ffmpeg=ffmpeg)
    next(blocks)
    reader = spawned[-1]
    assert reader.returncode is None
    if how == "closed":
        blocks.close()  # type: ignore[attr-defined]
    elif how == "exception":
        with pytest.raises(ZeroDivisionError):
            blocks.throw(ZeroDivisionError)  # type: ignore[attr-defined]
    elif how == "to the end":
        list(blocks)
    del blocks
    assert reader.returncode is not None
    assert reader is spawned[-1]
    assert all(pipe is None or pipe.closed for pipe in (reader.stdout, reader.stderr))
