"""Partitions, jobs and declarative automation: what is materialised for which recordings, and when."""

import dagster as dg

from transcription_assets.defs.dagster_internals import UnresolvedAssetJobDefinition

recordings = dg.DynamicPartitionsDefinition(name="recordings")
"""One partition for each recording, whose key is the media key."""

PROCESS = "process_recordings"
"""Name of the job that the inbox sensor runs."""


def process_recordings(*optional: str) -> UnresolvedAssetJobDefinition:
    """Return the job with all steps; `optional` are the names of the optional assets in the graph."""
    return dg.define_asset_job(
        PROCESS,
        selection=["video", "audio", "transcript", *optional, "embeddings"],
        description="All steps for one recording or a range of recordings: from the file to rows in the search table.",
    )


refresh_search = dg.define_asset_job(
    "refresh_search",
    selection=["search_index"],
    description="Compact the search table and refresh its index now, without waiting for the automation.",
)

follow = dg.AutomationCondition.eager()
"""Continues recordings whose upstream asset was materialised outside a run of the whole chain.

An example is a batch in which some recordings failed.
"""

refresh = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & dg.AutomationCondition.cron_tick_passed("*/5 * * * *")
    & ~dg.AutomationCondition.in_progress()
).with_label("new passages since the last refresh, at most every five minutes")
"""Unlike `eager()`, does not wait until no recording is missing or in progress, which a busy inbox never reaches."""

daily = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & dg.AutomationCondition.cron_tick_passed("20 3 * * *")
    & ~dg.AutomationCondition.in_progress()
).with_label("new passages since the last report, once a night")
"""Once a night, because the report reads the events of a month."""

automation_sensor = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Continues recordings after a partly failed batch, and refreshes the search index.",
)
