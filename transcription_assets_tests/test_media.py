import os
import shutil
import signal
import subprocess
import time
import tracemalloc
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transcription_assets import media
from transcription_assets.failures import NotFound, PermanentFailure, TransientFailure
from transcription_assets.media import process, report, source
from transcription_assets_tests import http_store, recordings
from transcription_assets_tests.http_store import HttpStore

LIMIT_S = 60.0


@pytest.fixture(params=["wheel", "PATH"])
def ffmpeg(request: pytest.FixtureRequest) -> str:
    """Both are promised to work: the one of the wheel, and the often much older one of the system."""
    if request.param == "wheel":
        return recordings.wheel_ffmpeg()
    return shutil.which("ffmpeg") or pytest.skip("no ffmpeg on PATH")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, its index at the end."""
    return recordings.video(tmp_path_factory.mktemp("films") / "film.mp4", 2.0)


@pytest.fixture(scope="module")
def streamable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, its index at the beginning, so that half of it can be played."""
    path = tmp_path_factory.mktemp("films") / "streamable.mp4"
    return recordings.video(path, 10.0, "-movflags", "+faststart", "-b:a", "256k")


@pytest.fixture(scope="module")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes of what `extract_speech` writes: 38 MB of samples."""
    path = tmp_path_factory.mktemp("speech") / "long.flac"
    return recordings.sound(path, "0.1*sin(2*PI*t)", 1_200.0, rate=16_000)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpStore]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(source, "RECONNECT_S", 0)
    monkeypatch.setattr(source, "STALL_S", 1)
    with http_store.serving(tmp_path) as serving:
        yield serving


def probe(path: Path | str, ffmpeg: str, *, limit_s: float = LIMIT_S) -> media.Probe:
    return media.probe(str(path), "talks/a.mp4", ffmpeg=ffmpeg, limit_s=limit_s)


def extract(path: Path | str, target: Path, ffmpeg: str, *, limit_s: float = LIMIT_S) -> media.Extraction:
    return media.extract_speech(str(path), target, name="talks/a.mp4", ffmpeg=ffmpeg, limit_s=limit_s)


def take_picture(path: Path | str, target: Path, ffmpeg: str, *, at: float = 1.0) -> bool:
    made = media.poster(str(path), target, ffmpeg=ffmpeg, limit_s=LIMIT_S, at=at, width=640)
    assert made.taken == target.exists()
    return made.taken


def samples(path: Path | str, ffmpeg: str, **span: float) -> NDArray[np.float32]:
    blocks = list(media.read_samples(path, ffmpeg=ffmpeg, **span))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def heard(path: Path | str, ffmpeg: str, tmp_path: Path) -> NDArray[np.float32]:
    """What is left of a recording after it went through the FLAC."""
    extract(path, tmp_path / "heard.flac", ffmpeg)
    return samples(tmp_path / "heard.flac", ffmpeg)


def loudness(part: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(part, dtype=np.float64))))


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def is_running(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith("Z")


def assert_gone(pid: int) -> None:
    """The kernel delivers SIGKILL soon, not at once."""
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} was left behind"
        time.sleep(0.02)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that the module starts: real ones, only written down."""
    seen: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            seen.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return seen


# --- which ffmpeg


