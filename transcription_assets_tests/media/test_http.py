"""Reading of recordings by signed links from a store with simulated failures."""

import shutil
import subprocess
from pathlib import Path

import pytest

from transcription_assets.errors import NotFound, PermanentFailure, Refused, TransientFailure
from transcription_assets_tests import recordings
from transcription_assets_tests.media import http_store
from transcription_assets_tests.media.calls import extract, probe, samples, script, take_picture
from transcription_assets_tests.media.http_store import HttpStore


def assert_no_secret(message: str) -> None:
    assert "SECRET" not in message
    assert "X-Amz" not in message


def test_a_film_is_read_from_the_store_by_range_requests(
    ffmpeg: str, film: Path, tmp_path: Path, store: HttpStore
) -> None:
    recording = Path(shutil.copy(film, tmp_path / "a film.mp4"))
    url = store.url(recording.name)
    assert probe(url, ffmpeg) == probe(recording, ffmpeg)
    over_http = extract(url, tmp_path / "http.flac", ffmpeg)
    assert over_http == extract(recording, tmp_path / "local.flac", ffmpeg)
    assert (tmp_path / "http.flac").read_bytes() == (tmp_path / "local.flac").read_bytes()
    assert take_picture(url, tmp_path / "a.jpg", ffmpeg)
    assert len(samples(url, ffmpeg, start=1.0, duration=1.0)) == pytest.approx(16_000, abs=1_100)


def test_reading_the_end_does_not_download_the_whole_recording(ffmpeg: str, tmp_path: Path, store: HttpStore) -> None:
    recording = recordings.sound(tmp_path / "long.wav", "0.1*sin(t)", 1_800.0, rate=16_000)
    assert len(samples(store.url("long.wav"), ffmpeg, start=1_790.0)) == 160_000
    assert store.served < recording.stat().st_size / 4


def test_a_missing_object_is_not_found(ffmpeg: str, store: HttpStore) -> None:
    store.answer(404)
    with pytest.raises(NotFound) as caught:
        probe(store.url("gone.mp4"), ffmpeg)
    assert_no_secret(str(caught.value))


def test_an_empty_object_is_a_permanent_failure(ffmpeg: str, tmp_path: Path, store: HttpStore) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(PermanentFailure, match=r"\b0 bytes"):
        probe(store.url("empty.mp4"), ffmpeg)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mood", [500, 503, 429, "reset at once", "reset half-way", "close half-way", "hang half-way"])
def test_a_failing_store_is_a_transient_failure(
    mood: http_store.Mood, ffmpeg: str, streamable: Path, tmp_path: Path, store: HttpStore
) -> None:
    shutil.copy(streamable, tmp_path / "a.mp4")
    store.answer(mood)
    target = tmp_path / "a.flac"
    with pytest.raises(TransientFailure, match=r"^talks/a.mp4: ") as caught:
        extract(store.url("a.mp4"), target, ffmpeg)
    assert_no_secret(str(caught.value))
    assert not target.exists()


def test_a_store_that_recovers_loses_no_audio(ffmpeg: str, streamable: Path, tmp_path: Path, store: HttpStore) -> None:
    shutil.copy(streamable, tmp_path / "a.mp4")
    store.answer(503, "reset half-way", "well")
    extraction = extract(store.url("a.mp4"), tmp_path / "a.flac", ffmpeg)
    assert extraction.duration == extract(streamable, tmp_path / "b.flac", ffmpeg).duration
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()


@pytest.mark.parametrize("suffix", ["mp4", "mp3", "wav", "mka", "ogg", "flac", "avi", "ts", "webm", "aac", "wma"])
def test_half_an_object_is_decoded_without_endless_retries(
    suffix: str, ffmpeg: str, streamable: Path, tmp_path: Path, store: HttpStore
) -> None:
    whole = streamable if suffix == "mp4" else recordings.speech_like(tmp_path / f"whole.{suffix}", 10.0)
    recordings.cut(whole, tmp_path / f"half.{suffix}", 0.5)
    assert 2.0 < extract(store.url(f"half.{suffix}"), tmp_path / "a.out", ffmpeg).duration < 8.0


