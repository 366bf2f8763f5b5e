"""Answers that cost much: made by one thread, given on while a new one is made, never kept when they failed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from transcription_assets.errors import TransientFailure
from transcription_assets.web.cache import Cached


def test_who_asks_at_the_same_time_gets_one_answer_that_was_made_once() -> None:
    made = []
    go = threading.Event()

    def make() -> int:
        go.wait(10)
        made.append(1)
        return len(made)

    kept = Cached(make, 60.0)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(kept.get) for _ in range(8)]
        go.set()
        assert {each.result(10) for each in asked} == {1}


def test_what_took_long_is_kept_longer_so_that_making_it_never_fills_the_day() -> None:
    now = [0.0]
    made = []

    def make() -> int:
        now[0] += 5.0
        made.append(1)
        return len(made)

    kept = Cached(make, 2.0, lambda: now[0])
    assert kept.get() == 1
    now[0] += 49.0
    assert kept.get() == 1
    now[0] += 2.0
    assert kept.get() == 2


def test_the_last_answer_is_given_while_a_new_one_takes_long() -> None:
    now = [0.0]
    slow = threading.Event()
    answers = iter(["old", "new"])

    def make() -> str:
        answer = next(answers)
        if answer == "new":
            slow.wait(10)
        return answer

    kept = Cached(make, 2.0, lambda: now[0])
    assert kept.get() == "old"
    now[0] += 3.0
    assert kept.get() == "old"
    assert kept.any.result(0) == "old"
    slow.set()
    assert kept.soon().result(10) == "new"


def test_a_failure_is_told_and_tried_again() -> None:
    failures = [TransientFailure("the store is away")]

    def make() -> str:
        if failures:
            raise failures.pop()
        return "here"

    kept = Cached(make, 60.0)
    with pytest.raises(TransientFailure, match="away"):
        kept.get()
    assert kept.get() == "here"
