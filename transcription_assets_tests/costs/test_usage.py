"""Totals of what steps used: independent of the order, and complete for measured, failed and delegated work."""

import math
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.costs import timing
from transcription_assets.costs.timing import WorkerUse
from transcription_assets.costs.usage import AMOUNTS, STEPS, StepUsage, UsageRecorder, total
from transcription_assets.errors import StoreAway

amounts = st.floats(0.0, 1e6)
usages = st.builds(
    StepUsage,
    st.integers(0, 1000),
    **dict.fromkeys(AMOUNTS, amounts),
    failures=st.dictionaries(st.sampled_from(["StoreAway", "Refused", "Unexpected"]), st.integers(1, 9)),
).map(lambda item: item + StepUsage())


@given(st.lists(usages, max_size=20), st.randoms(use_true_random=False))
def test_totals_do_not_depend_on_the_order(found: list[StepUsage], random: object) -> None:
    """A counter that falls by a rounding error counts as one that was reset."""
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one_by_one = total({"audio": item} for item in found)
    half = len(shuffled) // 2
    by_halves = total([total({"audio": item} for item in part) for part in (shuffled[:half], shuffled[half:])])
    assert one_by_one == by_halves


@given(st.dictionaries(st.sampled_from([*STEPS, "mining"]), usages))
def test_unknown_steps_are_left_out(found: dict[str, StepUsage]) -> None:
    assert total([found]) == {step: item for step, item in found.items() if step != "mining"}


def test_measured_work_is_divided_into_loading_and_computation() -> None:
    recorder = UsageRecorder({"transcript": 2})
    with recorder.measured("transcript"):
        timing.weights.add(0.0)
    recorder.finished("transcript", 60.0)
    found = recorder.take()
    assert (found["transcript"].recordings, found["transcript"].audio_s) == (1, 60.0)
    spent_s = found["transcript"].load_s + found["transcript"].compute_s
    assert found["transcript"].gpu_s == pytest.approx(2 * spent_s, abs=1e-5)
    assert recorder.take() == {}


def test_failure_of_measured_work_is_counted_and_raised() -> None:
    recorder = UsageRecorder()
    for error in (StoreAway("away"), StoreAway("away"), ZeroDivisionError()):
        with pytest.raises(type(error)), recorder.measured("video"):
            raise error
    assert recorder.take()["video"].failures == {"StoreAway": 2, "Unexpected": 1}


def test_items_are_passed_on_lazily() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    items = UsageRecorder().each("transcript", numbers(), lambda _item: False)
    assert next(items) == 0
    assert made == [0]
    assert list(items) == [1, 2]


def test_time_of_reused_results_is_not_counted() -> None:
    recorder = UsageRecorder()
    with recorder.measured("audio"):
        pass
    recorder.reused("audio")
    assert list(recorder.each("transcript", [1, 2], lambda _item: True)) == [1, 2]
    assert recorder.take() == {}


def test_interrupted_work_is_counted() -> None:
    def interrupted() -> None:
        time.sleep(0.001)
        raise KeyboardInterrupt

    recorder = UsageRecorder()
    with pytest.raises(KeyboardInterrupt), recorder.measured("transcript"):
        interrupted()
    found = recorder.take()["transcript"]
    assert (found.recordings, found.failures) == (0, {})
    assert found.compute_s > 0


def test_amounts_are_never_negative_or_infinite() -> None:
    found = StepUsage(2, -1.0, compute_s=math.nan, load_s=math.inf, usd=0.5).clamped()
    assert found == StepUsage(2, usd=0.5)


def test_workers_whose_total_falls_add_nothing() -> None:
    recorder = UsageRecorder()
    recorder.workers("audio", WorkerUse(10.0))
    recorder.workers("audio", WorkerUse(5.0))
    assert recorder.take()["audio"] == StepUsage(worker_s=10.0)


def test_use_of_workers_is_counted_once() -> None:
    recorder = UsageRecorder()
    recorder.workers("audio", WorkerUse(10.0, 20.0, 0.0, 1.0))
    recorder.workers("audio", WorkerUse(15.0, 30.0, 0.0, 1.5))
    assert recorder.take()["audio"] == StepUsage(worker_s=15.0, cpu_s=30.0, usd=1.5)
    recorder.workers("audio", WorkerUse(15.0, 30.0, 0.0, 1.5))
    assert recorder.take() == {}
