"""Faults between the project and a real S3 server: retried, then reported as the right type, never partial data."""

import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound, PermanentFailure, Refused, TransientFailure
from transcription_assets.media import ffmpeg_process
from transcription_assets.pipeline import audio, transcript, video
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store, Timeouts
from transcription_assets_tests import fault_proxy, recordings, seaweed
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.fault_proxy import Cut, Fault, FaultProxy, Reset, Shrunk, Silent

FEW_TRIES = Timeouts(connect_s=10.0, silence_s=20.0, attempts=3, retries_s=20.0)
IMPATIENT = Timeouts(connect_s=10.0, silence_s=0.5, attempts=3, retries_s=2.0)
"""Only for tests with a silent store: a busy machine may need more than half a second for a real answer."""
ACCOUNT = seaweed.Account(seaweed.OWNER.access_key, seaweed.OWNER.secret_key)
SECRETS = (ACCOUNT.secret_key, f"{ACCOUNT.access_key}/", "Signature=", "X-Amz-", "x-amz-")
SECONDS = 20
"""Duration of the recordings in this module."""

DECODER = MediaDecoder(recordings.wheel_ffmpeg(), floor_s=60.0)
BROKEN_ANSWERS = [Reset(), Cut(), Shrunk()]
HOPELESS_ANSWERS = [Reset(0.0), Cut(0.0), Shrunk()]
"""If each retry returned half of the rest, a patient reader would eventually have all of it."""


