"""Pictures of recordings at a low rate, with both ffmpegs."""

import itertools
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from transcription_assets.errors import TransientFailure
from transcription_assets.media import pictures
from transcription_assets.media.ffmpeg_process import ProcessResult
from transcription_assets.media.pictures import Picture, PictureRange, PictureStream
from transcription_assets_tests import recordings
from transcription_assets_tests.media.http_store import HttpStore

EVERY_S = 2.0


def stream(source: Path | str, ffmpeg: str, duration: float | None = None, limit_s: float = 60.0) -> PictureStream:
    return PictureStream(lambda: str(source), "video/a.mp4", ffmpeg, limit_s, EVERY_S, duration)


def times(pictures_read: Generator[Picture] | Generator[Picture, None, ProcessResult]) -> list[float]:
    return [round(picture.at, 2) for picture in pictures_read]


def test_key_frames_have_their_timestamps(tmp_path: Path, ffmpeg: str) -> None:
    film = recordings.video(tmp_path / "a.mp4", 10.0)  # a key frame each second
    found = list(stream(film, ffmpeg, 10.0).pictures())
    assert times(iter(found)) == [0.0, 2.0, 4.0, 6.0, 8.0]  # type: ignore[arg-type]
    assert {picture.pixels.shape for picture in found} == {(960, 1280, 3)}


def test_a_range_is_decoded_between_key_frames(tmp_path: Path, ffmpeg: str) -> None:
    film = recordings.video(tmp_path / "a.mp4", 10.0, "-g", "250")
    found = times(stream(film, ffmpeg, 10.0).between(3.1, 3.9))
    assert found == pytest.approx([3.12, 3.32, 3.52, 3.72], abs=0.07)


def test_distant_key_frames_are_filled_up(tmp_path: Path, ffmpeg: str) -> None:
    film = recordings.video(tmp_path / "a.mp4", 30.0, "-g", "1000", "-keyint_min", "1000")
    found = times(stream(film, ffmpeg, 30.0).pictures())
    assert found[0] == 0.0
    assert max(later - earlier for earlier, later in itertools.pairwise(found)) <= EVERY_S + 0.05
    assert found[-1] > 26.0


def test_portrait_pictures_are_upright(tmp_path: Path, ffmpeg: str) -> None:
    film = recordings.video(tmp_path / "a.mp4", 2.0, size="180x320")
    (picture, *_) = stream(film, ffmpeg, 2.0).pictures()
    assert picture.pixels.shape == (1280, 720, 3)


def test_a_cover_and_bare_sound_have_no_pictures(tmp_path: Path, ffmpeg: str) -> None:
    for path in (recordings.mp3_with_cover(tmp_path / "a.mp3"), recordings.tone(tmp_path / "a.wav")):
        reader = stream(path, ffmpeg, 2.0)
        assert times(reader.pictures()) == []
        assert reader.problem


def test_damaged_pictures_give_the_others_or_a_problem(tmp_path: Path, ffmpeg: str) -> None:
    film = recordings.video(tmp_path / "a.mp4", 10.0, "-movflags", "+faststart")
    for share in (0.1, 0.5, 0.8):
        broken = recordings.damage(film, tmp_path / "b.mp4", at=0.15, share=share)
        reader = stream(broken, ffmpeg, 10.0)
        assert times(reader.pictures()) or reader.problem


def test_a_hung_decoder_is_ended_with_a_problem(tmp_path: Path, ffmpeg: str) -> None:
    film = recordings.video(tmp_path / "a.mp4", 10.0)
    reader = stream(film, ffmpeg, 10.0, limit_s=0.0)
    assert times(reader.pictures()) == []
    assert "longer" in reader.problem


def test_each_run_of_ffmpeg_has_a_new_address(tmp_path: Path, ffmpeg: str) -> None:
    """A signed URL is valid for an hour, and reading takes longer."""
    first = recordings.video(tmp_path / "1.mp4", 10.0)
    second = Path(shutil.copy(first, tmp_path / "2.mp4"))
    addresses = iter([str(first), str(second)])
    reader = replace(stream(first, ffmpeg, 10.0), source=lambda: next(addresses))
    assert times(reader.pictures()) == [0.0, 2.0, 4.0, 6.0, 8.0]
    first.unlink()
    assert times(reader.between(3.1, 3.9))
    assert reader.problem == ""


def test_closing_the_stream_ends_the_process(tmp_path: Path, ffmpeg: str, spawned: list) -> None:  # type: ignore[type-arg]
    film = recordings.video(tmp_path / "a.mp4", 30.0)
    reading = pictures.read_pictures(str(film), PictureRange(0.1), ffmpeg=ffmpeg, limit_s=60.0)
    next(reading)
    reading.close()
    process = spawned[-1]
    assert process.wait(10) is not None


def test_pictures_are_read_over_http(tmp_path: Path, ffmpeg: str, store: HttpStore) -> None:
    recordings.video(tmp_path / "a.mp4", 6.0)
    assert times(stream(store.url("a.mp4"), ffmpeg, 6.0).pictures()) == [0.0, 2.0, 4.0]


@pytest.mark.usefixtures("impatient")
def test_a_failing_store_is_a_transient_failure(tmp_path: Path, ffmpeg: str, store: HttpStore) -> None:
    recordings.video(tmp_path / "a.mp4", 6.0)
    store.answer(503)
    reader = stream(store.url("a.mp4"), ffmpeg, 6.0)
    with pytest.raises(TransientFailure):
        times(reader.pictures())


@pytest.mark.usefixtures("impatient")
def test_a_store_that_fails_later_is_a_problem(tmp_path: Path, ffmpeg: str, store: HttpStore) -> None:
    recordings.video(tmp_path / "a.mp4", 6.0)
    reader = stream(store.url("a.mp4"), ffmpeg, 6.0)
    reading = reader.pictures()
    next(reading)
    store.answer(503)
    assert list(reader.between(2.1, 2.9)) == []
    assert "a.mp4" in reader.problem
