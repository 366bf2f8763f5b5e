"""Conversion of timestamps to silence and overlaps."""

import subprocess
import sys
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.media.spool import Timeline
from transcription_assets_tests.media.calls import extract, samples
from transcription_assets_tests.media.odd_files import detected_onsets
from transcription_assets_tests.recordings import make

SECOND = 16_000


def test_first_frame_is_placed_exactly() -> None:
    timeline = Timeline()
    assert timeline.place(100, SECOND) == (100, 0)
    assert timeline.gap == 0
    assert timeline.position == SECOND + 100


def test_samples_before_zero_are_dropped() -> None:
    timeline = Timeline()
    assert timeline.place(-100, SECOND) == (0, 100)
    assert timeline.position == SECOND - 100


def test_jitter_of_timestamps_is_ignored() -> None:
    timeline = Timeline()
    timeline.place(0, SECOND)
    assert timeline.place(SECOND + 500, SECOND) == (0, 0)
    assert timeline.place(2 * SECOND - 500, SECOND) == (0, 0)
    assert timeline.position == 3 * SECOND


def test_gap_becomes_silence() -> None:
    timeline = Timeline()
    timeline.place(0, SECOND)
    assert timeline.place(5 * SECOND, SECOND) == (4 * SECOND, 0)
    assert timeline.gap == 4 * SECOND


def test_repeated_sound_is_dropped() -> None:
    timeline = Timeline()
    timeline.place(0, SECOND)
    assert timeline.place(SECOND - 4_000, SECOND) == (0, 4_000)
    assert timeline.position == 2 * SECOND - 4_000


def test_audio_after_a_timestamp_reset_is_kept() -> None:
    timeline = Timeline()
    timeline.place(0, 10 * SECOND)
    assert timeline.place(0, SECOND) == (0, 0)
    assert timeline.place(SECOND, SECOND) == (0, 0)
    assert timeline.position == 12 * SECOND
    assert timeline.is_set_back


def test_timestamps_from_sample_counts_drop_nothing() -> None:
    timeline = Timeline(timed=False)
    timeline.place(0, SECOND)
    for number in range(1, 5):
        assert timeline.place(number * SECOND // 2, SECOND) == (0, 0)
    assert timeline.position == 5 * SECOND


def paused(path: Path, hours: float) -> Path:
    """Make a recording with a pause after one second, and a beep before and after it."""
    beep = "aevalsrc='0.5*sin(2*PI*500*t)*lt(mod(t,1),0.3)':s=16000:d=2"
    return make(path, "-f", "lavfi", "-i", beep, "-af", f"asetpts='PTS+gte(T,1)*{hours * 3600}/TB'", "-c:a", "flac")


MEASURED = """
import resource, sys
from pathlib import Path
from transcription_assets import media
media.extract_speech(sys.argv[1], Path(sys.argv[2]), name="a", ffmpeg=sys.argv[3], limit_s=300)
# Not ru_maxrss of this process: it keeps what the process that started this one took.
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def test_pause_of_an_hour_is_written_in_bounded_memory(ffmpeg: str, tmp_path: Path) -> None:
    recording, target = paused(tmp_path / "paused.mka", 1), tmp_path / "a.flac"
    command = [sys.executable, "-c", MEASURED, str(recording), str(target), ffmpeg]
    measured = subprocess.run(command, check=True, capture_output=True, text=True)
    assert all(int(megabytes) < 160 for megabytes in measured.stdout.split())
    assert detected_onsets(samples(target, ffmpeg, start=3600.0)) == pytest.approx([1.0], abs=0.1)
    assert target.stat().st_size < 1_000_000


def test_timestamps_beyond_the_limit_fail_permanently(ffmpeg: str, tmp_path: Path) -> None:
    recording = paused(tmp_path / "paused.mka", 2)
    with pytest.raises(PermanentFailure):
        extract(recording, tmp_path / "a.flac", ffmpeg, longest_s=3600.0)
    assert not (tmp_path / "a.flac").exists()
