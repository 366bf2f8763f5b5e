"""Detection of truncated files; complete files, however unusual, are never reported."""

import struct
import subprocess
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.media import Truncation, find_truncation, is_complete
from transcription_assets.pipeline import audio, video
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain

SECONDS = 6.0
SOUND = ("-f", "lavfi", "-i", f"aevalsrc='0.3*sin(2*PI*440*t)':s=44100:d={SECONDS}")
FILM = ("-f", "lavfi", "-i", f"testsrc=s=96x64:r=25:d={SECONDS}", *SOUND)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25")

STATED = {
    "wav": SOUND,
    "w64": SOUND,
    "caf": SOUND,
    "wma": SOUND,
    "opus": SOUND,
    "ogg": (*SOUND, "-c:a", "libvorbis"),
    "oga": (*SOUND, "-c:a", "flac"),
    "avi": (*FILM, "-c:a", "libmp3lame"),
    "asf": (*FILM, "-c:v", "wmv2", "-c:a", "wmav2"),
}
STREAM = (*FILM, "-c:v", "mpeg2video", "-c:a", "mp2")


def whole(suffix: str, tmp_path: Path, *options: str) -> bytes:
    return recordings.make(tmp_path / f"whole.{suffix}", *(options or STATED[suffix])).read_bytes()


def piped(*options: str) -> bytes:
    """Return a file as written to a pipe, where sizes cannot be filled in later."""
    command = [recordings.wheel_ffmpeg(), "-nostdin", "-v", "error", *options, "pipe:1"]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


def found(data: bytes) -> Truncation | None:
    return find_truncation(lambda start, length: data[start : start + length], len(data))


def wav(samples: bytes, stated: int, *, riff: int | None = None, behind: bytes = b"") -> bytes:
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 8_000, 1, 8)
    body = b"WAVE" + form + b"data" + struct.pack("<I", stated) + samples + behind
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


@pytest.mark.parametrize("suffix", STATED)
def test_only_a_truncated_file_is_detected(suffix: str, tmp_path: Path) -> None:
    data = whole(suffix, tmp_path)
    assert found(data) is None
    for share in (0.5, 0.9):
        cut = found(data[: int(len(data) * share)])
        assert cut is not None
        assert cut.certain is (suffix not in {"asf", "wma"}), "editors of tags leave sizes of ASF as they were"


@pytest.mark.parametrize(
    "options",
    [
        (*SOUND, "-f", "wav"),
        (*SOUND, "-f", "w64"),
        (*SOUND, "-f", "caf"),
        (*SOUND, "-c:a", "libopus", "-f", "ogg"),
        (*SOUND, "-c:a", "wmav2", "-f", "asf"),
        (*FILM, "-c:a", "libmp3lame", "-f", "avi"),
        (*STREAM, "-f", "mpegts"),
    ],
    ids=lambda options: str(options[-1]),
)
def test_a_file_written_to_a_pipe_is_not_truncated(options: tuple[str, ...]) -> None:
    assert found(piped(*options)) is None


@pytest.mark.parametrize("stated", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF])
def test_a_wav_with_an_unset_size_is_not_truncated(stated: int) -> None:
    assert found(wav(bytes(999), stated)) is None
    assert found(wav(bytes(999), stated, riff=0)) is None


@pytest.mark.parametrize(
    "data",
    [
        wav(bytes(999), 999),
        wav(bytes(999), 999, behind=b"\0"),
        wav(bytes(999), 999, riff=99_999),
        wav(bytes(999), 999, behind=b"\0LIST" + struct.pack("<I", 5_000) + b"INFO"),
        wav(bytes(999), 999, behind=b"\0id3 " + struct.pack("<I", 10) + bytes(10)),
        wav(bytes(998), 998, behind=b"TAG" + bytes(125)),
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"\x47" * 100,
    ],
    ids=range(10),
)
def test_an_unusual_end_is_not_a_truncation(data: bytes) -> None:
    assert found(data) is None


def test_a_tag_or_another_stream_may_follow_an_ogg(tmp_path: Path) -> None:
    data = whole("opus", tmp_path)
    assert found(data + b"TAG" + bytes(125)) is None
    assert found(data + data) is None


def test_an_ogg_without_a_last_page_may_be_truncated(tmp_path: Path) -> None:
    data = whole("opus", tmp_path)
    last = data.rindex(b"OggS")
    for live in (data[:last], data[: last + 5] + b"\0" + data[last + 6 :]):
        cut = found(live)
        assert cut is not None
        assert not cut.certain


