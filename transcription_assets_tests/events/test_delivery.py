"""Events reach webhooks over real connections: in order, signed, and each until it was taken."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.events import intake, lease, occurrences, outbox, status, webhook_queue, webhooks
from transcription_assets.events.catalogue import (
    Catalogue,
    InvalidEvents,
    Webhook,
    parse,
    parse_channels,
    parse_secrets,
)
from transcription_assets.events.delivery import Deliverer
from transcription_assets.events.event import Event
from transcription_assets.events.states import States
from transcription_assets.events.webhooks import Attempt, Sender
from transcription_assets.storage import Store
from transcription_assets_tests.events.conftest import LOOPBACK, Clock
from transcription_assets_tests.events.receiver import SECRET, SECRET_TEXT, Answer, Received, Receiver, receiving
from transcription_assets_tests.stores import Case
from transcription_assets_tests.waiting import until

Subscribe = Callable[..., None]


def fail(store: Store, *names: str, version: str = "1", transient: bool = False) -> None:
    for name in names:
        occurrences.record_failure(store, "recording", name, f"{name} is broken", version=version, transient=transient)


def subjects(receiver: Receiver) -> list[str]:
    return [each.event["subject"] for each in receiver.taken]


def left(store: Store) -> list[str]:
    return [*store.list(occurrences.NEW), *store.list(outbox.OUTBOX), *store.list(outbox.DEAD)]


def test_an_event_is_a_signed_cloud_event(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    occurrences.record_failure(store, "recording", "audio/a.wav", "no audio", version="7", step="video")
    deliverer.deliver()
    (received,) = receiver.taken
    assert received.is_signed()
    assert not received.is_signed(b"another secret of 24 bytes")
    assert received.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    event = received.event
    assert event["id"] == received.headers["webhook-id"]
    assert (event["specversion"], event["type"], event["sequence"]) == ("1.0", "recording.failed", "0000000001")
    assert event["subject"] == "audio/a.wav"
    assert datetime.fromisoformat(event["time"]).tzinfo is not None
    assert event["data"] == {
        "key": "audio/a.wav",
        "etag": "7",
        "reason": "no audio",
        "step": "video",
        "transient": False,
    }
    assert left(store) == []


def test_retries_of_a_step_make_no_second_event(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    for _ in range(3):
        fail(store, "audio/a.wav", transient=True)
        deliverer.deliver()
    fail(store, "audio/a.wav", "audio/a.wav")  # now for good
    fail(store, "audio/a.wav", transient=True)
    fail(store, "audio/a.wav")
    deliverer.deliver()
    assert [each.event["data"]["transient"] for each in receiver.taken] == [True, False]
    occurrences.record_done(store, [("audio/a.wav", "1")])
    occurrences.record_done(store, [("audio/a.wav", "1")])
    fail(store, "audio/a.wav", version="2")
    deliverer.deliver()
    kinds = [(each.event["type"], each.event["sequence"]) for each in receiver.taken[2:]]
    assert kinds == [("recording.done", "0000000003"), ("recording.failed", "0000000004")]
    assert receiver.taken[2].event["data"]["recovered"] is True


def test_nothing_is_written_without_receivers(store: Store, deliverer: Deliverer) -> None:
    fail(store, "audio/a.wav")
    occurrences.record_done(store, [("audio/a.wav", "1")])
    assert deliverer.deliver().idle
    assert store.list("events/") == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500),
        Answer(503, {"retry-after": "1"}),
        Answer(429),
        Answer(401),
        Answer(404),
        Answer(410),
        Answer(304),
        Answer(how="close"),
        Answer(how="hang"),
        Answer(how="drip"),
    ],
    ids=["500", "503", "429", "401", "404", "410", "304", "close", "hang", "drip"],
)
def test_a_server_that_is_away_gets_all_events_later(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock, *, answer: Answer
) -> None:
    subscribed(timeout_s=1.0)
    receiver.answer = lambda _request: answer
    fail(store, "audio/a.wav", "audio/b.wav")
    started = time.monotonic()
    outcome = deliverer.deliver().receivers["hook"]
    assert time.monotonic() - started < 30  # a hanging server is left after a second; the rest is a busy machine
    assert (outcome.delivered, outcome.waiting) == (0, 2)
    assert outcome.error
    assert len(receiver.requests) == 1
    assert deliverer.deliver().receivers["hook"].error == outcome.error
    assert len(receiver.requests) == 1  # it has to wait
    receiver.answer = lambda _request: Answer()
    clock.advance(seconds=webhooks.FIRST_S)
    assert deliverer.deliver().receivers["hook"].delivered == 2
    assert subjects(receiver) == ["audio/a.wav", "audio/b.wav"]
    assert receiver.requests[0].headers["webhook-id"] == receiver.ids[0]
    assert status.load_status(store, "hook").failures == 0


def test_an_endless_answer_counts_by_its_status(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    receiver.answer = lambda _request: Answer(how="endless")
    fail(store, "audio/a.wav")
    assert deliverer.deliver().receivers["hook"].delivered == 1


def test_redirects_are_not_followed(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    receiver.answer = lambda _request: Answer(307, {"location": f"{receiver.address}/elsewhere"})
    fail(store, "audio/a.wav")
    outcome = deliverer.deliver().receivers["hook"]
    assert (outcome.delivered, outcome.waiting) == (0, 1)
    assert receiver.paths == ["/hook"]


def test_private_addresses_are_refused_by_default(store: Store, receiver: Receiver, subscribed: Subscribe) -> None:
    subscribed()
    fail(store, "audio/a.wav")
    outcome = Deliverer(store, Sender(secrets={"hook": (SECRET,)})).deliver().receivers["hook"]
    assert (outcome.delivered, outcome.waiting) == (0, 1)
    assert "TRANSCRIPTION_EVENT_NETWORKS" in outcome.error
    assert receiver.requests == []


def test_a_server_without_a_secret_gets_nothing(store: Store, receiver: Receiver, subscribed: Subscribe) -> None:
    subscribed()
    fail(store, "audio/a.wav")
    assert Deliverer(store, Sender(networks=LOOPBACK)).deliver().receivers["hook"].waiting == 1
    assert receiver.requests == []


def test_both_secrets_sign_during_a_rotation(store: Store, receiver: Receiver, subscribed: Subscribe) -> None:
    subscribed()
    fail(store, "audio/a.wav")
    new = b"new secret of thirty-two bytes.."
    Deliverer(store, Sender(secrets={"hook": (new, SECRET)}, networks=LOOPBACK)).deliver()
    (received,) = receiver.taken
    assert received.is_signed(new)
    assert received.is_signed(SECRET)


def test_a_rejected_event_delays_only_its_recording(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock
) -> None:
    subscribed()

    def answer(request: Received) -> Answer:
        return Answer(
            422 if (request.event["subject"], request.event["sequence"]) == ("audio/a.wav", "0000000001") else 200
        )

    receiver.answer = answer
    fail(store, "audio/a.wav", "audio/b.wav")
    occurrences.record_done(store, [("audio/a.wav", "1")])
    for _ in range(webhooks.MOST_REJECTIONS):
        assert subjects(receiver) in ([], ["audio/b.wav"])
        deliverer.deliver()
        clock.advance(hours=2)
    deliverer.deliver()
    assert subjects(receiver) == ["audio/b.wav", "audio/a.wav"]
    (letter,) = outbox.dead_letters(store, "hook")
    assert (letter.event.subject, letter.event.type, letter.attempts) == ("audio/a.wav", "recording.failed", 5)
    rejected = {each.headers["webhook-id"] for each in receiver.requests if each.event["sequence"] == "0000000001"}
    assert letter.event.id in rejected


def test_replayed_events_keep_their_ids(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock
) -> None:
    subscribed("give_up_hours = 1")
    receiver.answer = lambda _request: Answer(503)
    fail(store, "audio/a.wav", "audio/b.wav")
    deliverer.deliver()
    clock.advance(hours=2)
    fail(store, "audio/c.wav")
    outcome = deliverer.deliver().receivers["hook"]
    assert (outcome.dead, outcome.waiting) == (3, 0)  # the clock of the test does not date the events
    letters = outbox.dead_letters(store, "hook")
    (hook,) = parse(store.read("events.toml"), "").receivers.values()
    with pytest.raises(PermanentFailure):
        outbox.replay(store, hook, ["unknown"])
    assert outbox.replay(store, hook, [letters[0].event.id]) == 1
    assert outbox.replay(store, hook) == 2
    receiver.answer = lambda _request: Answer()
    clock.ahead = timedelta()
    status.save_status(store, "hook", status.Status())
    deliverer.deliver()
    assert receiver.ids == [each.event.id for each in letters]
    assert left(store) == []


def test_the_dead_letter_list_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_DEAD", 2)
    for number in range(5):
        store.write(f"{outbox.DEAD}hook/{number}.json", b"{}")
    outbox.trim_dead(store, "hook")
    assert store.list(outbox.DEAD) == [f"{outbox.DEAD}hook/{number}.json" for number in (3, 4)]


def test_a_server_that_rejects_everything_has_to_wait(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    receiver.answer = lambda _request: Answer(400)
    fail(store, *(f"audio/{number}.wav" for number in range(webhook_queue.MOST_REJECTED_IN_A_ROW + 5)))
    deliverer.deliver()
    assert len(receiver.requests) == webhook_queue.MOST_REJECTED_IN_A_ROW
    assert status.load_status(store, "hook").failures == 1


def test_a_hanging_server_delays_no_other(store: Store, receiver: Receiver, clock: Clock) -> None:
    with receiving() as other:
        receiver.answer = lambda _request: Answer(how="hang")
        tables = {"hook": (receiver.url, 30), "other": (other.url, 10)}
        lines = [f'[{name}]\nkind = "webhook"\nurl = "{url}"\ntimeout_s = {s}' for name, (url, s) in tables.items()]
        store.write("events.toml", "\n".join(lines).encode())
        fail(store, "audio/a.wav", "audio/b.wav")

        def answer(_request: Received) -> Answer:
            if len(other.taken) == 1:
                receiver.stopping.set()  # the hanging server is released when the other one has both events
            return Answer()

        other.answer = answer
        sender = Sender(secrets={"hook": (SECRET,), "other": (SECRET,)}, networks=LOOPBACK)
        report = Deliverer(store, sender, now=clock).deliver()
    assert report.receivers["other"].delivered == 2
    assert report.receivers["hook"].delivered == 0
    assert outbox.pending(store) == {"hook": 2}


def test_filters_choose_by_type_and_prefix(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed('types = ["recording.failed", "source.failed"]', 'prefixes = ["audio/pod/"]')
    fail(store, "audio/pod/a.wav", "audio/other.wav")
    occurrences.record_failure(store, "source", "pod", "no answer")
    occurrences.record_failure(store, "item", "pod/1f", "too large", title="Episode 1")
    occurrences.record_recovery(store, "source", "pod")
    deliverer.deliver()
    assert subjects(receiver) == ["audio/pod/a.wav", "pod", "pod/1f"]
    assert receiver.taken[2].event["data"]["item"] == "Episode 1"


def test_two_deliverers_send_the_same_ids(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    fail(store, *(f"audio/{number}.wav" for number in range(5)))
    others: list[str] = []

    def answer(_request: Received) -> Answer:
        others.append(replace(deliverer).deliver().idle)
        return Answer()

    receiver.answer = answer
    deliverer.deliver()
    assert len(others) == 5
    assert all(others)
    assert len(receiver.taken) == 5
    # Even if the lease failed: both make the same events of an occurrence.
    receiver.answer = lambda _request: Answer()
    fail(store, "audio/x.wav")
    before = {name: store.read(name) for name in store.list("events/states/")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "remove", lambda *_: None)
        deliverer.deliver()
    for name in store.list("events/states/"):
        store.delete(name) if name not in before else store.write(name, before[name])
    deliverer.deliver()
    assert receiver.ids[-1] == receiver.ids[-2]


def test_clocks_of_workers_do_not_change_the_order(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed()
    names = iter(["20991231T000000000000Z-b", "20990101T000000000000Z-c", "20000101T000000000000Z-d"])
    monkeypatch.setattr(occurrences, "stamped_name", lambda: next(names))
    receiver.answer = lambda _request: Answer(500)
    fail(store, "audio/a.wav")
    fail(store, "audio/a.wav", version="2")
    deliverer.deliver()
    occurrences.record_done(store, [("audio/a.wav", "2")])
    deliverer.deliver()
    receiver.answer = lambda _request: Answer()
    status.save_status(store, "hook", status.Status())
    deliverer.deliver()
    assert [int(each.event["sequence"]) for each in receiver.taken] == [1, 2, 3]


def test_events_of_a_subject_have_increasing_ids(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    oldest_first = Store.oldest_first
    for version in "123":  # the clock of the store is set back each time
        fail(store, "audio/a.wav", version=version)
        at = datetime(2026, 1, 4 - int(version), tzinfo=UTC)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "oldest_first", lambda self, top, at=at: dict.fromkeys(oldest_first(self, top), at))
            deliverer.deliver()
    assert receiver.ids == sorted(receiver.ids)
    assert [int(each.event["sequence"]) for each in receiver.taken] == [1, 2, 3]


def test_one_process_has_the_lease_and_finds_its_loss(case: Case) -> None:
    store = case.store
    with lease.held(store) as own:
        assert own is not None
        own.require(store)
        with lease.held(store) as other:
            assert other is None
        store.write(lease.PATH, json.dumps({"owner": "x", "until": 1.0}).encode())  # as if own had ended
        with lease.held(store) as other:
            assert other is not None
            with pytest.raises(lease.LeaseLost):
                own.require(store)
    assert not store.exists(lease.PATH)


def test_an_intake_that_lost_the_lease_changes_nothing(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed()
    deliverer.deliver()
    fail(store, "audio/a.wav")
    before = left(store)
    load = occurrences.load

    def slow(store: Store, path: str) -> object:
        store.write(lease.PATH, json.dumps({"owner": "other", "until": time.time() + 60}).encode())
        return load(store, path)

    monkeypatch.setattr(occurrences, "load", slow)
    assert deliverer.deliver().idle
    assert left(store) == before
    monkeypatch.undo()
    store.delete(lease.PATH)
    deliverer.deliver()
    assert subjects(receiver) == ["audio/a.wav"]


def test_one_call_takes_many_occurrences_in_parts(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed('types = ["recording.failed"]')
    monkeypatch.setattr(occurrences, "MOST_IN_A_FILE", 2)
    monkeypatch.setattr(intake, "AT_ONCE", 3)
    occurrences.record_done(store, [(f"audio/{number}.wav", "1") for number in range(9)])
    fail(store, "audio/0.wav")
    assert len(store.list(occurrences.NEW)) == 6
    replace(deliverer, budget_s=0.0).deliver()
    assert len(store.list(occurrences.NEW)) == 4
    deliverer.deliver()
    assert store.list(occurrences.NEW) == []
    assert subjects(receiver) == ["audio/0.wav"]


def test_an_abandoned_lease_ends(store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe) -> None:
    subscribed()
    fail(store, "audio/a.wav")
    for until_s, idle in ((time.time() + 60, True), (time.time() - 1, False), (time.time() + 1e6, False)):
        store.write(lease.PATH, json.dumps({"owner": "other", "until": until_s}).encode())
        assert bool(deliverer.deliver().idle) == idle
    assert len(receiver.taken) == 1


def test_lag_and_pending_count_what_servers_miss(store: Store, deliverer: Deliverer, subscribed: Subscribe) -> None:
    assert outbox.lag(store) == 0.0
    subscribed(url="http://127.0.0.1:1/")
    fail(store, "audio/a.wav", "audio/b.wav")
    deliverer.deliver()
    assert outbox.pending(store) == {"hook": 2}
    assert 0.0 < outbox.lag(store) < 3600


def test_damaged_files_do_not_stop_the_others(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    store.write(f"{occurrences.NEW}20260101T000000000000Z-0.json", b"{")
    store.write(f"{outbox.OUTBOX}hook/20260101T000000000000Z-0.000.json", b"[]")
    store.write(status.PROGRESS, b"{}")
    store.write(f"{status.RECEIVERS}hook.json", b"x")
    store.write(lease.PATH, b"x")
    fail(store, "audio/a.wav")
    deliverer.deliver()
    assert subjects(receiver) == ["audio/a.wav"]
    assert left(store) == []


def test_every_store_delivers(case: Case, receiver: Receiver, clock: Clock) -> None:
    store = case.store
    store.write("events.toml", f'[hook]\nkind = "webhook"\nurl = "{receiver.url}"'.encode())
    fail(store, "audio/a.wav", "video/Größe.mp4")
    receiver.answer = lambda _request: Answer(500)
    deliverer = Deliverer(store, Sender(secrets={"hook": (SECRET,)}, networks=LOOPBACK), now=clock)
    deliverer.deliver()
    fail(store, "audio/a.wav")
    receiver.answer = lambda _request: Answer()
    clock.advance(hours=1)
    deliverer.deliver()
    assert sorted(subjects(receiver)) == ["audio/a.wav", "video/Größe.mp4"]  # a bucket's times are in seconds
    assert left(store) == []


def test_events_arrive_in_order_though_half_fails(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock
) -> None:
    subscribed()
    count = 40
    receiver.answer = lambda _request: Answer(500)
    for number in range(count):
        if number == count // 2:
            receiver.answer = lambda _request: Answer()
        fail(store, f"audio/{number % 7}.wav", version=str(number))
        if number % 5 == 0:
            deliverer.deliver()
            clock.advance(hours=2)
    deliverer.deliver()
    orders: dict[str, list[int]] = {}
    for each in receiver.taken:
        orders.setdefault(each.event["subject"], []).append(int(each.event["sequence"]))
    assert len(receiver.taken) == count
    assert all(order == list(range(1, len(order) + 1)) for order in orders.values())


FAR = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
LOOP = """
import sys
from ipaddress import ip_network
from transcription_assets.events import lease
from transcription_assets.events.delivery import Deliverer
from transcription_assets.events.event import Event
from transcription_assets.events.states import States
from transcription_assets.events.webhooks import Attempt, Sender
from transcription_assets.storage import Store
sender = Sender(secrets={"hook": (sys.argv[2].encode(),)}, networks=(ip_network("127.0.0.0/8"),))
while True:
    Deliverer(Store.open(sys.argv[1]), sender).deliver()
