"""Choice among several audio tracks by speech, with the real detector."""

from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import audio, video
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets_tests import demo, recordings
from transcription_assets_tests.media.calls import loudness, samples

SECONDS = 8.0
GUEST = f"[1:a]atrim=0:{SECONDS},volume='between(t,4,8)':eval=frame[b]"
HOST = f"[0:a]atrim=0:{SECONDS},volume='between(t,0,4)':eval=frame[a]"
BOTH_TALK = f"[0:a]atrim=0:{SECONDS}[a];[1:a]atrim=0:{SECONDS}[b]"
SECOND_MIX = f"[0:a]atrim=0:{SECONDS},asplit[a][c];[c]volume=0.7[b];[1:a]anullsink"
MUSIC = f"[0:a]atrim=0:{SECONDS}[b];[1:a]anullsink;aevalsrc='0.2*sin(2*PI*220*t)+0.2*sin(2*PI*277*t)':d={SECONDS}[a]"


def two_tracks(path: Path, graph: str, *options: str) -> Path:
    voices = ("-ss", "1", "-i", str(demo.WIZARD), "-ss", "1", "-i", str(demo.BEES))
    return recordings.make(path, *voices, "-filter_complex", graph, "-map", "[a]", "-map", "[b]", *options)


def heard(recording: Path, ffmpeg: str, tmp_path: Path, setting: str = "auto") -> audio.Audio:
    store = Store.open(str(tmp_path / "store"))
    key = store.put_media(f"audio/{recording.name}", recording)
    decoder = MediaDecoder(ffmpeg, audio_tracks=setting)
    video.materialise(store, key, decoder)
    return audio.materialise(store, key, decoder)


@pytest.mark.parametrize(
    ("graph", "options", "used"),
    [
        (f"{HOST};{GUEST}", ("-c:a", "flac"), (1, 2)),
        (BOTH_TALK, ("-c:a", "flac"), (1,)),
        (SECOND_MIX, ("-c:a", "flac"), (1,)),
        (MUSIC, ("-c:a", "flac"), (2,)),
        (
            f"{HOST};{GUEST}",
            ("-c:a", "flac", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra"),
            (1,),
        ),
    ],
    ids=["host and guest", "two versions", "second mix", "music first", "two languages"],
)
def test_tracks_with_speech_are_used(
    graph: str, options: tuple[str, ...], used: tuple[int, ...], ffmpeg: str, tmp_path: Path
) -> None:
    made = heard(two_tracks(tmp_path / "a.mkv", graph, *options), ffmpeg, tmp_path)
    assert made.tracks == used
    assert made.track_count == 2
    assert made.original_is_exact == (used == (1,))


@pytest.mark.parametrize(("setting", "used"), [("first", (1,)), ("2", (2,)), ("all", (1, 2))])
def test_setting_chooses_the_tracks(setting: str, used: tuple[int, ...], tmp_path: Path) -> None:
    recording = two_tracks(tmp_path / "a.mkv", f"{HOST};{GUEST}", "-c:a", "flac")
    ffmpeg = recordings.wheel_ffmpeg()
    assert heard(recording, ffmpeg, tmp_path, setting).tracks == used
    sound = samples(tmp_path / "store/extracted/audio/a.mkv.flac", ffmpeg)
    parts = [loudness(sound[: 4 * 16_000]) > 0.005, loudness(sound[4 * 16_000 :]) > 0.005]
    assert parts == [1 in used, 2 in used]


def test_track_that_does_not_exist_fails_permanently(tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.wav")
    with pytest.raises(PermanentFailure):
        heard(recording, recordings.wheel_ffmpeg(), tmp_path, "3")
