"""The cache of expensive values: computed by one thread, returned while stale, failures never stored."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from transcription_assets.errors import TransientFailure
from transcription_assets.web.cache import Cached


def test_concurrent_requests_share_one_computation() -> None:
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


def test_lifetime_of_a_value_grows_with_its_computation_time() -> None:
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


def test_stale_value_is_returned_during_recomputation() -> None:
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


def test_failure_is_raised_and_not_cached() -> None:
    failures = [TransientFailure("the store is away")]

    def make() -> str:
        if failures:
            raise failures.pop()
        return "here"

    kept = Cached(make, 60.0)
    with pytest.raises(TransientFailure, match="away"):
        kept.get()
    assert kept.get() == "here"


def test_recent_value_is_returned_without_waiting() -> None:
    now = [0.0]
    go = threading.Event()
    answers = iter(["old", "new"])

    def make() -> str:
        answer = next(answers)
        if answer == "new":
            go.wait(10)
        return answer

    kept = Cached(make, 2.0, lambda: now[0])
    assert kept.recent(10.0) is None, "there is none yet"
    assert kept.get() == "old"
    now[0] += 3.0
    assert kept.recent(10.0) == "old"
    now[0] += 8.0
    assert kept.recent(10.0) is None, "it is too old"
    go.set()
    assert kept.soon().result(10) == "new"
    assert kept.recent(10.0) == "new"
