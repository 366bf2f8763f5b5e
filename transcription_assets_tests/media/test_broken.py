"""Invalid, truncated and damaged recordings."""

from pathlib import Path

import numpy as np
import pytest

from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.media.extraction import NO_AUDIO
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import extract, probe, samples, take_picture


def broken(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "broken.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("Dear reader,\nthis is a letter.\n" * 50)
    elif kind == "random bytes":
        path.write_bytes(np.random.default_rng(1).bytes(200_000))
    elif kind == "cut before its index":
        recordings.cut(recordings.video(tmp_path / "whole.mp4"), path, 0.7)
    elif kind == "a picture":
        recordings.make(tmp_path / "a.png", "-f", "lavfi", "-i", "testsrc=d=1", "-frames:v", "1").rename(path)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", r"\b0 bytes"),
        ("text", ""),
        ("random bytes", ""),
        ("cut before its index", "moov atom not found"),  # ffmpeg's words
        ("a picture", ""),
    ],
)
def test_an_invalid_file_fails_permanently_with_the_ffmpeg_error(
    kind: str, reason: str, ffmpeg: str, tmp_path: Path
) -> None:
    path, target = broken(kind, tmp_path), tmp_path / "a.flac"
    with pytest.raises(PermanentFailure, match=f"^talks/a.mp4: .*({reason})"):
        probe(path, ffmpeg)
    with pytest.raises(PermanentFailure, match=f"^talks/a.mp4: .*({reason})"):
        extract(path, target, ffmpeg)
    with pytest.raises(PermanentFailure):
        samples(path, ffmpeg)
    assert not target.exists()
    assert not take_picture(path, tmp_path / "a.jpg", ffmpeg) or kind == "a picture"


def test_a_missing_file_is_not_found(ffmpeg: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        probe(tmp_path / "gone.mp4", ffmpeg)


def test_a_film_without_audio_fails_permanently(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.video_without_audio(tmp_path / "mute.mp4")
    for attempt in (
        lambda: probe(recording, ffmpeg),
        lambda: extract(recording, tmp_path / "a.flac", ffmpeg),
    ):
        with pytest.raises(PermanentFailure, match=NO_AUDIO):
            attempt()


def test_half_a_file_is_decoded_as_far_as_it_goes(ffmpeg: str, streamable: Path, tmp_path: Path) -> None:
    half = recordings.cut(streamable, tmp_path / "half.mp4", 0.5)
    assert probe(half, ffmpeg).duration == pytest.approx(10.0, abs=0.1)
    extraction = extract(half, tmp_path / "a.flac", ffmpeg)
    assert 2.0 < extraction.duration < 8.0
    assert len(samples(tmp_path / "a.flac", ffmpeg)) / 16_000 == pytest.approx(extraction.duration, abs=0.01)


@pytest.mark.parametrize("suffix", ["mp3", "mp4", "ogg", "flac", "ts"])
def test_damage_in_the_middle_does_not_shift_later_times(suffix: str, ffmpeg: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "mp4":
        recordings.video(whole, 20.0, "-movflags", "+faststart")
    else:
        # Silence, then a tone from 15 s: the start of the tone reveals lost time.
        recordings.sound(whole, "0.5*sin(2*PI*440*t)*gt(t,15)+0.01*sin(2*PI*90*t)", 20.0)
    damaged = recordings.damage(whole, tmp_path / f"damaged.{suffix}", at=0.45, share=0.02)
    extraction = extract(damaged, tmp_path / "a.flac", ffmpeg)
    assert extraction.duration == pytest.approx(20.0, abs=1.0)
    assert extraction.warnings
    if suffix != "mp4":
        sound = np.abs(samples(tmp_path / "a.flac", ffmpeg))
        loud = [second for second in range(12, 19) if np.median(sound[second * 16_000 :][:16_000]) > 0.2]
        assert loud[0] == pytest.approx(15, abs=1)
