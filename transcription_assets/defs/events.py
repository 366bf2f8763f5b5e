"""The sensor `events`: delivers events about recordings and sources to the receivers of `events.toml`."""

from dataclasses import replace

import dagster as dg

from transcription_assets import settings, wiring
from transcription_assets.defs.resources import StoreResource

INTERVAL_S = 30
BUDGET_S = 10.0
"""Seconds after which a tick begins nothing new: the daemon evaluates one sensor after another, each for a minute."""


@dg.sensor(
    name="events",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Delivers events about recordings and sources to the receivers of `events.toml`; it requests no runs.",
)
def events(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SkipReason:
    """Deliver what is due, for some seconds; the next tick continues.

    Raises:
        TranscriptionError: `events.toml` or a setting is invalid, or the store cannot be read.

    """
    deliverer = wiring.build_deliverer(store.open(), settings.load())
    report = replace(deliverer, budget_s=BUDGET_S).deliver()
    for name, outcome in report.receivers.items():
        if outcome.error:
            context.log.warning(f"{name}: {outcome.error}; {outcome.waiting} events wait")
        if outcome.dead:
            context.log.error(f"{name}: {outcome.dead} events given up; see `transcription-assets events dead`")
    if report.unknown:
        context.log.warning(f"settings name receivers that events.toml has not: {', '.join(report.unknown)}")
    delivered = sum(outcome.delivered for outcome in report.receivers.values())
    waiting = sum(outcome.waiting for outcome in report.receivers.values())
    return dg.SkipReason(report.idle or f"{report.events} new events, {delivered} delivered, {waiting} waiting")