@pytest.fixture
def proxy(s3_server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(ffmpeg_process, "RECONNECT_S", 0)
    with fault_proxy.between(s3_server.endpoint) as standing:
        yield standing


Opening = Callable[[Timeouts], Store]


@pytest.fixture
def opening(proxy: FaultProxy, s3_server: seaweed.S3Server, tmp_path: Path) -> Opening:
    """Return a function that opens an own prefix with given timeouts; every request goes through the proxy."""
    url = f"s3://{s3_server.bucket}/faults/{tmp_path.name}"
    return lambda timeouts: Store.open(url, s3_session=seaweed.session(), s3_endpoint=proxy.endpoint, timeouts=timeouts)


@pytest.fixture
def store(opening: Opening) -> Store:
    return opening(FEW_TRIES)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Containers that mark their end by an index, by their length, by their last page, or not at all."""
    folder = tmp_path_factory.mktemp("films")
    return {
        "mp4": recordings.video(folder / "a.mp4", SECONDS, "-movflags", "+faststart"),
        "mov": recordings.video(folder / "a.mov", SECONDS),
        "mkv": recordings.video(folder / "a.mkv", SECONDS),
        "ts": recordings.video(folder / "a.ts", SECONDS),
        "mp3": recordings.speech_like(folder / "a.mp3", SECONDS, "-write_xing", "0"),
        "ogg": recordings.speech_like(folder / "a.ogg", SECONDS),
        "wav": recordings.speech_like(folder / "a.wav", SECONDS),
        "aac": recordings.speech_like(folder / "a.aac", SECONDS),
    }


def itself(key: str) -> str:
    """Return a pattern for requests of the recording, but not of the artefacts named after it."""
    return rf"/{re.escape(key)}(\?|$)"


def dropped(store: Store, path: Path) -> str:
    return store.put_media(f"video/{path.name}", path)


def read(store: Store) -> bytes:
    return store.read("transcripts/a.json")


OPERATIONS: dict[str, tuple[Callable[[Store], object], str]] = {
    "read": (read, "GET"),
    "write": (lambda store: store.write("transcripts/b.json", b"{}"), "PUT"),
    "list": (lambda store: store.list_media().frame.height, "GET"),
    "stat": (lambda store: store.stat("video/a.mp4").size, "HEAD"),
}


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest, store: Store) -> tuple[Callable[[Store], object], str]:
    store.write("transcripts/a.json", b"x" * (1 << 20))
    store.write("video/a.mp4", b"x")
    return OPERATIONS[request.param]


# --- the store


def test_briefly_busy_store_is_retried(
    operation: tuple[Callable[[Store], object], str], store: Store, proxy: FaultProxy
) -> None:
    work, method = operation
    before = work(store)
    proxy.fail(fault_proxy.SLOW_DOWN, times=2, methods=method)
    assert work(store) == before


@pytest.mark.parametrize("fault", [fault_proxy.SLOW_DOWN, Silent()], ids=str)
def test_busy_or_silent_store_is_retried_then_a_transient_failure(
    operation: tuple[Callable[[Store], object], str], opening: Opening, proxy: FaultProxy, fault: Fault
) -> None:
    work, method = operation
    impatient = opening(IMPATIENT)
    proxy.behave()
    proxy.fail(fault, methods=method)
    with pytest.raises(TransientFailure):
        work(impatient)
    assert len(proxy.requests) > 1


def test_refusal_is_a_permanent_failure_and_not_retried(
    operation: tuple[Callable[[Store], object], str], store: Store, proxy: FaultProxy
) -> None:
    work, method = operation
    proxy.behave()
    proxy.fail(fault_proxy.ACCESS_DENIED, methods=method)
    with pytest.raises(Refused) as caught:
        work(store)
    assert caught.value.hint
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("name", ["read", "write", "list"])
def test_expired_credentials_are_a_transient_failure(store: Store, proxy: FaultProxy, name: str) -> None:
    work, method = OPERATIONS[name]
    proxy.fail(fault_proxy.EXPIRED, methods=method)
    with pytest.raises(TransientFailure) as caught:
        work(store)
    assert caught.value.hint


def test_refusal_without_reason_hints_at_credentials(store: Store, proxy: FaultProxy) -> None:
    proxy.fail(fault_proxy.Answer(400, "ExpiredToken"), methods="HEAD")
    with pytest.raises(Refused) as caught:
        store.stat("video/a.mp4")
    assert caught.value.hint


@pytest.mark.parametrize("fault", BROKEN_ANSWERS, ids=str)
def test_artefact_is_read_completely_or_not_at_all(
    store: Store, proxy: FaultProxy, fault: Fault, tmp_path: Path
) -> None:
    data = bytes(range(256)) * (1 << 14)
    store.write("extracted/a.flac", data)
    proxy.fail(fault, times=1, path="extracted")
    assert store.read("extracted/a.flac") == data
    proxy.fail(fault, times=1, path="extracted")
    store.fetch("extracted/a.flac", tmp_path / "a.flac")
    assert (tmp_path / "a.flac").read_bytes() == data
    proxy.fail(fault, path="extracted")
    for attempt in (
        lambda: store.read("extracted/a.flac"),
        lambda: store.fetch("extracted/a.flac", tmp_path / "b.flac"),
    ):
        with pytest.raises(TransientFailure):
            attempt()


def test_empty_artefact_can_be_read(store: Store) -> None:
    store.write("transcripts/a.srt", b"")
    assert store.read("transcripts/a.srt") == b""


@pytest.mark.parametrize("fault", BROKEN_ANSWERS, ids=str)
def test_incomplete_listing_is_a_transient_failure(store: Store, proxy: FaultProxy, fault: Fault) -> None:
    for number in range(20):
        store.write(f"video/{number:02}.mp4", b"x")
    proxy.fail(fault)
    with pytest.raises(TransientFailure):
        store.list_media()


# --- ffmpeg with a signed URL


def extracted(store: Store, key: str) -> audio.Audio:
    video.materialise(store, key, DECODER)
    return audio.materialise(store, key, DECODER)


KINDS = ["mp4", "mov", "mkv", "ts", "mp3", "ogg", "wav", "aac"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", BROKEN_ANSWERS, ids=str)
def test_broken_download_gives_complete_audio_or_transient_failure(
    kind: str, fault: Fault, store: Store, proxy: FaultProxy, films: dict[str, Path]
) -> None:
    key = dropped(store, films[kind])
    video.materialise(store, key, DECODER)
    proxy.fail(fault, times=1, path=itself(key))
    try:
        made = audio.materialise(store, key, DECODER)
    except TransientFailure:
        assert not store.exists(media_keys.flac(key))
        made = audio.materialise(store, key, DECODER)
    assert made.duration == pytest.approx(SECONDS, abs=0.2)
    assert made.bytes_read >= 0.9 * films[kind].stat().st_size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", HOPELESS_ANSWERS, ids=str)
def test_downloads_that_always_break_give_no_audio(
    kind: str, fault: Fault, store: Store, proxy: FaultProxy, films: dict[str, Path]
) -> None:
    key = dropped(store, films[kind])
    video.materialise(store, key, DECODER)
    proxy.fail(fault, path=itself(key))
    with pytest.raises(TransientFailure):
        audio.materialise(store, key, DECODER)
    assert not store.exists(media_keys.flac(key))
    assert audio.load(store, key) is None


@pytest.mark.parametrize("fault", [fault_proxy.SLOW_DOWN, Silent()], ids=str)
def test_store_not_answering_ffmpeg_is_a_transient_failure(
    fault: Fault, store: Store, proxy: FaultProxy, films: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg_process, "STALL_S", 2)
    key = dropped(store, films["mp3"])
    proxy.fail(fault, times=1, path=itself(key))
    assert extracted(store, key).duration == pytest.approx(SECONDS, abs=0.2)
    store.delete(media_keys.video_record(key))
    proxy.fail(fault, path=itself(key))
    with pytest.raises(TransientFailure):
        video.materialise(store, key, DECODER)


@pytest.mark.parametrize("fault", [fault_proxy.ACCESS_DENIED, fault_proxy.EXPIRED], ids=str)
def test_refused_media_url_asks_to_check_credentials(
    fault: Fault, store: Store, proxy: FaultProxy, films: dict[str, Path]
) -> None:
    key = dropped(store, films["mp3"])
    proxy.fail(fault, path=itself(key))
    with pytest.raises(PermanentFailure) as caught:
        video.materialise(store, key, DECODER)
    assert caught.value.hint


def test_recording_deleted_after_listing_is_not_found(store: Store, proxy: FaultProxy, films: dict[str, Path]) -> None:
    key = dropped(store, films["mp3"])
    assert store.list_media().frame["key"].to_list() == [key]
    proxy.fail(fault_proxy.GONE, path=itself(key))  # after the listing, before the recording is read
    with pytest.raises(NotFound):
        video.materialise(store, key, DECODER)
    proxy.behave()
    store.delete(key)
    with pytest.raises(NotFound):
        video.materialise(store, key, DECODER)


@pytest.mark.parametrize("fault", HOPELESS_ANSWERS, ids=str)
def test_incomplete_audio_gives_no_transcript(
    fault: Fault, store: Store, proxy: FaultProxy, films: dict[str, Path]
) -> None:
    chain = Chain(store)
    key = dropped(store, films["wav"])
    extracted(store, key)
    proxy.fail(fault, path=r"\.flac")
    with pytest.raises(TransientFailure):
        transcript.materialise(store, key, chain.tools.transcript_tools)
    assert not store.exists(media_keys.transcript(key))


# --- all steps


def test_recording_is_processed_despite_faults_in_every_step(
    store: Store, proxy: FaultProxy, films: dict[str, Path]
) -> None:
    chain = Chain(store)
    key = dropped(store, films["mp4"])
    proxy.fail(fault_proxy.SLOW_DOWN, times=1, methods="HEAD")
    for path in (itself(key), r"extracted/.*\.flac", r"transcripts/.*\.json"):
        proxy.fail(fault_proxy.SLOW_DOWN, times=1, methods="GET", path=path)
    for path in (itself(key), r"extracted/.*\.flac"):
        proxy.fail(Cut(), times=1, methods="GET", path=path)
    for path in ("posters", "extracted", "transcripts", "embeddings", "lancedb"):
        proxy.fail(fault_proxy.SLOW_DOWN, times=1, methods="PUT", path=path)
    chain.run(key)
    made = transcript.load(store, key)
    assert made is not None
    assert made.duration == pytest.approx(SECONDS, abs=0.2)
    assert len(chain.ids(key)) == len(set(chain.ids(key))) > 0


def test_unreadable_recordings_do_not_stop_the_others(store: Store, proxy: FaultProxy, films: dict[str, Path]) -> None:
    chain = Chain(store)
    refused, gone, good = (dropped(store, films[kind]) for kind in ("mp4", "mp3", "ogg"))
    proxy.fail(fault_proxy.ACCESS_DENIED, path=itself(refused))
    proxy.fail(fault_proxy.GONE, path=itself(gone))
    report = chain.attempt(refused, gone, good)
    assert report.done == [good]
    assert report.failed.keys() == {refused, gone}


# --- secrets


def told(attempt: Callable[[], object]) -> str:
    """Return all that a log or an event could contain of a failure: its message and those of its causes."""
    with pytest.raises((TransientFailure, PermanentFailure)) as caught:
        attempt()
    return "".join(traceback.format_exception(caught.value))


def test_failure_messages_contain_no_secrets(
    store: Store,
    proxy: FaultProxy,
    films: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    key = dropped(store, films["mp3"])
    video.materialise(store, key, DECODER)
    link = store.media_url(key)
    attempts: list[Callable[[], object]] = [
        lambda: store.read("transcripts/a.json"),
        lambda: store.write("transcripts/a.json", b"{}"),
        lambda: store.delete("transcripts/a.json"),
        lambda: store.exists("transcripts/a.json"),
        lambda: store.put_media(key, films["mp3"]),
        lambda: store.stat(key),
        store.list_media,
        lambda: media.probe(link, key, ffmpeg=DECODER.ffmpeg, limit_s=20.0),
        lambda: media.extract_speech(link, tmp_path / "a.flac", name=key, ffmpeg=DECODER.ffmpeg, limit_s=20.0),
        lambda: list(media.read_samples(link, ffmpeg=DECODER.ffmpeg)),
    ]
    for fault in (fault_proxy.Answer(403, "SignatureDoesNotMatch"), fault_proxy.EXPIRED, fault_proxy.SLOW_DOWN):
        proxy.behave()
        proxy.fail(fault, methods="GET HEAD PUT POST DELETE")
        for attempt in attempts:
            said = told(attempt)
            assert not [secret for secret in SECRETS if secret in said], said
    proxy.behave()
    media.poster(link, tmp_path / "a.jpg", ffmpeg=DECODER.ffmpeg, limit_s=20.0, at=0.0, width=640)
    assert not [secret for secret in SECRETS if secret in caplog.text]


def test_artefacts_and_rows_contain_no_secrets(store: Store, films: dict[str, Path]) -> None:
    chain = Chain(store)
    key = dropped(store, films["mp4"])
    chain.run(key)
    written = [path for path in store.list("") if path != key and not path.startswith("lancedb/")]
    assert len(written) > 5
    for path in written:
        assert not [secret for secret in SECRETS if secret.encode() in store.read(path)], path
    assert not [secret for secret in SECRETS if secret in str(chain.rows().to_dicts())]
