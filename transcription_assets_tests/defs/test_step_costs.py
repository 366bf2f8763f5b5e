"""Costs of a step: its own pod, and what its workers held."""

import math

import pytest

from transcription_assets.costs.timing import WorkerUse
from transcription_assets.defs.step_costs import StepTimer

PRICE = {"cpus": 2.0, "gpus": 0.0, "usd_per_hour": 3.6}
USE = WorkerUse(held_s=40.0, cpu_s=160.0, gpu_s=40.0, usd=0.4)


def timed(price: dict[str, float]) -> StepTimer:
    timer = StepTimer(0.0, 10.0, price)
    for key, own_s in {"audio/a.wav": 3.0, "audio/b.wav": 1.0}.items():
        timer._own_s[key] = own_s  # noqa: SLF001 -- as measured by `recording`
        timer.owned(key, own_s)
    return timer


def total(timer: StepTimer, name: str, use: WorkerUse) -> float:
    found = timer.metadata(["audio/a.wav", "audio/b.wav"], use).values()
    return math.fsum(float(item[name].value) for item in found)  # type: ignore[arg-type]


def test_cost_includes_the_machines_of_workers() -> None:
    assert total(timed(PRICE), "cost_usd", WorkerUse()) == pytest.approx(0.014)
    assert total(timed(PRICE), "cost_usd", USE) == pytest.approx(0.414)
    assert total(timed(PRICE), "cpu_seconds", USE) == pytest.approx(2 * 14.0 + 160.0)
    assert total(timed(PRICE), "gpu_seconds", USE) == pytest.approx(40.0)


def test_workers_cost_something_where_the_step_has_no_price() -> None:
    found = timed({}).metadata(["audio/a.wav", "audio/b.wav"], USE)
    assert [item["cost_usd"].value for item in found.values()] == pytest.approx([0.3, 0.1])
    assert [item["worker_s"].value for item in found.values()] == pytest.approx([30.0, 10.0])


def test_step_without_price_and_workers_has_no_cost() -> None:
    found = timed({}).metadata(["audio/a.wav"])["audio/a.wav"]
    assert not {"cost_usd", "worker_s"} & found.keys()
