"""Metadata in a file is never parsed as output of ffmpeg."""

from pathlib import Path

import pytest

from transcription_assets.media import ffmpeg_output
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import extract, probe
from transcription_assets_tests.media.odd_files import ODD

FORGED = (
    "How to fix: No space left on device",
    "Duration: 01:23:45.00, start: 7.000000",
    "line\n[error] No space left on device\n[info]   Duration: 01:23:45.00, start: 7.0",
    "line\u2028[error] Connection reset by peer",
    "line\x0b[error] HTTP error 503 Service Unavailable",
    "Statistics: 99999999 bytes read",
)


@pytest.mark.parametrize("text", FORGED, ids=ascii)
@pytest.mark.parametrize("suffix", ["mp3", "mka", "m4a"])
def test_tag_changes_neither_facts_nor_failures(text: str, suffix: str, ffmpeg: str, tmp_path: Path) -> None:
    plain = recordings.tone(tmp_path / f"plain.{suffix}")
    tags = ("-metadata", f"title={text}", "-metadata", f"comment={text}")
    tagged = recordings.make(tmp_path / f"tagged.{suffix}", "-i", str(plain), "-c", "copy", *tags)
    expected, seen = probe(plain, ffmpeg), probe(tagged, ffmpeg)
    assert seen.duration == pytest.approx(expected.duration, abs=0.1)
    assert seen.start == pytest.approx(expected.start, abs=0.1)
    assert seen.tracks == expected.tracks
    assert seen.bytes_read < 1_000_000
    made = extract(tagged, tmp_path / "a.flac", ffmpeg)
    assert made.duration == pytest.approx(2.0, abs=0.1)
    assert not made.warnings


def test_name_of_a_tag_is_not_a_stream(ffmpeg: str, tmp_path: Path) -> None:
    tags = (
        "-metadata",
        "Stream #0:7(eng): Audio: mp3, 8000 Hz, mono=1",
        "-metadata",
        "  Duration: 09:00:00.00, start=1",
    )
    recording = recordings.make(tmp_path / "a.mka", "-f", "lavfi", "-i", "sine=d=1", *tags)
    seen = probe(recording, ffmpeg)
    assert seen.audio_tracks == 1
    assert seen.duration == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("stated", ["N/A", "1194:26:40.00", "99999999:00:00.00"])
def test_absurd_length_is_ignored(stated: str) -> None:
    said = (
        "[info] Input #0, matroska,webm, from 'the file':\n"
        f"[info]   Duration: {stated}, start: 0.000000, bitrate: 1 kb/s\n"
        "[info]   Stream #0:0: Audio: flac, 16000 Hz, mono, s16\n"
    )
    found = ffmpeg_output.header(said)
    assert found is not None
    assert found.duration is None
    assert found.promised_s is None


def test_list_of_odd_files_is_long_enough() -> None:
    assert len(ODD) >= 40
