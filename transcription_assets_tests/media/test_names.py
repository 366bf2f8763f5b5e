"""File names and contents that could redirect ffmpeg to another file or host."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import extract, probe, samples, take_picture
from transcription_assets_tests.media.http_store import HttpStore

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
def test_no_file_name_changes_the_result_or_the_error(name: str, film: Path, tmp_path: Path) -> None:
    recording = tmp_path / name
    shutil.copy(film, recording)
    ffmpeg = recordings.wheel_ffmpeg()
    target, picture = recording.with_suffix(".flac"), recording.with_suffix(".jpg")
    assert probe(recording, ffmpeg) == probe(film, ffmpeg)
    assert extract(f"file:{recording}", target, ffmpeg).duration == pytest.approx(2.0, abs=0.1)
    assert take_picture(recording, picture, ffmpeg)
    assert picture.stat().st_size
    assert len(samples(target, ffmpeg)) == pytest.approx(32_000, abs=1_600)


def test_a_relative_name_with_a_dash_is_not_an_option(
    ffmpeg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings.tone(tmp_path / "-version.wav")
    monkeypatch.chdir(tmp_path)
    assert probe("-version.wav", ffmpeg).audio_codec == "pcm_s16le"


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
def test_a_playlist_named_as_a_film_opens_no_other_file_or_host(
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
