"""Notes of failures: written for all recordings of a batch, and never in the way of the failure itself."""

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
"""For silence alone: a busy machine may well need a while for an answer."""
ONCE = Timeouts(connect_s=10.0, silence_s=8.0, attempts=1, retries_s=8.0)


@pytest.fixture
def proxy(s3_server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with fault_proxy.between(s3_server.endpoint) as standing:
        yield standing


Opening = Callable[[Timeouts], Store]


@pytest.fixture
def opening(proxy: FaultProxy, s3_server: seaweed.S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opening:
    """A store with the recordings of a batch; once it is silent it is asked once, however slow the machine is."""
    monkeypatch.setattr(circuit_breaker, "PAUSE_S", float("inf"))

    def opened(patience: Timeouts | None = None) -> Store:
        url = f"s3://{s3_server.bucket}/notes/{tmp_path.name}"
        return Store.open(url, s3_session=seaweed.session(), s3_endpoint=proxy.endpoint, patience=patience)

    patient = opened()
    for key in BATCH:
        patient.write(key, b"x")
    return opened


def fail(store: Store, error: Exception) -> None:
    with failure_notes.recording_failures(store, BATCH, "transcript"):
        raise error


def test_every_recording_of_a_batch_gets_its_note(case: Case) -> None:
    for key in BATCH:
        case.put(key, b"x")
    with pytest.raises(PermanentFailure):
        fail(case.store, PermanentFailure("no model"))
    notes = [failure_notes.load(case.store, key) for key in BATCH]
    assert [note.reason for note in notes if note] == ["no model"] * len(BATCH)


def test_notes_of_a_batch_wait_once_for_a_silent_store(opening: Opening, proxy: FaultProxy) -> None:
    store = opening(IMPATIENT)
    proxy.behave()
    proxy.fail(Silent(), methods="GET HEAD PUT POST DELETE")
    with pytest.raises(StoreAway):
        store.stat(BATCH[0])
    asked = len(proxy.requests)
    with pytest.raises(PermanentFailure):
        fail(store, PermanentFailure("no model"))
    assert len(proxy.requests) - asked <= 1, "one probe for all of them"


def test_a_batch_waits_once_for_a_silent_store(opening: Opening, proxy: FaultProxy) -> None:
    store = opening(IMPATIENT)
    proxy.behave()
    proxy.fail(Silent(), methods="GET HEAD PUT POST DELETE")
    report = Chain(store).attempt(*BATCH)
    assert sorted(report.failed) == sorted(BATCH)
    assert len(proxy.requests) <= IMPATIENT.attempts + 1


def test_one_object_that_stalls_does_not_stop_the_others(opening: Opening, proxy: FaultProxy) -> None:
    store = opening(ONCE)
    proxy.fail(Silent(), methods="HEAD", path=r"/video/0\.mp4")
    with pytest.raises(StoreAway):
        store.stat(BATCH[0])
    assert store.stat(BATCH[1]).size == 1


def test_notes_are_given_up_when_the_store_takes_too_long(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_store: Store, _key: str) -> None:
        time.sleep(3600)  # in a daemon thread: nothing waits for it

    monkeypatch.setattr(failure_notes, "NOTES_S", 0.2)
    monkeypatch.setattr(Store, "stat", stuck)
    with pytest.raises(PermanentFailure):
        fail(case.store, PermanentFailure("no model"))


def test_a_store_that_came_back_is_asked_again() -> None:
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
    assert answers == [True], "probed once"
    now[0] += 31.0
    ask()
    ask()


@pytest.mark.parametrize(
    "damaged",
    [b"[]", b"{}", b"null", b"7", b'"a"', b"{", b"", b"\xff", b"[" * 100_000, b'{"version": "1"}', b'{"version": "2"}'],
    ids=str,
)
def test_a_damaged_record_is_made_again(case: Case, tmp_path: Path, damaged: bytes) -> None:
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


def test_a_note_that_cannot_be_removed_is_no_failure(
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
