"""What runs by itself once its input is there: declarative automation, evaluated by one sensor that is on."""

import dagster as dg

follow = dg.AutomationCondition.eager()
"""A recording whose upstream was made outside a run of the whole chain (a batch with a bad file) is carried on."""

refresh = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & dg.AutomationCondition.cron_tick_passed("*/5 * * * *")
    & ~dg.AutomationCondition.in_progress()
).with_label("new passages since the last refresh, at most every five minutes")
"""`eager()` would wait for as long as any recording is missing or in progress: on a busy inbox, for ever."""

daily = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & dg.AutomationCondition.cron_tick_passed("20 3 * * *")
    & ~dg.AutomationCondition.in_progress()
).with_label("new passages since the last report, once a night")
"""The report reads a month of events."""

automation_sensor = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Carries on what a failed batch left behind, and refreshes the search index.",
)
