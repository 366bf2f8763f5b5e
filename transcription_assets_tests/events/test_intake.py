"""Events made of what the pipeline and the sources record: exactly one for each change."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.events import occurrences
from transcription_assets.events.delivery import Deliverer
from transcription_assets.pipeline import failure_notes, transcript
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.sources.fetching import Fetcher, SourceLimits
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.events.conftest import LOOPBACK, Clock
from transcription_assets_tests.events.receiver import Receiver
from transcription_assets_tests.sources.site import Page, Site, episode, rss, site
from transcription_assets_tests.sources.test_fetching import source

Subscribe = Callable[..., None]


def put(store: Store, folder: Path, name: str = "audio/a.wav", seconds: float = 10.0) -> str:
    return store.put_media(name, recordings.tone(folder / "tone.wav", seconds, rate=8_000))


def kinds(receiver: Receiver) -> list[tuple[str, str]]:
    return [(each.event["type"], each.event["subject"]) for each in receiver.taken]


def test_a_finished_recording_is_one_event(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, tmp_path: Path
) -> None:
    subscribed()
    key, chain = put(store, tmp_path), Chain(store)
    for _ in range(2):
        chain.run(key)
        deliverer.deliver()
    ((kind, subject),) = kinds(receiver)
    assert (kind, subject) == ("recording.done", key)
    data = receiver.taken[0].event["data"]
    assert (data["etag"], data["duration"], data["warnings"]) == (store.stat(key).etag, pytest.approx(10.0), [])
    assert data["words"] > 0
    assert data["recovered"] is False
    put(store, tmp_path, seconds=15.0)
    chain.run(key)
    deliverer.deliver()
    assert kinds(receiver)[1:] == [("recording.done", key)]


def test_recordings_done_before_are_no_events(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, tmp_path: Path
) -> None:
    key, chain = put(store, tmp_path), Chain(store)
    chain.run(key)
    subscribed()
    chain.run(key)
    deliverer.deliver()
    assert kinds(receiver) == []
    store.delete(media_keys.transcript(key), media_keys.passages(key))
    put(store, tmp_path, seconds=15.0)
    chain.run(key)
    deliverer.deliver()
    assert kinds(receiver) == [("recording.done", key)]


def test_warnings_of_the_checks_make_it_doubtful(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, tmp_path: Path
) -> None:
    subscribed()
    key, chain = put(store, tmp_path), Chain(store)
    chain.run(key)
    found = transcript.load(store, key)
    assert isinstance(found, Transcript)
    unsure = tuple(replace(each, low_confidence="guess") for each in found.segments)
    store.write(media_keys.transcript(key), replace(found, segments=unsure).to_json())
    deliverer.deliver()
    (received,) = receiver.taken
    assert received.event["type"] == "recording.doubtful"
    assert [each["check"] for each in received.event["data"]["warnings"]] == ["no_hallucinations"]


def test_a_publication_that_is_killed_is_told_by_the_next(
    store: Store,
    deliverer: Deliverer,
    receiver: Receiver,
    subscribed: Subscribe,
    tmp_path: Path,
) -> None:
    subscribed()
    key, chain = put(store, tmp_path), Chain(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(occurrences, "record_done", _killed)
        with pytest.raises(KeyboardInterrupt):
            chain.attempt(key)
    deliverer.deliver()
    assert kinds(receiver) == []
    chain.run(key)
    deliverer.deliver()
    assert kinds(receiver) == [("recording.done", key)]


def _killed(*_arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "transient"),
    [(PermanentFailure("broken"), False), (TransientFailure("away"), True), (ValueError("bug"), False)],
    ids=["permanent", "transient", "bug"],
)
def test_a_failure_note_is_an_event(
    deliverer: Deliverer,
    receiver: Receiver,
    subscribed: Subscribe,
    tmp_path: Path,
    error: Exception,
    *,
    transient: bool,
) -> None:
    store = deliverer.store
    subscribed()
    key = put(store, tmp_path)
    failure_notes.note(store, key, "audio", error)
    failure_notes.note(store, "audio/gone.wav", "audio", error)
    deliverer.deliver()
    assert kinds(receiver) == [("recording.failed", key)]
    data = receiver.taken[0].event["data"]
    assert (data["step"], data["transient"], data["etag"]) == ("audio", transient, store.stat(key).etag)


def test_reasons_of_any_text_are_told(deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe) -> None:
    subscribed()
    for number, reason in enumerate(("\udcff", "x" * 10**6, "\x00\u2028\n", '"}]')):
        occurrences.record_failure(deliverer.store, "recording", f"audio/{number}.wav", reason)
    deliverer.deliver()
    reasons = [each.event["data"]["reason"] for each in receiver.taken]
    assert reasons == ["?", "x" * occurrences.MOST_TEXT, "\x00\u2028\n", '"}]']


def test_a_retry_by_a_person_that_fails_is_no_event(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, tmp_path: Path
) -> None:
    subscribed()
    key = put(store, tmp_path)
    for _ in range(2):
        failure_notes.note(store, key, "audio", PermanentFailure("broken"))
        failure_notes.forget(store, key)
    deliverer.deliver()
    assert len(receiver.taken) == 1


def test_a_source_tells_failure_and_recovery_once(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, tmp_path: Path
) -> None:
    subscribed()
    with site() as podcast:
        fetcher = _fetcher(store, tmp_path)
        url = podcast.url("/feed")
        for _ in range(3):
            with pytest.raises(TranscriptionError):
                fetcher.fetch(source("feed", url))
            deliverer.deliver()
        assert kinds(receiver) == [("source.failed", "pod")]
        _publish(podcast, b"<html>not audio</html>")
        for _ in range(2):
            fetcher.fetch(source("feed", url))
            deliverer.deliver()
        _publish(podcast, recordings.tone(tmp_path / "tone.wav", 5.0, rate=8_000).read_bytes())
        fetcher.fetch(source("feed", url), again=True)
        deliverer.deliver()
    told = [kind for kind, _ in kinds(receiver)]
    assert told == ["source.failed", "source.recovered", "source.failed", "source.recovered"]
    assert receiver.taken[2].event["subject"] == receiver.taken[3].event["subject"]
    assert receiver.taken[2].event["data"]["item"] == "One"


def test_a_used_up_quota_is_one_failure(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, tmp_path: Path
) -> None:
    subscribed()
    with site() as podcast:
        fetcher = _fetcher(store, tmp_path)
        tone = recordings.tone(tmp_path / "tone.wav", 5.0, rate=8_000).read_bytes()
        _publish(podcast, tone, tone)
        for quota in (1e-9, 1e-9, 1e-9, 10.0):
            fetcher.fetch(source("feed", podcast.url("/feed"), quota_gb=quota))
            deliverer.deliver()
    assert kinds(receiver) == [("source.failed", "pod"), ("source.recovered", "pod")]


def _fetcher(store: Store, folder: Path) -> Fetcher:
    limits = SourceLimits(folder / "downloads", LOOPBACK, most_bytes=5_000_000, limit_s=60)
    return Fetcher(store, MediaDecoder(recordings.wheel_ffmpeg()), limits, sleep=lambda _s: None)


def _publish(podcast: Site, *files: bytes) -> None:
    titles = ("One", "Two")[: len(files)]
    for title, data in zip(titles, files, strict=True):
        podcast.audio(f"/{title}.wav", data)
    items = (episode(title, f"/{title}.wav", title) for title in titles)
    podcast.pages["/feed"] = Page(rss(*items), "application/rss+xml")


def test_a_backlog_without_progress_is_told_once(
    deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock, tmp_path: Path
) -> None:
    store = deliverer.store
    subscribed("[events]", "stuck_hours = 5")
    first, second = put(store, tmp_path), put(store, tmp_path, "audio/b.wav", 5.0)
    deliverer.deliver()
    for _ in range(3):
        clock.advance(hours=6)
        deliverer.deliver()
    assert kinds(receiver) == [("backlog.stuck", "inbox")]
    assert "2 recordings" in receiver.taken[0].event["data"]["reason"]
    Chain(store).run(first, second)
    deliverer.deliver()
    deliverer.deliver()
    assert ("backlog.recovered", "inbox") in kinds(receiver)
    clock.advance(hours=20)
    deliverer.deliver()
    assert len(receiver.taken) == 4


def test_an_archive_that_is_done_is_not_stuck(
    deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock, tmp_path: Path
) -> None:
    store = deliverer.store
    Chain(store).run(put(store, tmp_path))
    subscribed("[events]", "stuck_hours = 5")
    clock.advance(days=3)
    deliverer.deliver()
    assert kinds(receiver) == []


def test_a_recording_is_good_without_its_event(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, tmp_path: Path
) -> None:
    subscribed()
    key, chain = put(store, tmp_path), Chain(store)
    write = Store.write

    def refused(self: Store, path: str, data: bytes) -> None:
        if path.startswith(occurrences.NEW):
            raise TransientFailure("full")
        write(self, path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "write", refused)
        chain.run(key)
    assert failure_notes.load(store, key) is None
    chain.run(key)
    deliverer.deliver()
    assert kinds(receiver) == [("recording.done", key)]
