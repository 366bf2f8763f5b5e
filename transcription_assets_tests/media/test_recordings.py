"""Probing and extraction of recordings in all common containers."""

from pathlib import Path

import numpy as np
import pytest

from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import extract, heard, loudness, probe, samples


def test_a_video_probe_has_every_catalogue_field(ffmpeg: str, tmp_path: Path) -> None:
    tags = ("-metadata", "title=Vortrag: Über Füße", "-metadata", "creation_time=2024-05-01T10:00:00Z")
    found = probe(recordings.video(tmp_path / "a.mp4", 3.0, *tags), ffmpeg)
    assert found.duration == pytest.approx(3.0, abs=0.1)
    assert (found.audio_codec, found.sample_rate, found.channels, found.audio_tracks) == (
        "aac",
        44_100,
        "mono",
        1,
    )
    assert (found.video_codec, found.width, found.height, found.has_picture) == ("h264", 320, 240, True)
    assert "mp4" in found.format
    assert found.title == "Vortrag: Über Füße"
    assert found.created.startswith("2024-05-01T10:00:00")


CODECS = (
    "mp3 mp3, flac flac, wav pcm_s16le, ogg vorbis, opus opus, m4a aac, aac aac, ac3 ac3, aiff pcm_s16be, wma wmav2, "
    "mka vorbis, webm opus, avi mp3, mov aac, ts mp2, mpg mp2, w64 pcm_s16le, caf pcm_s16be, au pcm_s16be, flv mp3, "
    "mxf pcm_s16le, wv wavpack, mp2 mp2"
)


@pytest.mark.parametrize("kind", CODECS.split(", "))
def test_every_common_container_is_decoded(kind: str, ffmpeg: str, tmp_path: Path) -> None:
    suffix, codec = kind.split()
    if suffix == "mxf":
        recording = recordings.video(tmp_path / "a.mxf", 2.0, "-c:v", "mpeg2video", "-c:a", codec, "-ar", "48000")
    else:
        recording = recordings.speech_like(tmp_path / f"a.{suffix}", 2.0)
    assert probe(recording, ffmpeg).audio_codec == codec
    assert loudness(heard(recording, ffmpeg, tmp_path)) > 0.03


@pytest.mark.parametrize("rate", [8_000, 96_000])
def test_all_sample_rates_become_16_khz_of_the_same_length(rate: int, ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.wav", 2.0, rate=rate)
    assert probe(recording, ffmpeg).sample_rate == rate
    sound = heard(recording, ffmpeg, tmp_path)
    assert len(sound) == pytest.approx(32_000, abs=16)
    assert loudness(sound) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_mono_keeps_its_loudness(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "mono.flac")
    assert loudness(heard(recording, ffmpeg, tmp_path)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_a_voice_in_the_centre_of_5_1_is_kept(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.surround_with_centre_only(tmp_path / "film.mka")
    assert probe(recording, ffmpeg).channels.startswith("5.1")
    alone = heard(recordings.speech_like(tmp_path / "alone.wav", 3.0), ffmpeg, tmp_path)
    assert loudness(heard(recording, ffmpeg, tmp_path)) > 0.2 * loudness(alone)


def test_a_clip_of_a_third_of_a_second_is_decoded(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "short.mp3", 0.3)
    assert probe(recording, ffmpeg).audio_codec == "mp3"
    assert extract(recording, tmp_path / "a.flac", ffmpeg).duration == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("kind", ["silence", "noise", "music"])
def test_audio_without_speech_is_extracted(kind: str, ffmpeg: str, tmp_path: Path) -> None:
    recording = getattr(recordings, kind)(tmp_path / "a.m4a", 3.0)
    assert probe(recording, ffmpeg).audio_tracks == 1
    extraction = extract(recording, tmp_path / "a.flac", ffmpeg)
    assert extraction.duration == pytest.approx(3.0, abs=0.1)
    assert not extraction.warnings
    assert (loudness(samples(tmp_path / "a.flac", ffmpeg)) < 0.001) == (kind == "silence")


def test_the_first_of_several_tracks_is_used_and_all_are_counted(ffmpeg: str, tmp_path: Path) -> None:
    original = recordings.tone(tmp_path / "original.wav", 2.0)
    dubbed = recordings.silence(tmp_path / "dubbed.wav", 2.0)
    inputs = ("-i", str(original), "-i", str(dubbed), "-map", "0", "-map", "1")
    recording = recordings.make(tmp_path / "a.mkv", *inputs)
    assert probe(recording, ffmpeg).audio_tracks == 2
    assert loudness(heard(recording, ffmpeg, tmp_path)) > 0.3


def test_a_late_audio_track_keeps_the_times_of_a_player(ffmpeg: str, tmp_path: Path) -> None:
    voice = recordings.tone(tmp_path / "voice.wav", 2.0)
    picture = recordings.video_without_audio(tmp_path / "picture.mp4", 5.0)
    inputs = ("-i", str(picture), "-itsoffset", "2", "-i", str(voice), "-c:v", "copy")
    sound = heard(recordings.make(tmp_path / "late.mkv", *inputs), ffmpeg, tmp_path)
    assert loudness(sound[: int(1.9 * 16_000)]) < 0.001
    assert loudness(sound[int(2.1 * 16_000) : int(3.9 * 16_000)]) > 0.3


def test_a_timestamp_jump_is_not_filled_with_hours_of_silence(ffmpeg: str, tmp_path: Path) -> None:
    before = recordings.tone(tmp_path / "before.ts", 5.0)
    after = recordings.make(tmp_path / "after.ts", "-i", str(before), "-c", "copy", "-output_ts_offset", "40000")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(before.read_bytes() + after.read_bytes())
    assert extract(joined, tmp_path / "a.flac", ffmpeg).duration == pytest.approx(10.0, abs=0.2)
