"""Limits of an ffmpeg process: memory, disk, environment, decoders and lifetime."""

import os
import struct
import subprocess
import sys
import time
import wave
import zlib
from pathlib import Path

import pytest

from transcription_assets import media
from transcription_assets.errors import PermanentFailure
from transcription_assets.media import ffmpeg_process
from transcription_assets.media.extraction import encode_limit
from transcription_assets.media.mixing import Samples
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import assert_gone, extract, probe, script

SIDE = 16_000
"""Pixels: a grey picture of this width and height is 256 MB, and 0.3 MB as a PNG."""

MEASURED = """
import resource, sys
from transcription_assets import media
media.probe(sys.argv[1], "a", ffmpeg=sys.argv[2], limit_s=120)
media.extract_speech(sys.argv[1], __import__("pathlib").Path(sys.argv[3]), name="a", ffmpeg=sys.argv[2], limit_s=120)
media.poster(sys.argv[1], __import__("pathlib").Path(sys.argv[4]), ffmpeg=sys.argv[2], limit_s=120, at=0.0, width=64)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def grey_png(path: Path, side: int) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compressobj(1)
    rows = b"".join(packed.compress(bytes(side + 1)) for _ in range(side)) + packed.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


@pytest.fixture(scope="module")
def covered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one second of audio with a cover image that decompresses to about 1000 times its size."""
    folder = tmp_path_factory.mktemp("covers")
    picture, target = grey_png(folder / "cover.png", SIDE), folder / "a.m4a"
    make = "-f lavfi -i sine=d=1 -i {} -map 0 -map 1 -c:a aac -c:v copy -disposition:v attached_pic".format
    command = [recordings.wheel_ffmpeg(), "-v", "error", *make(picture).split(), str(target)]
    subprocess.run(command, check=True, timeout=120)
    return target


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit on other platforms")
def test_a_huge_cover_image_takes_no_memory(covered: Path, ffmpeg: str, tmp_path: Path) -> None:
    arguments = [str(covered), ffmpeg, str(tmp_path / "a.flac"), str(tmp_path / "a.jpg")]
    told = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(told.stdout) * 1024 < SIDE * SIDE // 2


def test_a_cover_image_does_not_change_the_duration(covered: Path, ffmpeg: str) -> None:
    found = probe(covered, ffmpeg)
    assert found.has_picture
    assert found.duration == pytest.approx(1.0, abs=0.1)


def test_a_codec_that_is_not_allowed_is_named_in_the_error(
    ffmpeg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recordings.tone(tmp_path / "a.flac")
    monkeypatch.setattr(ffmpeg_process, "_SOUND", "aac,opus")
    with pytest.raises(PermanentFailure, match="flac"):
        probe(recording, ffmpeg)


def test_common_decoders_are_allowed_and_in_both_ffmpegs(ffmpeg: str) -> None:
    told = subprocess.run([ffmpeg, "-hide_banner", "-decoders"], capture_output=True, text=True, check=True)
    known = {line.split()[1] for line in told.stdout.splitlines() if line.startswith((" A", " V")) and "=" not in line}
    arguments = ffmpeg_process.input_arguments("file:/a")
    allowed = set(arguments[arguments.index("-codec_whitelist") + 1].split(","))
    assert {
        "aac",
        "mp3float",
        "flac",
        "opus",
        "vorbis",
        "pcm_s16le",
        "alac",
        "wmav2",
        "h264",
        "hevc",
    } <= allowed & known


def test_a_sample_rate_of_1_hz_is_refused_before_decoding(ffmpeg: str, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "slow.wav"), "wb") as slow:
        slow.setparams((1, 2, 1, 0, "NONE", ""))
        slow.writeframes(bytes(48_000))  # 6.7 hours
    with pytest.raises(PermanentFailure, match=r"\b1 Hz"):
        probe(tmp_path / "slow.wav", ffmpeg)


