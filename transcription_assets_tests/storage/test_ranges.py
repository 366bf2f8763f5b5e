"""Bytes fetched of a recording in a bucket, counted by a proxy in front of the S3 server and not by ffmpeg."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

from transcription_assets import media
from transcription_assets.pipeline import audio, video
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets_tests import fault_proxy, recordings, seaweed
from transcription_assets_tests.fault_proxy import FaultProxy

DECODER = MediaDecoder(recordings.wheel_ffmpeg())
MINUTES = 5
SMALL_PART = 0.4
"""A share of the film. ffmpeg reads much less, but what it leaves in the buffers of a socket counts as sent."""


@pytest.fixture(scope="module")
def proxy(s3_server: seaweed.S3Server) -> Iterator[FaultProxy]:
    with fault_proxy.between(s3_server.endpoint) as standing:
        yield standing


@pytest.fixture(scope="module")
def store(proxy: FaultProxy, s3_server: seaweed.S3Server) -> Store:
    return Store.open(f"s3://{s3_server.bucket}/ranges", s3_session=seaweed.session(), s3_endpoint=proxy.endpoint)


@pytest.fixture(scope="module", params=["index in front", "index behind"])
def film(request: pytest.FixtureRequest, store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Five minutes at the bit rate of real recordings: a few seconds repeated."""
    folder = tmp_path_factory.mktemp("films")
    rate = ("-b:v", "1M", "-minrate", "1M", "-maxrate", "1M", "-bufsize", "1M", "-x264-params", "nal-hrd=cbr")
    piece = recordings.video(folder / "piece.mp4", 10.0, *rate)
    flags = ("-movflags", "+faststart") if request.param == "index in front" else ()
    looped = ("-stream_loop", str(MINUTES * 6 - 1), "-i", f"file:{piece}", "-c", "copy", *flags)
    path = recordings.make(folder / f"{request.param}.mp4", *looped)
    assert path.stat().st_size > 30_000_000
    return store.put_media(f"video/{path.name}", path)


def test_steps_read_the_film_once_and_never_keep_it_on_disk(
    film: str, store: Store, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video step reads a small part, the audio step everything once; both are run only once for both measures."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert gettempdir() == str(tmp_path)
    largest = 0
    upload = store.upload

    def measure_then_upload(path: str, source: Path) -> None:
        nonlocal largest
        largest = max(largest, sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
        upload(path, source)

    monkeypatch.setattr(store, "upload", measure_then_upload)
    size = store.stat(film).size
    proxy.behave()
    seen = video.materialise(store, film, DECODER)
    assert seen.has_poster
    assert 0 < seen.bytes_read < 0.2 * size
    assert seen.bytes_read <= proxy.sent < SMALL_PART * size
    proxy.behave()
    heard = audio.materialise(store, film, DECODER)
    assert heard.duration == pytest.approx(MINUTES * 60, abs=2.0)  # each joint of the loop adds a few milliseconds
    assert 0.9 * size < heard.bytes_read <= proxy.sent <= 1.05 * size
    assert 0 < largest < 0.5 * size


def test_reading_the_last_half_minute_fetches_a_part_of_the_film(film: str, store: Store, proxy: FaultProxy) -> None:
    size = store.stat(film).size
    link = store.media_url(film)
    proxy.behave()
    start = MINUTES * 60 - 30.0
    assert sum(map(len, media.read_samples(link, ffmpeg=DECODER.ffmpeg, start=start))) == pytest.approx(
        30 * media.SAMPLE_RATE, rel=0.05
    )
    assert proxy.sent < SMALL_PART * size
