"""Failure notes: written for every recording of a batch, without hiding the original failure."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, StoreAway
from transcription_assets.pipeline import failure_notes
from transcription_assets.storage import Store, Timeouts, circuit_breaker
from transcription_assets.storage.circuit_breaker import Availability
from transcription_assets_tests import fault_proxy, recordings, seaweed
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.fault_proxy import FaultProxy, Silent
from transcription_assets_tests.stores import Case

BATCH = [f"video/{number}.mp4" for number in range(20)]
IMPATIENT = Timeouts(connect_s=5.0, silence_s=2.0, attempts=2, retries_s=6.0)
"""Only for tests with a silent store: a busy machine may need longer for a real answer."""
ONCE = Timeouts(connect_s=10.0, silence_s=8.0, attempts=1, retries_s=8.0)


@pytest.fixture
def proxy(s3_server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with fault_proxy.between(s3_server.endpoint) as standing:
        yield standing


Opening = Callable[[Timeouts], Store]


@pytest.fixture
def opening(proxy: FaultProxy, s3_server: seaweed.S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opening:
    """Return a function that opens a store with a batch; a silent store is probed once, however slow the machine is."""
    monkeypatch.setattr(circuit_breaker, "PAUSE_S", float("inf"))

    def opened(timeouts: Timeouts | None = None) -> Store:
        url = f"s3://{s3_server.bucket}/notes/{tmp_path.name}"
        return Store.open(url, s3_session=seaweed.session(), s3_endpoint=proxy.endpoint, timeouts=timeouts)

    patient = opened()
    for key in BATCH:
        patient.write(key, b"x")
    return opened


def fail(store: Store, error: Exception) -> None:
    with failure_notes.recording_failures(store, BATCH, "transcript"):
        raise error


def test_every_recording_of_a_batch_gets_a_failure_note(case: Case) -> None:
    for key in BATCH:
        case.put(key, b"x")
    with pytest.raises(PermanentFailure):
        fail(case.store, PermanentFailure("no model"))
    notes = [failure_notes.load(case.store, key) for key in BATCH]
    assert [note.reason for note in notes if note] == ["no model"] * len(BATCH)


def test_silent_store_is_probed_once_for_all_failure_notes(opening: Opening, proxy: FaultProxy) -> None:
    store = opening(IMPATIENT)
    proxy.behave()
    proxy.fail(Silent(), methods="GET HEAD PUT POST DELETE")
    with pytest.raises(StoreAway):
        store.stat(BATCH[0])
    asked = len(proxy.requests)
    with pytest.raises(PermanentFailure):
        fail(store, PermanentFailure("no model"))
    assert len(proxy.requests) - asked <= 1, "expected at most one probe for the whole batch"


def test_silent_store_delays_a_batch_only_once(opening: Opening, proxy: FaultProxy) -> None:
    store = opening(IMPATIENT)
    proxy.behave()
    proxy.fail(Silent(), methods="GET HEAD PUT POST DELETE")
    report = Chain(store).attempt(*BATCH)
    assert sorted(report.failed) == sorted(BATCH)
    assert len(proxy.requests) <= IMPATIENT.attempts + 1


def test_stalled_object_does_not_block_other_objects(opening: Opening, proxy: FaultProxy) -> None:
    store = opening(ONCE)
    proxy.fail(Silent(), methods="HEAD", path=r"/video/0\.mp4")
    with pytest.raises(StoreAway):
        store.stat(BATCH[0])
    assert store.stat(BATCH[1]).size == 1


def test_failure_notes_are_abandoned_after_time_limit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_store: Store, _key: str) -> None:
        time.sleep(3600)  # in a daemon thread: nothing waits for it

    monkeypatch.setattr(failure_notes, "NOTES_S", 0.2)
    monkeypatch.setattr(Store, "stat", stuck)
    with pytest.raises(PermanentFailure):
        fail(case.store, PermanentFailure("no model"))


def test_recovered_store_receives_requests_again() -> None:
    now = [0.0]
    answers = [False, True]
    breaker = Availability(lambda: answers.pop(0), lambda: now[0])

    def ask(*, fails: bool = False) -> None:
        with breaker.watched("a.json"):
            if fails:
                raise StoreAway("silent")

    with pytest.raises(StoreAway):
        ask(fails=True)
    for _ in range(3):
        with pytest.raises(StoreAway):
            ask()
    assert answers == [True], "expected exactly one probe"
    now[0] += 31.0
    ask()
    ask()


@pytest.mark.parametrize(
    "damaged",
    [b"[]", b"{}", b"null", b"7", b'"a"', b"{", b"", b"\xff", b"[" * 100_000, b'{"version": "1"}', b'{"version": "2"}'],
    ids=str,
)
def test_damaged_record_is_recreated(case: Case, tmp_path: Path, damaged: bytes) -> None:
    chain = Chain(case.store)
    tone = recordings.tone(tmp_path / "tone.wav", 5.0, rate=8_000)
    key = case.store.put_media("audio/tone.wav", tone)
    chain.run(key)
    for path in (
        media_keys.video_record(key),
        media_keys.audio_record(key),
        media_keys.failure(key),
        media_keys.moved(key),
    ):
        case.store.write(path, damaged)
    assert failure_notes.load(case.store, key) is None
    assert case.store.stat(key).key == key
    chain.run(key)


def test_undeletable_failure_note_does_not_fail_the_run(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermanentFailure("read-only")

    key = case.store.put_media("audio/tone.wav", recordings.tone(tmp_path / "tone.wav", 5.0, rate=8_000))
    chain = Chain(case.store)
    chain.run(key)
    monkeypatch.setattr(Store, "delete", refused)
    monkeypatch.setattr(Store, "write", refused)
    report = chain.run(key)
    assert report.reused == [key]