"""


def test_killed_deliverers_lose_nothing(store: Store, receiver: Receiver, subscribed: Subscribe) -> None:
    subscribed()
    count = 60
    kill_at = [5, 20, 35]
    processes: list[subprocess.Popen[bytes]] = []

    def answer(_request: Received) -> Answer:
        if kill_at and len(receiver.taken) >= kill_at[0]:
            kill_at.pop(0)
            processes[-1].send_signal(signal.SIGKILL)
        return Answer()

    receiver.answer = answer
    fail(store, *(f"audio/{number % 20}.wav" for number in range(20)))
    for version in ("2", "3"):
        fail(store, *(f"audio/{number}.wav" for number in range(20)), version=version)
    for _ in range(len(kill_at) + 1):
        store.delete(lease.PATH)  # of the process that was killed
        processes.append(subprocess.Popen([sys.executable, "-c", LOOP, store.url, SECRET.decode()]))
        until(
            "the process is killed, or has delivered everything",
            lambda: processes[-1].poll() is not None or not left(store),
            lambda: (len(receiver.requests), processes[-1].poll()),
        )
    processes[-1].kill()
    for each in processes:
        each.wait()
    assert [each.returncode for each in processes] == [-signal.SIGKILL] * 4
    assert len(set(receiver.ids)) == count
    bodies: dict[str, bytes] = {}
    orders: dict[str, list[int]] = {}
    for each in receiver.taken:
        identifier = each.headers["webhook-id"]
        assert bodies.setdefault(identifier, each.body) == each.body
        orders.setdefault(each.event["subject"], []).append(int(each.event["sequence"]))
    assert all(order == sorted(order) and set(order) == {1, 2, 3} for order in orders.values())


@pytest.mark.parametrize("step", ["put", "save", "delete"])
def test_an_interrupted_intake_is_repeated(
    deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = deliverer.store
    subscribed()
    fail(store, "audio/a.wav", "audio/b.wav")
    occurrences.record_done(store, [("audio/a.wav", "1")])
    original = {"put": Store.write, "save": Store.write, "delete": Store.delete}[step]
    prefixes = {"put": outbox.OUTBOX, "save": "events/states/", "delete": occurrences.NEW}
    broken: list[str] = []

    def breaks(self: Store, path: str, *more: object) -> None:
        if path.startswith(prefixes[step]) and len(broken) < 2:
            broken.append(path)
            if len(broken) == 2 or step == "delete":
                broken.append("")
                raise KeyboardInterrupt
        original(self, path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, original.__name__, breaks)
    with pytest.raises(KeyboardInterrupt):
        deliverer.deliver()
    monkeypatch.undo()
    deliverer.deliver()
    told = [(each.event["subject"], each.event["type"], each.event["sequence"]) for each in receiver.taken]
    assert told == [
        ("audio/a.wav", "recording.failed", "0000000001"),
        ("audio/b.wav", "recording.failed", "0000000001"),
        ("audio/a.wav", "recording.done", "0000000002"),
    ]
    assert left(store) == []


def test_old_events_of_removed_receivers_are_deleted(store: Store, deliverer: Deliverer, subscribed: Subscribe) -> None:
    subscribed()
    new = occurrences.stamped_name()
    store.write(f"{outbox.OUTBOX}gone/20200101T000000000000Z-0.000.json", b"{}")
    store.write(f"{outbox.OUTBOX}gone/{new}.000.json", b"{}")
    store.write(f"{outbox.DEAD}gone/20200101T000000000000Z-0.000.json", b"{}")
    store.write(f"{outbox.DIGESTS}hook/20200101T000000000000Z-0.000.json", b"{}")  # it was a channel
    deliverer.deliver()
    assert [*left(store), *store.list(outbox.DIGESTS)] == [f"{outbox.OUTBOX}gone/{new}.000.json"]


def test_recordings_that_are_gone_are_forgotten(
    store: Store, deliverer: Deliverer, subscribed: Subscribe, clock: Clock, tmp_path: Path
) -> None:
    subscribed()
    (tmp_path / "a.wav").write_bytes(b"a")
    key = store.put_media("audio/a.wav", tmp_path / "a.wav")
    fail(store, key, "audio/gone.wav")
    for source in ("pod", "gone"):
        occurrences.record_failure(store, "source", source, "no answer")
        occurrences.record_failure(store, "item", f"{source}/1", "too large")
    occurrences.record_recovery(store, "item", "pod/2")
    store.write("sources.toml", b'[pod]\nkind = "feed"\nurl = "https://e.example/feed"\n')
    deliverer.deliver()
    assert len(States(store).everything()) == 7
    clock.advance(days=2)
    deliverer.deliver()
    known = States(store).everything()
    assert set(known) - {"backlog:inbox"} == {f"recording:{key}", "source:pod", "item:pod/1"}
    (tmp_path / "store/audio/away.wav").symlink_to(tmp_path / "unmounted/away.wav")
    (tmp_path / "store/audio/a.wav").unlink()
    clock.advance(days=2)
    deliverer.deliver()
    assert f"recording:{key}" in States(store).everything()  # a disk may be unmounted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[hook", ""),
        ("[hook]\nkind = 'mail'", "hook"),
        ("[hook]\nkind = 'webhook'", "hook.url"),
        ("[hook]\nkind = 'webhook'\nurl = 'file:///etc/passwd'", "hook.url"),
        ("[hook]\nkind = 'webhook'\nurl = 'https://e.example'\ntypes = ['recording.lost']", "hook.types.0"),
        ("[hook]\nkind = 'webhook'\nurl = 'https://e.example'\nsecret = 'x'", "hook.secret"),
        ("[hook]\nkind = 'webhook'\nurl = 'https://e.example'\ntimeout_s = 600", "hook.timeout_s"),
        ("[Hook]\nkind = 'channel'\n[hook]\nkind = 'channel'", "Hook"),
        ("['../x']\nkind = 'channel'", "../x"),
        ("hook = 1", "hook"),
        ("[mail]\nkind = 'channel'\nevery_minutes = 0", "mail.every_minutes"),
        ("[mail]\nkind = 'channel'\nwebhook = 1", "mail.webhook"),
        ("[events]\nstuck_hours = -1", "events.stuck_hours"),
    ],
    ids=[
        "no TOML",
        "kind",
        "no URL",
        "scheme",
        "type",
        "unknown field",
        "timeout",
        "case",
        "name",
        "no table",
        "interval",
        "field named like a kind",
        "general",
    ],
)
def test_an_invalid_catalogue_names_the_field(text: str, reason: str) -> None:
    with pytest.raises(InvalidEvents) as raised:
        parse(text.encode(), "events.toml")
    assert reason in raised.value.reasons


@pytest.mark.parametrize("text", ["hook", "hook=", "hook=whsec_short", "hook=whsec_?", f"../x={SECRET_TEXT}"])
def test_wrong_secrets_are_named_but_not_shown(text: str) -> None:
    with pytest.raises(InvalidEvents) as raised:
        parse_secrets(text)
    assert "whsec_short" not in str(raised.value)
    assert SECRET_TEXT not in str(raised.value)


def test_secrets_are_read_by_receiver() -> None:
    assert parse_secrets(f"hook={SECRET_TEXT} a={SECRET_TEXT}\nhook={SECRET_TEXT}") == {
        "hook": (SECRET, SECRET),
        "a": (SECRET,),
    }
    assert parse_channels("mail=mailto://a:b@e.example?to=x,y") == {"mail": ("mailto://a:b@e.example?to=x,y",)}
    assert parse(b"", "").receivers == Catalogue().receivers


def test_pauses_grow_and_respect_the_server() -> None:
    longest = [webhooks.pause(number, jitter=lambda: 1.0).total_seconds() for number in range(1, 12)]
    assert longest == sorted(longest)
    assert (longest[0], longest[-1]) == (webhooks.FIRST_S, webhooks.LONGEST_S)
    assert webhooks.pause(1, jitter=lambda: 0.0).total_seconds() == webhooks.FIRST_S / 2
    assert webhooks.pause(1, 500.0).total_seconds() == 500.0
    assert webhooks.pause(10**6).total_seconds() <= webhooks.LONGEST_S


def test_retry_after_delays_the_next_attempt(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock
) -> None:
    subscribed()
    later = (datetime.now(UTC) + timedelta(hours=3)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    for number, value in enumerate(("7200", later, "soon", "9" * 30, "nan", FAR)):
        receiver.answer = lambda _request, value=value: Answer(503, {"retry-after": value})  # type: ignore[misc]
        status.save_status(store, "hook", status.Status())
        fail(store, f"audio/{number}.wav")
        deliverer.deliver()
        wait = status.load_status(store, "hook").retry_at
        assert wait is not None
        assert (wait - clock() > timedelta(hours=1)) == (value in {"7200", later})


def test_a_receiver_that_breaks_stops_no_other(
    store: Store, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [f'[{name}]\nkind = "webhook"\nurl = "{receiver.url}"' for name in ("bad", "good")]
    store.write("events.toml", "\n".join(tables).encode())
    fail(store, "audio/a.wav")
    send = Sender.send

    def broken(self: Sender, target: Webhook, event: Event) -> Attempt:
        if target.name == "bad":
            raise RuntimeError("token123")
        return send(self, target, event)

    monkeypatch.setattr(Sender, "send", broken)
    sender = Sender(secrets={"bad": (SECRET,), "good": (SECRET,)}, networks=LOOPBACK)
    outcomes = Deliverer(store, sender, now=clock).deliver().receivers
    assert (outcomes["good"].delivered, outcomes["bad"].error) == (1, "unexpected RuntimeError")
    assert status.load_status(store, "bad").retry_at is not None


def test_a_slow_server_keeps_its_queue_at_the_first_failure(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe, clock: Clock
) -> None:
    subscribed("give_up_hours = 1")
    fail(store, "audio/a.wav", "audio/b.wav")
    clock.advance(hours=2)  # in which the server was busy with others
    receiver.answer = lambda _request: Answer(503)
    assert deliverer.deliver().receivers["hook"].dead == 0
    clock.advance(hours=2)
    assert deliverer.deliver().receivers["hook"].dead == 2


def test_errors_do_not_show_the_path_of_a_webhook(store: Store, deliverer: Deliverer, subscribed: Subscribe) -> None:
    subscribed(url="http://127.0.0.1:1/token123?key=token123")
    fail(store, "audio/a.wav")
    error = deliverer.deliver().receivers["hook"].error
    assert "http://127.0.0.1:1" in error
    stored = [store.read(path).decode() for path in store.list("events/")]
    assert not any("token123" in text for text in (error, repr(deliverer), *stored))


def test_settings_of_a_removed_receiver_stop_nothing(
    store: Store, deliverer: Deliverer, receiver: Receiver, subscribed: Subscribe
) -> None:
    subscribed()
    fail(store, "audio/a.wav")
    report = replace(deliverer, urls={"gone": ("json://x",)}).deliver()
    assert report.unknown == ("gone",)
    assert len(receiver.taken) == 1