SPOOLED = 24 * 16_000 * 2
"""Bytes of one track of 24 s."""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two tracks of 24 s that FLAC cannot compress."""
    source = ("-f", "lavfi", "-i", "anoisesrc=d=24:seed=7:a=0.9:r=16000")
    path = tmp_path_factory.mktemp("noisy") / "a.mka"
    return recordings.make(path, *source, "-map", "0:a", "-map", "0:a", "-c:a", "flac")


@pytest.mark.parametrize(("tracks", "most_disk"), [(1, 1.5), (2, 1.5), (2, 2.5)])
def test_a_recording_that_needs_more_disk_fails(
    tracks: int, most_disk: float, ffmpeg: str, noisy: Path, tmp_path: Path
) -> None:
    chosen = [media.Track(number) for number in range(tracks)]
    target = tmp_path / "a.flac"
    with pytest.raises(PermanentFailure) as caught:
        extract(noisy, target, ffmpeg, tracks=chosen, most_disk=int(most_disk * SPOOLED))
    assert caught.value.hint
    assert not target.exists()


@pytest.mark.parametrize("tracks", [1, 2])
def test_disk_for_the_tracks_and_one_flac_is_enough(tracks: int, ffmpeg: str, noisy: Path, tmp_path: Path) -> None:
    chosen = [media.Track(number) for number in range(tracks)]
    most_disk = int((tracks + 1.1) * SPOOLED)
    assert extract(noisy, tmp_path / "a.flac", ffmpeg, tracks=chosen, most_disk=most_disk).duration == 24.0


def test_an_unused_track_is_removed_from_disk(ffmpeg: str, noisy: Path, tmp_path: Path) -> None:
    chosen = [media.Track(number) for number in range(2)]

    def on_one(samples: Samples) -> list[tuple[float, float]]:
        return [(0.0, len(samples) / media.SAMPLE_RATE)]

    most_disk = int(2.1 * SPOOLED)
    made = extract(noisy, tmp_path / "a.flac", ffmpeg, tracks=chosen, detector=on_one, most_disk=most_disk)
    assert len(made.tracks) == 1


def test_ffmpeg_does_not_inherit_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "TRANSCRIPTION_EMBEDDING_KEY", "DAGSTER_PG_PASSWORD"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    fake = script(tmp_path / "fake-ffmpeg", f"env > {tmp_path}/env")
    ffmpeg_process.run([fake], 60)
    given = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert "s3cret" not in given.values()
    assert given["PATH"] == os.environ["PATH"]
    assert given["https_proxy"] == "http://proxy.example:3128"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit the memory of another process")
def test_the_address_space_of_ffmpeg_is_bounded(tmp_path: Path) -> None:
    # The limit is set from outside shortly after the start.
    fake = script(
        tmp_path / "fake-ffmpeg", f"until ulimit -v | grep -qv unlimited; do :; done; ulimit -v > {tmp_path}/v"
    )
    assert ffmpeg_process.run([fake], 60).code == 0
    assert int((tmp_path / "v").read_text()) * 1024 == ffmpeg_process.MEMORY_BYTES


def test_running_out_of_memory_is_a_permanent_failure(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", "echo '[error] Error: Cannot allocate memory' >&2; exit 1")
    with pytest.raises(PermanentFailure, match=r"\bGiB\b"):
        probe(tmp_path / "a.mp4", fake)


@pytest.mark.skipif(not ffmpeg_process.bound_to_parent(), reason="setpriv is not available")
def test_ffmpeg_is_killed_with_its_parent(tmp_path: Path) -> None:
    fake = script(
        tmp_path / "fake-ffmpeg", f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 300; true"
    )
    start = f"from transcription_assets.media import ffmpeg_process; ffmpeg_process.run([{fake!r}], 300)"
    parent = subprocess.Popen([sys.executable, "-c", start])
    try:
        while not (tmp_path / "pid").exists():
            assert parent.poll() is None
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
    assert_gone(int((tmp_path / "pid").read_text()))


def test_the_encode_limit_allows_a_minute_per_hour() -> None:
    hours = 18
    assert encode_limit(60.0, hours * 3_600 * media.SAMPLE_RATE) > 60.0 + hours * 60
