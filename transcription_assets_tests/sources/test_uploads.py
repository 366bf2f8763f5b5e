"""Complete uploads land in the inbox of a folder and of a bucket, once, with their origin."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from transcription_assets.domain.media_keys import encode
from transcription_assets.errors import Occupied, PermanentFailure, Refused, StoreAway, TranscriptionError
from transcription_assets.pipeline import origin
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.sources.spool import SpoolLimits, Upload, UploadRequest, UploadSpool
from transcription_assets.sources.uploads import Landing
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.stores import Case, listed

LIMITS = SpoolLimits(10_000_000, 100_000_000, 100, 3600.0)


@pytest.fixture
def landing(case: Case, tmp_path: Path) -> Landing:
    place = UploadSpool(tmp_path / "uploads", LIMITS)
    return Landing(place, lambda: case.store, lambda: MediaDecoder(recordings.wheel_ffmpeg()))


def received(landing: Landing, data: bytes, filename: str = "tone.wav", user: str = "", folder: str = "") -> Upload:
    upload = landing.spool.create(UploadRequest(filename, len(data), user=user, folder=folder))
    with landing.spool.writing(upload.identifier, 0) as writer:
        writer.write(data)
    return upload


def test_a_complete_upload_lands_with_its_origin(landing: Landing, case: Case, tone: bytes) -> None:
    upload = landing.land(received(landing, tone, "../my tone.wav", user="ada", folder="tones"))
    key = encode(upload.name)
    assert (upload.state, listed(case.store)) == ("landed", [key])
    assert case.store.read_media(key, 0, len(tone) + 1) == tone
    made = origin.load(case.store, key)
    assert made
    assert (made.source, made.kind, made.identity, made.uploaded_by) == ("uploads", "upload", upload.identifier, "ada")
    assert (made.title, made.guid, made.size) == ("my tone", "../my tone.wav", len(tone))
    assert not landing.spool.path(upload.identifier).exists()


def test_the_same_name_twice_gives_two_recordings(landing: Landing, case: Case, tone: bytes) -> None:
    uploads = [received(landing, tone) for _ in range(2)]
    assert {landing.land(upload).state for upload in uploads} == {"landed"}
    assert len(listed(case.store)) == 2


@pytest.mark.parametrize("data", [b"no recording at all" * 100, b"\x00"], ids=["text", "one byte"])
def test_what_cannot_be_decoded_does_not_land(landing: Landing, case: Case, data: bytes) -> None:
    upload = landing.land(received(landing, data, "a.mp4"))
    assert upload.state == "failed"
    assert "a.mp4" in upload.reason
    assert listed(case.store) == []
    assert not landing.spool.path(upload.identifier).exists()


def away() -> Store:
    raise StoreAway("the store does not answer")


def test_an_upload_waits_for_a_store_that_is_away(landing: Landing, case: Case, tone: bytes) -> None:
    upload = replace(landing, store=away).land(received(landing, tone))
    assert (upload.state, upload.reason) == ("storing", "the store does not answer")
    assert landing.land(landing.spool.get(upload.identifier)).state == "landed"
    assert len(listed(case.store)) == 1


def no_ffmpeg() -> MediaDecoder:
    raise PermanentFailure("ffmpeg is missing")


def removed_ffmpeg() -> MediaDecoder:
    return MediaDecoder("/no/such/ffmpeg")


@pytest.mark.parametrize("decoder", [no_ffmpeg, removed_ffmpeg])
def test_an_upload_waits_for_ffmpeg(
    landing: Landing, case: Case, tone: bytes, decoder: Callable[[], MediaDecoder]
) -> None:
    upload = replace(landing, decoder=decoder).land(received(landing, tone))
    assert (upload.state, bool(upload.reason)) == ("checking", True)
    assert landing.land(upload).state == "landed"
    assert len(listed(case.store)) == 1


@pytest.mark.parametrize(("error", "state"), [(Refused, "storing"), (StoreAway, "storing"), (Occupied, "failed")])
def test_only_the_name_fails_for_good_at_the_store(
    landing: Landing, tone: bytes, monkeypatch: pytest.MonkeyPatch, error: type[TranscriptionError], state: str
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> str:
        raise error("the reason")

    monkeypatch.setattr(Store, "put_media", refuse)
    upload = landing.land(received(landing, tone))
    assert (upload.state, upload.reason) == (state, "the reason")


def test_an_ended_upload_is_returned_as_it_is(landing: Landing, tone: bytes) -> None:
    upload = received(landing, tone)
    failed = landing.spool.mark(upload, "failed", "the reason")
    assert landing.land(upload) == failed


def killed_after_put(landing: Landing, upload: Upload) -> Upload:
    """Leave what a process leaves that is killed when the recording has landed."""
    data = landing.spool.path(upload.identifier).read_bytes()
    landed = landing.land(upload)
    landing.spool.path(landed.identifier).write_bytes(data)
    return landing.spool.mark(landed, "storing")


def killed_after_move(landing: Landing, upload: Upload) -> Upload:
    upload = killed_after_put(landing, upload)
    landing.spool.path(upload.identifier).unlink()
    return upload


@pytest.mark.parametrize("killed", [killed_after_put, killed_after_move])
def test_an_upload_that_has_landed_does_not_land_again(
    landing: Landing, case: Case, tone: bytes, killed: Callable[[Landing, Upload], Upload]
) -> None:
    upload = killed(landing, received(landing, tone))
    before = case.store.stat(encode(upload.name))
    assert landing.land(upload).state == "landed"
    assert case.store.stat(encode(upload.name)) == before


def test_lost_bytes_are_reported(landing: Landing, case: Case, tone: bytes) -> None:
    upload = killed_after_move(landing, received(landing, tone))
    case.remove(upload.name)
    assert landing.land(upload).state == "failed"


def test_a_recording_of_that_name_is_never_replaced(landing: Landing, case: Case, tone: bytes) -> None:
    upload = received(landing, tone)
    case.put(upload.name, b"by hand")
    assert landing.land(upload).state == "failed"
    assert case.store.read_media(encode(upload.name), 0, 100) == b"by hand"


def test_errors_of_the_spool_are_failures_of_this_library(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TranscriptionError):
        UploadSpool(tmp_path / "file" / "uploads", LIMITS).create(UploadRequest("a.mp4", 1))