@pytest.mark.usefixtures("store")
def test_an_unreachable_store_is_a_transient_failure(ffmpeg: str) -> None:
    with pytest.raises(TransientFailure) as caught:
        probe(f"http://127.0.0.1:9/a.mp4?{http_store.SECRET}", ffmpeg)
    assert_no_secret(str(caught.value))


def test_a_refused_link_suggests_checking_the_credentials(ffmpeg: str, store: HttpStore) -> None:
    store.answer(403)
    with pytest.raises(Refused) as caught:
        probe(store.url("a.mp4"), ffmpeg)
    assert caught.value.hint
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
def test_https_requires_a_trusted_certificate(
    ffmpeg: str, film: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_store.serving(film.parent, certificate) as secure:
        with pytest.raises(PermanentFailure) as caught:
            probe(secure.url(film.name), ffmpeg)
        assert "SSL_CERT_FILE" in caught.value.hint
        assert_no_secret(str(caught.value))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
        assert probe(secure.url(film.name), ffmpeg) == probe(film, ffmpeg)


def test_an_ffmpeg_older_than_4_4_is_named_in_the_error(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", "echo '[error] Option reconnect_on_http_error not found.' >&2; exit 1")
    with pytest.raises(PermanentFailure, match="reconnect_on_http_error"):
        probe("https://store.example/a.mp4", fake)


def test_samples_cut_by_the_network_are_a_transient_failure(ffmpeg: str, tmp_path: Path, store: HttpStore) -> None:
    recordings.tone(tmp_path / "a.wav", 60.0)
    store.answer("close half-way")
    with pytest.raises(TransientFailure) as caught:
        samples(store.url("a.wav"), ffmpeg)
    assert_no_secret(str(caught.value))


def test_a_link_expiring_during_a_read_is_a_transient_failure(ffmpeg: str, tmp_path: Path, store: HttpStore) -> None:
    recordings.tone(tmp_path / "a.flac", 60.0)
    for attempt in (
        lambda: samples(store.url("a.flac"), ffmpeg),
        lambda: extract(store.url("a.flac"), tmp_path / "b.flac", ffmpeg),
    ):
        store.answer("close half-way", 403)
        with pytest.raises(TransientFailure):
            attempt()


# The output of ffmpeg when it skips large pictures with one request each and the last request is refused; the exit
# code is 0. The number of requests depends on network buffers, so the output is replayed by a fake script.
EXPIRED = """[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'https://store.example/a.mp4':
[info]   Duration: 00:00:20.02, start: 0.000000, bitrate: 15664 kb/s
[info]   Stream #0:1[0x2](und): Audio: aac (LC) (mp4a / 0x6134706D), 44100 Hz, mono, fltp, 55 kb/s (default)
[info] Stream mapping:
[http @ 0x5555c253f180] [warning] HTTP error 403 Forbidden"""


def test_a_link_expiring_between_requests_is_a_transient_failure(tmp_path: Path) -> None:
    (tmp_path / "words").write_text(EXPIRED)
    fake = script(tmp_path / "fake-ffmpeg", f"cat {tmp_path}/words >&2")
    with pytest.raises(TransientFailure):
        extract(f"https://store.example/a.mp4?{http_store.SECRET}", tmp_path / "a.flac", fake)


@pytest.mark.parametrize("length", [10, 900, 3_000])
def test_no_part_of_a_presigned_link_is_in_an_error(length: int, ffmpeg: str, tmp_path: Path, store: HttpStore) -> None:
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
def test_a_long_presigned_link_does_not_change_the_probe(
    length: int, ffmpeg: str, film: Path, tmp_path: Path, store: HttpStore
) -> None:
    shutil.copy(film, tmp_path / "a.mp4")
    assert probe(f"{store.url('a.mp4')}&more={'x' * length}", ffmpeg) == probe(film, ffmpeg)
