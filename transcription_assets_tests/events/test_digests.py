"""Digests: when channels get a message and what it tells, as properties of pure functions."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.events.digests import MOST_BODY, Outstanding, Pace, Sent, compose, due, summarise
from transcription_assets.events.event import FAILURES, Event

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOURLY = Pace(timedelta(hours=1), time(7, 0))


def failed(subject: str, reason: str = "broken", step: str = "video") -> Event:
    data = {"key": subject, "reason": reason, "step": step, "transient": False}
    return Event("id-1", "recording.failed", subject, START.isoformat(), 1, data)


def done(subject: str, *, recovered: bool) -> Event:
    return Event("id-2", "recording.done", subject, START.isoformat(), 2, {"recovered": recovered})


@given(
    arrivals=st.lists(st.integers(0, 4 * 1440), max_size=60).map(sorted),
    every=st.integers(5, 300),
    at=st.none() | st.times().map(lambda value: value.replace(second=0, microsecond=0)),
    step=st.integers(1, 7),
)
def test_each_event_is_told_once_and_in_time(arrivals: list[int], every: int, at: time | None, step: int) -> None:
    pace = Pace(timedelta(minutes=every), at)
    sent, waiting, told, messages, daily = Sent(daily=START), list[int](), list[int](), list[int](), list[int]()
    left = list(arrivals)
    for minute in range(0, 5 * 1440 + every, step):
        now = START + timedelta(minutes=minute)
        while left and left[0] <= minute:
            waiting.append(left.pop(0))
        what = due(len(waiting), sent, pace, now)
        if what == "nothing":
            continue
        if what == "daily":
            daily.append(minute)
            sent = Sent(sent.message, now)
        elif messages:
            assert minute - messages[-1] >= every
        if waiting:
            # No event waits for longer than the interval, and the first one not at all.
            assert minute - waiting[0] < every + 2 * step or what == "daily"
            if not messages:
                assert minute - waiting[0] < step or what == "daily"
            messages.append(minute)
            sent = Sent(now, sent.daily)
        told += waiting
        waiting.clear()
    assert told == arrivals
    assert all(later - earlier >= 1440 - step for earlier, later in pairwise(daily))
    assert len(daily) in ({0} if at is None else {4, 5, 6})


def test_a_clock_that_was_set_back_delays_no_message() -> None:
    assert due(1, Sent(START + timedelta(days=900), START), HOURLY, START) == "events"


def test_a_new_channel_waits_for_its_first_list() -> None:
    assert due(0, Sent(), HOURLY, START) == "nothing"


kinds = st.sampled_from(["fail", "recover", "done"])


@given(st.lists(st.tuples(st.sampled_from("abc"), kinds), max_size=30))
def test_the_last_state_of_each_recording_is_told_once(history: list[tuple[str, str]]) -> None:
    events = [failed(name) if kind == "fail" else done(name, recovered=kind == "recover") for name, kind in history]
    found = summarise(events)
    told = [each.subject for each in (*found.failed, *found.recovered, *found.others)]
    assert sorted(told) == sorted({name for name, _ in history})
    last = dict(history)
    assert {each.subject for each in found.failed} == {name for name, kind in last.items() if kind == "fail"}
    assert all(each.type in FAILURES for each in found.failed)
    assert {name for name, kind in last.items() if kind == "recover"} <= {each.subject for each in found.recovered}


def test_one_failure_is_named_in_the_title() -> None:
    message = compose([failed("audio/a.wav", "audio/a.wav: no audio")], None, "archive")
    assert message is not None
    assert message.title == "archive: audio/a.wav failed"
    assert "    audio/a.wav: no audio" in message.body.split("\n")


def test_many_failures_are_grouped_and_bounded() -> None:
    events = [failed(f"audio/{number}.wav", "x" * 5_000, f"step {number % 30}") for number in range(3_000)]
    message = compose(events, [Outstanding("audio/b.wav", "2026-01-01", "y" * 9_000)] * 500, "archive")
    assert message is not None
    assert message.title == "archive: 3000 failed, 500 outstanding"
    assert len(message.body) <= MOST_BODY


def test_names_cannot_add_lines() -> None:
    message = compose([failed("audio/a.wav\nRecovered:", "one\n\ntwo")], None, "archive")
    assert message is not None
    assert "\n" not in message.title
    assert not any(line.startswith(("Recovered:", "two")) for line in message.body.split("\n"))


@pytest.mark.parametrize("outstanding", [None, []], ids=["events", "daily"])
def test_nothing_to_say_is_no_message(outstanding: list[Outstanding] | None) -> None:
    assert compose([], outstanding, "archive") is None
