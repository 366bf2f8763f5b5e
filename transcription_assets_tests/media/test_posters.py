"""Posters of recordings with a picture."""

import subprocess
from pathlib import Path

import pytest

from transcription_assets.media import ffmpeg_output
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import probe, take_picture


def jpeg_size(path: Path) -> tuple[int, int]:
    found = ffmpeg_output.header(
        subprocess.run(
            [
                recordings.wheel_ffmpeg(),
                "-v",
                "level+info",
                "-i",
                f"file:{path}",
                "-frames:v",
                "1",
                "-f",
                "null",
                "-",
            ],
            capture_output=True,
            check=True,
        ).stderr.decode()
    )
    assert found is not None
    assert found.width is not None
    assert found.height is not None
    return found.width, found.height


@pytest.mark.parametrize(
    ("size", "expected"), [("1920x1080", (640, 360)), ("320x240", (320, 240)), ("360x640", (360, 640))]
)
def test_a_poster_is_a_jpeg_of_at_most_640_pixels(
    size: str, expected: tuple[int, int], ffmpeg: str, tmp_path: Path
) -> None:
    recording, target = recordings.video(tmp_path / "a.mp4", 2.0, size=size), tmp_path / "a.jpg"
    assert take_picture(recording, target, ffmpeg)
    assert target.read_bytes()[:2] == b"\xff\xd8"
    assert jpeg_size(target) == expected


def test_a_poster_time_after_the_end_gives_an_early_frame(ffmpeg: str, film: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.jpg"
    assert take_picture(film, target, ffmpeg, at=500.0)
    assert target.stat().st_size


@pytest.mark.parametrize("at", [0.0, 1.0, 500.0])
def test_the_cover_of_an_audio_file_is_its_poster(at: float, ffmpeg: str, tmp_path: Path) -> None:
    recording, target = recordings.mp3_with_cover(tmp_path / "a.mp3"), tmp_path / "a.jpg"
    found = probe(recording, ffmpeg)
    assert (found.has_picture, found.video_codec, found.width) == (True, None, None)
    assert (found.title, found.created) == ("Der große Abend: Teil 1", "2024")
    assert take_picture(recording, target, ffmpeg, at=at)
    assert jpeg_size(target) == (200, 200)


def test_an_old_poster_of_an_audio_file_is_removed(ffmpeg: str, tmp_path: Path) -> None:
    recording, target = recordings.tone(tmp_path / "a.mp3"), tmp_path / "a.jpg"
    target.write_bytes(b"the poster of the version before")
    assert not probe(recording, ffmpeg).has_picture
    assert not take_picture(recording, target, ffmpeg)
    assert not target.exists()
