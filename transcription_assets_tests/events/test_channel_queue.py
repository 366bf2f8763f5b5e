"""Messages to channels, through the real apprise and a server on this machine."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.events import occurrences, outbox, status
from transcription_assets.events.channel_queue import SendOutcome, by_apprise
from transcription_assets.events.delivery import Deliverer
from transcription_assets.events.digests import Notification
from transcription_assets.storage import Store
from transcription_assets_tests.events.conftest import Clock
from transcription_assets_tests.events.receiver import Answer, Receiver

CHANNEL = '[mail]\nkind = "channel"\n'


@pytest.fixture
def urls(receiver: Receiver) -> tuple[str, ...]:
    pytest.importorskip("apprise")
    return (receiver.address.replace("http://", "json://user:hunter2@"),)


@pytest.fixture
def channel(store: Store, clock: Clock, urls: tuple[str, ...]) -> Callable[..., Deliverer]:
    def make(*lines: str) -> Deliverer:
        store.write("events.toml", (CHANNEL + "\n".join(lines)).encode())
        return Deliverer(store, urls={"mail": urls}, now=clock)

    return make


def fail(store: Store, *names: str) -> None:
    for name in names:
        occurrences.record_failure(store, "recording", name, "no audio", version="1", step="video")


def titles(receiver: Receiver) -> list[str]:
    return [json.loads(each.body)["title"] for each in receiver.requests]


def test_the_first_failure_comes_at_once_then_groups(
    store: Store, channel: Callable[..., Deliverer], receiver: Receiver, clock: Clock
) -> None:
    deliverer = channel()
    fail(store, "audio/a.wav")
    deliverer.deliver()
    assert titles(receiver) == ["transcription-assets: audio/a.wav failed"]
    for _ in range(3):
        fail(store, "audio/a.wav", "audio/b.wav", "audio/c.wav")
        deliverer.deliver()
    assert len(receiver.requests) == 1
    clock.advance(minutes=61)
    deliverer.deliver()
    assert titles(receiver)[1:] == ["transcription-assets: 2 failed"]
    occurrences.record_done(store, [("audio/a.wav", "1")])
    clock.advance(minutes=61)
    deliverer.deliver()
    assert titles(receiver)[2:] == ["transcription-assets: audio/a.wav recovered"]
    assert store.list(outbox.DIGESTS) == []


def test_outstanding_failures_are_listed_daily(
    store: Store, channel: Callable[..., Deliverer], receiver: Receiver, clock: Clock
) -> None:
    at = clock() + timedelta(hours=2)
    deliverer = channel(f"daily_at = {at:%H:%M:%S}", 'prefixes = ["audio/"]', "[events]", 'source = "archive"')
    fail(store, "audio/a.wav", "video/other.mp4")
    store.write(media_keys.failure("audio/a.wav"), b"{}")
    store.write(media_keys.failure("video/other.mp4"), b"{}")
    fail(store, "audio/retried.wav")
    occurrences.record_failure(store, "source", "pod", "no answer")
    occurrences.record_failure(store, "item", "pod/1", "too large")
    deliverer.deliver()
    assert titles(receiver) == ["archive: 4 failed"]
    clock.advance(hours=3)
    deliverer.deliver()
    deliverer.deliver()
    assert titles(receiver)[1:] == ["archive: 2 outstanding"]
    body = json.loads(receiver.requests[-1].body)["message"]
    assert ("audio/a.wav" in body, "video/other.mp4" in body) == (True, False)


def test_a_channel_may_have_no_daily_list(
    store: Store, channel: Callable[..., Deliverer], receiver: Receiver, clock: Clock
) -> None:
    deliverer = channel("daily_at = false")
    fail(store, "audio/a.wav")
    deliverer.deliver()
    clock.advance(days=3)
    deliverer.deliver()
    assert len(receiver.requests) == 1


def test_a_channel_that_is_away_gets_one_message_later(
    store: Store, channel: Callable[..., Deliverer], receiver: Receiver, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    deliverer = channel()
    receiver.answer = lambda _request: Answer(500)
    fail(store, "audio/a.wav")
    with caplog.at_level(logging.DEBUG):
        outcome = deliverer.deliver().receivers["mail"]
    assert (outcome.delivered, outcome.waiting) == (0, 1)
    assert outcome.error
    assert "hunter2" not in caplog.text + outcome.error + store.read(f"{status.RECEIVERS}mail.json").decode()
    fail(store, "audio/b.wav")
    receiver.requests.clear()
    receiver.answer = lambda _request: Answer()
    clock.advance(minutes=1)
    assert deliverer.deliver().receivers["mail"].delivered == 2
    assert titles(receiver) == ["transcription-assets: 2 failed"]


def test_a_channel_without_an_address_says_so(store: Store, clock: Clock) -> None:
    store.write("events.toml", CHANNEL.encode())
    fail(store, "audio/a.wav")
    assert "TRANSCRIPTION_EVENT_CHANNELS" in Deliverer(store, now=clock).deliver().receivers["mail"].error


def test_an_unknown_address_is_not_shown() -> None:
    pytest.importorskip("apprise")
    reason = by_apprise("nonsense://token123", Notification("a", "b")).error
    assert reason
    assert "token123" not in reason


def test_types_that_a_channel_does_not_want_stay_away(
    store: Store, channel: Callable[..., Deliverer], receiver: Receiver
) -> None:
    deliverer = channel('types = ["source.failed"]')
    fail(store, "audio/a.wav")
    deliverer.deliver()
    occurrences.record_done(store, [("audio/a.wav", "1")])
    deliverer.deliver()
    assert receiver.requests == []


def test_a_broken_address_repeats_nothing_to_others(
    store: Store, urls: tuple[str, ...], receiver: Receiver, clock: Clock
) -> None:
    store.write("events.toml", CHANNEL.encode())
    both = (f"{urls[0]}/good", f"{urls[0]}/broken")
    deliverer = Deliverer(store, urls={"mail": both}, now=clock)
    receiver.broken = "/broken"
    for name in "abc":
        fail(store, f"audio/{name}.wav")
        deliverer.deliver()
        clock.advance(minutes=61)
        deliverer.deliver()
        clock.advance(minutes=61)
    good = [each for each, path in zip(receiver.requests, receiver.paths, strict=True) if path.endswith("good")]
    assert [json.loads(each.body)["title"][-18:] for each in good] == [f"audio/{name}.wav failed" for name in "abc"]
    assert outbox.pending(store) == {"mail": 3}
    receiver.broken = ""
    clock.advance(minutes=61)
    assert deliverer.deliver().receivers["mail"].delivered == 3
    assert titles(receiver)[-1] == "transcription-assets: 3 failed"
    assert outbox.pending(store) == {}


def test_a_slow_address_has_to_wait_for_its_pace(store: Store, clock: Clock) -> None:
    store.write("events.toml", CHANNEL.encode())
    sent: list[Notification] = []

    def slow(_url: str, message: Notification) -> SendOutcome:
        sent.append(message)
        return SendOutcome("no answer", may_arrive=True)

    deliverer = Deliverer(store, urls={"mail": ("a://b",)}, notifier=slow, now=clock)
    fail(store, "audio/a.wav")
    deliverer.deliver()
    clock.advance(minutes=59)
    deliverer.deliver()
    assert len(sent) == 1
    clock.advance(minutes=2)
    deliverer.deliver()
    assert len(sent) == 2


def test_an_interrupted_deletion_sends_nothing_twice(
    store: Store, channel: Callable[..., Deliverer], receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliverer = channel()
    fail(store, "audio/a.wav", "audio/b.wav")
    delete = Store.delete

    def killed(self: Store, *paths: str) -> None:
        if paths[0].startswith(outbox.DIGESTS):
            raise KeyboardInterrupt
        delete(self, *paths)

    monkeypatch.setattr(Store, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        deliverer.deliver()
    monkeypatch.undo()
    clock.advance(minutes=61)
    deliverer.deliver()
    assert len(receiver.requests) == 1
    assert outbox.pending(store) == {}


def test_text_of_strangers_is_no_markup_and_no_mention(store: Store, urls: tuple[str, ...], receiver: Receiver) -> None:
    store.write("events.toml", CHANNEL.encode())
    fail(store, "audio/<b>a.wav")
    occurrences.record_failure(store, "recording", "audio/b.wav", "@everyone <!channel> <@U1>", version="1")
    Deliverer(store, urls={"mail": (f"{urls[0]}?format=html",)}).deliver()
    text = json.loads(receiver.requests[0].body)["message"]
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert not any(mention in text for mention in ("@everyone", "&lt;!channel", "&lt;@"))