def test_the_ffmpeg_on_path_comes_before_the_one_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = script(tmp_path / "ffmpeg", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert media.find_ffmpeg() == own


def test_the_wheel_serves_where_path_has_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert media.find_ffmpeg() == recordings.wheel_ffmpeg()


def test_a_configured_ffmpeg_that_is_not_there_is_said_and_not_replaced_by_another() -> None:
    with pytest.raises(PermanentFailure, match=r"/opt/nowhere/ffmpeg.*correct the setting"):
        media.find_ffmpeg("/opt/nowhere/ffmpeg")


def test_an_ffmpeg_that_vanished_is_named_and_not_taken_for_a_broken_recording(tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.wav")
    with pytest.raises(PermanentFailure, match=r"cannot start .*/gone/ffmpeg"):
        probe(recording, str(tmp_path / "gone" / "ffmpeg"))


# --- what a recording is


def test_a_video_tells_what_a_reader_of_the_catalogue_wants_to_know(ffmpeg: str, tmp_path: Path) -> None:
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
def test_no_container_that_people_use_is_locked_out(kind: str, ffmpeg: str, tmp_path: Path) -> None:
    suffix, codec = kind.split()
    if suffix == "mxf":
        recording = recordings.video(tmp_path / "a.mxf", 2.0, "-c:v", "mpeg2video", "-c:a", codec, "-ar", "48000")
    else:
        recording = recordings.speech_like(tmp_path / f"a.{suffix}", 2.0)
    assert probe(recording, ffmpeg).audio_codec == codec
    assert loudness(heard(recording, ffmpeg, tmp_path)) > 0.03


@pytest.mark.parametrize("rate", [8_000, 96_000])
def test_telephone_and_studio_rates_become_16_khz_of_the_same_length(rate: int, ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.wav", 2.0, rate=rate)
    assert probe(recording, ffmpeg).sample_rate == rate
    sound = heard(recording, ffmpeg, tmp_path)
    assert len(sound) == pytest.approx(32_000, abs=16)
    assert loudness(sound) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_mono_keeps_its_loudness_where_fixed_weights_would_halve_it(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "mono.flac")
    assert loudness(heard(recording, ffmpeg, tmp_path)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_a_voice_in_the_centre_of_5_1_does_not_become_silence(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.surround_with_centre_only(tmp_path / "film.mka")
    assert probe(recording, ffmpeg).channels.startswith("5.1")
    alone = heard(recordings.speech_like(tmp_path / "alone.wav", 3.0), ffmpeg, tmp_path)
    assert loudness(heard(recording, ffmpeg, tmp_path)) > 0.2 * loudness(alone)


def test_a_clip_of_a_third_of_a_second_is_a_recording_too(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "short.mp3", 0.3)
    assert probe(recording, ffmpeg).audio_codec == "mp3"
    assert extract(recording, tmp_path / "a.flac", ffmpeg).duration == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("kind", ["silence", "noise", "music"])
def test_sound_without_speech_is_extracted_like_any_other(kind: str, ffmpeg: str, tmp_path: Path) -> None:
    recording = getattr(recordings, kind)(tmp_path / "a.m4a", 3.0)
    assert probe(recording, ffmpeg).audio_tracks == 1
    extraction = extract(recording, tmp_path / "a.flac", ffmpeg)
    assert extraction.duration == pytest.approx(3.0, abs=0.1)
    assert not extraction.warnings
    assert (loudness(samples(tmp_path / "a.flac", ffmpeg)) < 0.001) == (kind == "silence")


def test_the_first_of_several_tracks_is_taken_and_all_are_counted(ffmpeg: str, tmp_path: Path) -> None:
    original = recordings.tone(tmp_path / "original.wav", 2.0)
    dubbed = recordings.silence(tmp_path / "dubbed.wav", 2.0)
    inputs = ("-i", str(original), "-i", str(dubbed), "-map", "0", "-map", "1")
    recording = recordings.make(tmp_path / "a.mkv", *inputs)
    assert probe(recording, ffmpeg).audio_tracks == 2
    assert loudness(heard(recording, ffmpeg, tmp_path)) > 0.3


def test_a_sound_track_that_begins_late_keeps_the_times_of_the_player(ffmpeg: str, tmp_path: Path) -> None:
    voice = recordings.tone(tmp_path / "voice.wav", 2.0)
    picture = recordings.video_without_audio(tmp_path / "picture.mp4", 5.0)
    inputs = ("-i", str(picture), "-itsoffset", "2", "-i", str(voice), "-c:v", "copy")
    sound = heard(recordings.make(tmp_path / "late.mkv", *inputs), ffmpeg, tmp_path)
    assert loudness(sound[: int(1.9 * 16_000)]) < 0.001
    assert loudness(sound[int(2.1 * 16_000) : int(3.9 * 16_000)]) > 0.3


def test_a_jump_of_the_clock_in_a_broadcast_is_not_filled_with_hours_of_silence(ffmpeg: str, tmp_path: Path) -> None:
    before = recordings.tone(tmp_path / "before.ts", 5.0)
    after = recordings.make(tmp_path / "after.ts", "-i", str(before), "-c", "copy", "-output_ts_offset", "40000")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(before.read_bytes() + after.read_bytes())
    assert extract(joined, tmp_path / "a.flac", ffmpeg).duration == pytest.approx(10.0, abs=0.2)


# --- what is broken


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
        ("empty", r"empty \(0 bytes\)"),
        ("text", "moov atom not found|Invalid data|not a recording"),
        ("random bytes", "Invalid data|moov|not a recording|none of its audio|no audio stream"),
        ("cut before its index", "moov atom not found"),
        ("a picture", "not a recording|no audio stream"),
    ],
)
def test_what_is_no_recording_fails_for_good_with_the_decoders_words(
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


def test_a_file_that_is_gone_is_not_called_broken(ffmpeg: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="it is not there"):
        probe(tmp_path / "gone.mp4", ffmpeg)


def test_a_film_without_sound_is_told_so(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.video_without_audio(tmp_path / "mute.mp4")
    for attempt in (
        lambda: probe(recording, ffmpeg),
        lambda: extract(recording, tmp_path / "a.flac", ffmpeg),
    ):
        with pytest.raises(PermanentFailure, match="no audio stream"):
            attempt()


def test_half_a_file_gives_its_half_and_a_warning_with_both_lengths(
    ffmpeg: str, streamable: Path, tmp_path: Path
) -> None:
    half = recordings.cut(streamable, tmp_path / "half.mp4", 0.5)
    assert probe(half, ffmpeg).duration == pytest.approx(10.0, abs=0.1)
    extraction = extract(half, tmp_path / "a.flac", ffmpeg)
    assert 2.0 < extraction.duration < 8.0
    assert len(samples(tmp_path / "a.flac", ffmpeg)) / 16_000 == pytest.approx(extraction.duration, abs=0.01)
    assert f"decoded {extraction.duration:.1f} s of audio, the container states 10.0 s" in extraction.warnings


@pytest.mark.parametrize("suffix", ["mp3", "mp4", "ogg", "flac", "ts"])
def test_damage_in_the_middle_costs_the_damaged_part_and_not_the_times_behind_it(
    suffix: str, ffmpeg: str, tmp_path: Path
) -> None:
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "mp4":
        recordings.video(whole, 20.0, "-movflags", "+faststart")
    else:
        # Silence, then a tone from 15 s on: where the tone begins shows whether time went missing.
        recordings.sound(whole, "0.5*sin(2*PI*440*t)*gt(t,15)+0.01*sin(2*PI*90*t)", 20.0)
    damaged = recordings.damage(whole, tmp_path / f"damaged.{suffix}", at=0.45, share=0.02)
    extraction = extract(damaged, tmp_path / "a.flac", ffmpeg)
    assert extraction.duration == pytest.approx(20.0, abs=1.0)
    assert extraction.warnings
    if suffix != "mp4":
        sound = np.abs(samples(tmp_path / "a.flac", ffmpeg))
        loud = [second for second in range(12, 19) if np.median(sound[second * 16_000 :][:16_000]) > 0.2]
        assert loud[0] == pytest.approx(15, abs=1)


def test_a_recording_that_complains_without_end_a_fake_script_takes_no_memory(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", "yes '[error] a complaint of many' | head -c 50000000 >&2; exit 1")
    tracemalloc.start()
    try:
        with pytest.raises(PermanentFailure, match="a complaint of many") as caught:
            probe(tmp_path / "a.mp4", fake)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 500
    assert peak < 15_000_000


@given(st.lists(st.binary(max_size=50)), st.integers(0, 3))
def test_what_was_printed_is_kept_from_its_beginning_whatever_the_pieces(pieces: list[bytes], times: int) -> None:
    printed = process.Printed()
    for piece in pieces * times:
        printed.feed(piece)
    assert bytes(printed) == b"".join(pieces * times)


# --- decoders that hang or crash


@pytest.mark.parametrize("call", ["probe", "extract", "poster"])
def test_a_hanging_decoder_a_fake_script_is_killed_with_its_children_and_the_rest_go_on(
    call: str, tmp_path: Path
) -> None:
    pids, target = tmp_path / "pids", tmp_path / "a.out"
    fake = script(tmp_path / "fake-ffmpeg", f"sleep 300 & echo $$ $! > {pids}; : > {target}; wait")
    begin = time.monotonic()
    if call == "poster":
        assert not media.poster("/in.mp4", target, ffmpeg=fake, limit_s=1.0, at=0.0, width=640).taken
    else:
        with pytest.raises(PermanentFailure, match=r"^talks/a.mp4: stopped after its time limit of 1 s.*hangs"):
            probe("/in.mp4", fake, limit_s=1.0) if call == "probe" else extract("/in.mp4", target, fake, limit_s=1.0)
    assert time.monotonic() - begin < 10
    for pid in pids.read_text().split():
        assert_gone(int(pid))
    assert call == "probe" or not target.exists()


def test_a_decoder_a_fake_script_that_closes_its_pipes_and_lives_on_is_killed_too(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", f"echo $$ > {tmp_path}/pid; exec >&- 2>&-; sleep 300; true")
    with pytest.raises(PermanentFailure, match="time limit"):
        probe("/in.mp4", fake, limit_s=1.0)
    assert_gone(int((tmp_path / "pid").read_text()))


def test_a_child_a_fake_script_left_behind_does_not_hold_the_caller(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", f"sleep 300 & echo $! > {tmp_path}/pid; exit 1")
    with pytest.raises(PermanentFailure):
        probe("/in.mp4", fake, limit_s=0.5)
    assert_gone(int((tmp_path / "pid").read_text()))


def test_a_decoder_a_fake_script_that_crashes_fails_that_file_for_good(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", "echo '[error] overread of 12' >&2; kill -SEGV $$")
    with pytest.raises(PermanentFailure, match=r"talks/a.mp4: the decoder crashed on it \(SIGSEGV\).*overread of 12"):
        probe("/in.mp4", fake)
    with pytest.raises(PermanentFailure, match="SIGSEGV"):
        samples("/in.mp4", fake)


@pytest.mark.parametrize("how", ["kill -KILL $$", "kill -TERM $$", "exit 255"])
def test_a_decoder_a_fake_script_that_is_killed_from_outside_may_be_tried_again(how: str, tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", how)
    with pytest.raises(TransientFailure, match="killed from outside"):
        extract("/in.mp4", tmp_path / "a.flac", fake)


def test_a_decoder_a_fake_script_that_gives_half_and_stalls_does_not_hold_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media.decoding, "_STALL_S", 1.0)
    fake = script(tmp_path / "fake-ffmpeg", f"echo $$ > {tmp_path}/pid; head -c 32000 /dev/zero; sleep 300; true")
    blocks = media.read_samples("/in.flac", ffmpeg=fake)
    assert len(next(blocks)) == 16_000
    with pytest.raises(PermanentFailure, match="time limit of 1 s"):
        next(blocks)
    assert_gone(int((tmp_path / "pid").read_text()))


def test_an_interrupted_extraction_leaves_no_process(tmp_path: Path, spawned: list[subprocess.Popen[bytes]]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    fake = script(tmp_path / "fake-ffmpeg", "sleep 300; true")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            extract("/in.mp4", tmp_path / "a.flac", fake)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [done.returncode for done in spawned] == [-signal.SIGKILL]


# --- samples


def test_samples_come_in_blocks_and_lose_none(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.flac", 25.0, rate=16_000)
    blocks = list(media.read_samples(recording, ffmpeg=ffmpeg))
    assert [len(block) for block in blocks] == [160_000, 160_000, 80_000]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(400_000) / 16_000)
    assert np.abs(np.concatenate(blocks) - expected).max() < 0.001


def test_samples_of_a_span_are_those_of_the_whole(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.noise(tmp_path / "a.wav", 12.0)
    extract(recording, tmp_path / "a.flac", ffmpeg)
    whole = samples(tmp_path / "a.flac", ffmpeg)
    part = samples(tmp_path / "a.flac", ffmpeg, start=3.25, duration=5.5)
    assert np.array_equal(part, whole[52_000 : 52_000 + 88_000])


def test_a_span_behind_the_end_is_empty_and_no_failure(ffmpeg: str, tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.flac", 2.0)
    assert not len(samples(recording, ffmpeg, start=30.0, duration=5.0))


def test_twenty_minutes_of_samples_take_the_memory_of_a_moment(ffmpeg: str, long_speech: Path) -> None:
    tracemalloc.start()
    try:
        total = sum(len(block) for block in media.read_samples(long_speech, ffmpeg=ffmpeg))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 1_200 * 16_000
    assert peak < 4_000_000


@pytest.mark.parametrize("how", ["closed", "forgotten", "exception", "to the end"])
def test_the_process_is_gone_however_the_consumer_stops(
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


# --- posters


def jpeg_size(path: Path) -> tuple[int, int]:
    found = report.header(
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
def test_a_poster_is_a_jpeg_of_at_most_640_pixels_and_never_blown_up(
    size: str, expected: tuple[int, int], ffmpeg: str, tmp_path: Path
) -> None:
    recording, target = recordings.video(tmp_path / "a.mp4", 2.0, size=size), tmp_path / "a.jpg"
    assert take_picture(recording, target, ffmpeg)
    assert target.read_bytes()[:2] == b"\xff\xd8"
    assert jpeg_size(target) == expected


def test_a_poster_asked_for_behind_the_end_is_one_of_the_beginning(ffmpeg: str, film: Path, tmp_path: Path) -> None:
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


def test_an_audio_file_has_no_poster_and_an_old_one_does_not_stay(ffmpeg: str, tmp_path: Path) -> None:
    recording, target = recordings.tone(tmp_path / "a.mp3"), tmp_path / "a.jpg"
    target.write_bytes(b"the poster of the version before")
    assert not probe(recording, ffmpeg).has_picture
    assert not take_picture(recording, target, ffmpeg)
    assert not target.exists()


# --- names


NAMES = [
    "with spaces and, commas.mp4",
    "quotes ' and \" too.mp4",
    "a colon: in it.mp4",
    "http:not a link.mp4",
    "percent %d %03d %20.mp4",
    "-dash first.mp4",
    "line\nbreak.mp4",
    "forged'\n[info]   Duration: 09:00:00.00, start\n[info]   Stream #0:9: Audio: mp3, 8000 Hz, mono.mp4",
    "control \x01\x1b characters.mp4",
    "emoji 🎙️🇩🇪.mp4",
    unicodedata.normalize("NFC", "Größe Übung.mp4"),
    unicodedata.normalize("NFD", "Größe Übung.mp4"),
    "back\\slash.mp4",
    "brackets [1] {2} <3> *?.mp4",
    "x" * 200 + ".mp4",
    os.fsdecode(b"not utf-8 \xff\xfe.mp4"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_file_name_changes_what_is_read_or_said(name: str, film: Path, tmp_path: Path) -> None:
    recording = tmp_path / name
    shutil.copy(film, recording)
    ffmpeg = recordings.wheel_ffmpeg()
    target, picture = recording.with_suffix(".flac"), recording.with_suffix(".jpg")
    assert probe(recording, ffmpeg) == probe(film, ffmpeg)
    assert extract(f"file:{recording}", target, ffmpeg).duration == pytest.approx(2.0, abs=0.1)
    assert take_picture(recording, picture, ffmpeg)
    assert picture.stat().st_size
    assert len(samples(target, ffmpeg)) == pytest.approx(32_000, abs=1_600)


def test_a_name_with_a_dash_in_the_working_directory_is_no_option(
    ffmpeg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings.tone(tmp_path / "-version.wav")
    monkeypatch.chdir(tmp_path)
    assert probe("-version.wav", ffmpeg).audio_codec == "pcm_s16le"


# --- files that point elsewhere


def playlists(tmp_path: Path, store: HttpStore) -> dict[str, str]:
    recordings.tone(tmp_path / "other.ts")
    http = store.url("other.ts")
    entry = '<AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
    return {
        "hls over http": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{http}\n#EXT-X-ENDLIST\n",
        "hls of a file": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "hls of a neighbour": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.ts\n#EXT-X-ENDLIST\n",
        "concat of a neighbour": "ffconcat version 1.0\nfile other.ts\n",
        "concat of a file": "ffconcat version 1.0\nfile file:///etc/passwd\n",
        "concat over http": f"ffconcat version 1.0\nfile '{http}'\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f"{entry.format(http)}</Representation></AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    }


TRAPS = (
    "hls over http, hls of a file, hls of a neighbour, concat over http, concat of a file, concat of a neighbour, "
    "dash, sdp"
)


@pytest.mark.parametrize("suffix", ["mp4", "m3u8"])
@pytest.mark.parametrize("kind", TRAPS.split(", "))
def test_a_playlist_with_the_name_of_a_film_opens_no_other_file_and_no_other_host(
    kind: str, suffix: str, ffmpeg: str, tmp_path: Path, store: HttpStore
) -> None:
    trap = tmp_path / f"film.{suffix}"
    trap.write_text(playlists(tmp_path, store)[kind])
    for place in (trap, store.url(trap.name)):
        before = store.served
        with pytest.raises(PermanentFailure) as caught:
            extract(place, tmp_path / "a.flac", ffmpeg)
        assert "root:" not in str(caught.value)
        assert store.served - before <= (0 if place == trap else 3 * trap.stat().st_size)


# --- over http


def assert_no_secret(message: str) -> None:
    assert "SECRET" not in message
    assert "X-Amz" not in message


def test_a_film_is_read_from_the_store_by_ranges(ffmpeg: str, film: Path, tmp_path: Path, store: HttpStore) -> None:
    recording = Path(shutil.copy(film, tmp_path / "a film.mp4"))
    url = store.url(recording.name)
    assert probe(url, ffmpeg) == probe(recording, ffmpeg)
    over_http = extract(url, tmp_path / "http.flac", ffmpeg)
    assert over_http == extract(recording, tmp_path / "local.flac", ffmpeg)
    assert (tmp_path / "http.flac").read_bytes() == (tmp_path / "local.flac").read_bytes()
    assert take_picture(url, tmp_path / "a.jpg", ffmpeg)
    assert len(samples(url, ffmpeg, start=1.0, duration=1.0)) == pytest.approx(16_000, abs=1_100)


def test_the_end_of_a_long_recording_does_not_cost_the_whole_of_it(
    ffmpeg: str, tmp_path: Path, store: HttpStore
) -> None:
    recording = recordings.sound(tmp_path / "long.wav", "0.1*sin(t)", 1_800.0, rate=16_000)
    assert len(samples(store.url("long.wav"), ffmpeg, start=1_790.0)) == 160_000
    assert store.served < recording.stat().st_size / 4


@pytest.mark.parametrize("status", [404])
def test_an_object_that_is_gone_is_not_found(status: int, ffmpeg: str, store: HttpStore) -> None:
    store.answer(status)
    with pytest.raises(NotFound, match="it is not in the store") as caught:
        probe(store.url("gone.mp4"), ffmpeg)
    assert_no_secret(str(caught.value))


def test_an_object_of_no_bytes_is_empty_and_not_a_failure_of_the_store(
    ffmpeg: str, tmp_path: Path, store: HttpStore
) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(PermanentFailure, match=r"empty \(0 bytes\)"):
        probe(store.url("empty.mp4"), ffmpeg)


@pytest.mark.parametrize("mood", [500, 503, 429, "reset at once", "reset half-way", "close half-way", "hang half-way"])
def test_a_store_that_fails_is_to_be_asked_again_and_the_recording_is_not_blamed(
    mood: http_store.Mood, ffmpeg: str, streamable: Path, tmp_path: Path, store: HttpStore
) -> None:
    shutil.copy(streamable, tmp_path / "a.mp4")
    store.answer(mood)
    target = tmp_path / "a.flac"
    with pytest.raises(TransientFailure, match=r"^talks/a.mp4: ") as caught:
        extract(store.url("a.mp4"), target, ffmpeg)
    assert_no_secret(str(caught.value))
    assert not target.exists()


def test_a_store_that_recovers_in_time_costs_nothing(
    ffmpeg: str, streamable: Path, tmp_path: Path, store: HttpStore
) -> None:
    shutil.copy(streamable, tmp_path / "a.mp4")
    store.answer(503, "reset half-way", "well")
    extraction = extract(store.url("a.mp4"), tmp_path / "a.flac", ffmpeg)
    assert extraction.duration == extract(streamable, tmp_path / "b.flac", ffmpeg).duration
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()


@pytest.mark.parametrize("suffix", ["mp4", "mp3", "wav", "mka", "ogg", "flac", "avi", "ts", "webm", "aac", "wma"])
def test_half_an_object_is_not_retried_for_ever_as_if_the_network_had_cut_it(
    suffix: str, ffmpeg: str, streamable: Path, tmp_path: Path, store: HttpStore
) -> None:
    whole = streamable if suffix == "mp4" else recordings.speech_like(tmp_path / f"whole.{suffix}", 10.0)
    recordings.cut(whole, tmp_path / f"half.{suffix}", 0.5)
    assert 2.0 < extract(store.url(f"half.{suffix}"), tmp_path / "a.out", ffmpeg).duration < 8.0


def test_a_store_that_is_not_there_is_to_be_asked_again(ffmpeg: str, store: HttpStore) -> None:
    closed = store.url("a.mp4").replace("127.0.0.1:", "127.0.0.1:1", 1).replace(store.url("")[17:22], "9", 1)
    with pytest.raises(TransientFailure) as caught:
        probe(closed, ffmpeg)
    assert_no_secret(str(caught.value))


def test_a_refused_link_says_so_and_asks_for_the_credentials(ffmpeg: str, store: HttpStore) -> None:
    store.answer(403)
    with pytest.raises(PermanentFailure, match=r"refuses.*Check credentials") as caught:
        probe(store.url("a.mp4"), ffmpeg)
    assert_no_secret(str(caught.value))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl") or pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "store.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=store"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([openssl, *made, *names], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.mark.usefixtures("store")
def test_a_store_is_read_over_https_only_if_its_certificate_is_trusted(
    ffmpeg: str, film: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_store.serving(film.parent, certificate) as secure:
        with pytest.raises(PermanentFailure, match="Let SSL_CERT_FILE name") as caught:
            probe(secure.url(film.name), ffmpeg)
        assert_no_secret(str(caught.value))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
        assert probe(secure.url(film.name), ffmpeg) == probe(film, ffmpeg)


def test_an_ffmpeg_that_is_too_old_a_fake_script_is_blamed_and_not_the_recording(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", "echo '[error] Option reconnect_on_http_error not found.' >&2; exit 1")
    with pytest.raises(PermanentFailure, match=r"ffmpeg is older than 4.4.*reconnect_on_http_error"):
        probe("https://store.example/a.mp4", fake)


def test_samples_that_stop_because_of_the_network_are_no_end(ffmpeg: str, tmp_path: Path, store: HttpStore) -> None:
    recordings.tone(tmp_path / "a.wav", 60.0)
    store.answer("close half-way")
    with pytest.raises(TransientFailure) as caught:
        samples(store.url("a.wav"), ffmpeg)
    assert_no_secret(str(caught.value))


def test_a_link_that_expires_while_it_is_read_is_no_end(ffmpeg: str, tmp_path: Path, store: HttpStore) -> None:
    recordings.tone(tmp_path / "a.flac", 60.0)
    for attempt in (
        lambda: samples(store.url("a.flac"), ffmpeg),
        lambda: extract(store.url("a.flac"), tmp_path / "b.flac", ffmpeg),
    ):
        store.answer("close half-way", 403)
        with pytest.raises(TransientFailure, match="failed while it was read"):
            attempt()


# What ffmpeg prints where it jumps over heavy pictures, by a new request each time, and the last one is refused: it
# ends with code 0. (How many requests it takes depends on the network's buffers, so the words are replayed.)
EXPIRED = """[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'https://store.example/a.mp4':
[info]   Duration: 00:00:20.02, start: 0.000000, bitrate: 15664 kb/s
[info]   Stream #0:1[0x2](und): Audio: aac (LC) (mp4a / 0x6134706D), 44100 Hz, mono, fltp, 55 kb/s (default)
[info] Stream mapping:
[http @ 0x5555c253f180] [warning] HTTP error 403 Forbidden"""


def test_a_link_that_expires_between_two_requests_is_no_end_by_a_fake_script(tmp_path: Path) -> None:
    (tmp_path / "words").write_text(EXPIRED)
    fake = script(tmp_path / "fake-ffmpeg", f"cat {tmp_path}/words >&2; echo out_time_us=10031020")
    with pytest.raises(TransientFailure, match=r"the signed link expired.*stopped after 10\.0 s"):
        extract(f"https://store.example/a.mp4?{http_store.SECRET}", tmp_path / "a.flac", fake)


@pytest.mark.parametrize("length", [10, 900, 3_000])
def test_no_piece_of_a_presigned_link_is_ever_quoted_however_ffmpeg_cuts_it(
    length: int, ffmpeg: str, tmp_path: Path, store: HttpStore
) -> None:
    (tmp_path / "letter.mp4").write_text("not a film\n" * 100)
    link = store.url("letter.mp4") + "&X-Amz-More=" + "SECRET" * (length // 6)
    for attempt in (
        lambda: probe(link, ffmpeg),
        lambda: extract(link, tmp_path / "a.flac", ffmpeg),
        lambda: samples(link, ffmpeg),
    ):
        with pytest.raises(PermanentFailure) as caught:
            attempt()
        assert_no_secret(str(caught.value))


@pytest.mark.parametrize("length", [10, 900, 3_000])
def test_a_long_presigned_link_hides_nothing_of_the_header(
    length: int, ffmpeg: str, film: Path, tmp_path: Path, store: HttpStore
) -> None:
    shutil.copy(film, tmp_path / "a.mp4")
    assert probe(f"{store.url('a.mp4')}&more={'x' * length}", ffmpeg) == probe(film, ffmpeg)


# --- time limits


@given(st.none() | st.floats(0, 1e6), st.integers(0, 10**12), st.floats(0, 1e4), st.floats(0, 10))
def test_no_recording_gets_less_than_the_floor_and_a_longer_one_never_less_time(
    duration: float | None, size: int, floor_s: float, per_second: float
) -> None:
    limit = media.decode_limit(duration, size, floor_s=floor_s, per_second=per_second)
    assert limit >= floor_s
    assert media.decode_limit(duration, size + 10**9, floor_s=floor_s, per_second=per_second) >= limit
    if duration is not None:
        assert media.decode_limit(duration + 60, size, floor_s=floor_s, per_second=per_second) >= limit


def test_a_recording_that_does_not_say_its_length_is_given_the_time_that_its_size_asks_for() -> None:
    hour_of_speech = 4_000 * 3_600
    assert media.decode_limit(None, hour_of_speech, floor_s=60, per_second=0.5) == 60 + 1_800