@pytest.mark.parametrize("packet", [188, 192])
def test_a_partial_stream_packet_may_be_a_truncation(packet: int, tmp_path: Path) -> None:
    options = ("-mpegts_m2ts_mode", "1") if packet == 192 else ()
    data = whole("ts", tmp_path, *STREAM, *options)
    assert len(data) % packet == 0
    assert found(data) is None
    assert found(data[: len(data) // 2 // packet * packet]) is None  # a cut between two packets cannot be detected
    cut = found(data[: len(data) // 2 // packet * packet + 100])
    assert cut is not None
    assert not cut.certain


@pytest.mark.parametrize("missing", [0, 1_000])
def test_a_long_avi_is_measured_by_its_last_segment(missing: int) -> None:
    def segment(kind: bytes, length: int) -> bytes:
        return b"RIFF" + struct.pack("<I", length + 4) + kind + bytes(length)

    data = segment(b"AVI ", 5_000) + segment(b"AVIX", 5_000) + segment(b"AVIX", 5_000)
    assert (found(data[: len(data) - missing]) is not None) == bool(missing)


# The steps with both ffmpegs: our own detection, the stated duration and the messages of ffmpeg.

CUT = {
    "wav": SOUND,
    "opus": SOUND,
    "flac": SOUND,
    "mp3": SOUND,
    "webm": (*FILM, "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-live", "1"),
    "mp4": (*FILM, *H264, "-movflags", "frag_keyframe+empty_moov"),
    "mkv": (*FILM, *H264),
}


def processed(data: bytes, suffix: str, ffmpeg: str, tmp_path: Path) -> Audio:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    store = Store.open(str(tmp_path / "store"))
    key = store.put_media(f"audio/{path.name}", path)
    video.materialise(store, key, MediaDecoder(ffmpeg))
    made = audio.materialise(store, key, MediaDecoder(ffmpeg))
    assert audio.load(store, key) is not None
    return made


@pytest.mark.parametrize("suffix", CUT)
def test_the_audio_step_reports_a_truncated_file(suffix: str, ffmpeg: str, tmp_path: Path) -> None:
    data = whole(suffix, tmp_path, *CUT[suffix])
    assert processed(data, suffix, ffmpeg, tmp_path).is_whole
    cut = processed(data[: len(data) // 2 + 50], suffix, ffmpeg, tmp_path)
    assert not cut.is_whole
    assert 0 < cut.duration < SECONDS - 1


def test_process_reports_a_truncated_recording(tmp_path: Path) -> None:
    data = whole("wav", tmp_path)
    store = Store.open(str(tmp_path / "store"))
    for name, part in (("cut", data[: len(data) // 2]), ("whole", data)):
        (tmp_path / f"store/audio/{name}.wav").write_bytes(part)
    report = Chain(store).run("audio/cut.wav", "audio/whole.wav")
    assert set(report.incomplete) == {"audio/cut.wav"}
    assert len(report.done) == 2


@pytest.mark.parametrize("suffix", ["m4a", "mov"])
def test_a_truncation_before_the_index_fails(suffix: str, ffmpeg: str, tmp_path: Path) -> None:
    data = whole(suffix, tmp_path, *SOUND, "-c:a", "aac")
    with pytest.raises(PermanentFailure):
        processed(data[: len(data) // 2], suffix, ffmpeg, tmp_path)


LONG_PICTURE = ("-f", "lavfi", "-i", "testsrc=s=96x64:r=25:d=9", *SOUND, *H264, "-c:a", "aac")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_only_a_file_that_reaches_its_stated_end_is_complete(suffix: str, tmp_path: Path) -> None:
    data = whole(suffix, tmp_path, *LONG_PICTURE)
    assert is_complete(lambda start, length: data[start : start + length], len(data))
    for end in (1, 3, 5, 40, len(data) // 2, len(data) - 1):
        assert not is_complete(lambda start, length, end=end: data[:end][start : start + length], end)


def test_fragments_and_streams_are_not_known_to_be_complete(tmp_path: Path) -> None:
    fragments = whole("mp4", tmp_path, *LONG_PICTURE, "-movflags", "frag_keyframe+empty_moov")
    assert not is_complete(lambda start, length: fragments[start : start + length], len(fragments))
    stream = piped(*FILM, *H264, "-c:a", "aac", "-f", "matroska")
    assert not is_complete(lambda start, length: stream[start : start + length], len(stream))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_picture_may_last_longer_than_the_sound(suffix: str, ffmpeg: str, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    key = f"video/long.{suffix}"
    recordings.make(Path(store.url) / key, *LONG_PICTURE)
    decoder = MediaDecoder(ffmpeg)
    video.materialise(store, key, decoder)
    made = audio.materialise(store, key, decoder)
    assert made.duration == pytest.approx(SECONDS, abs=0.1)
    assert made.is_whole
