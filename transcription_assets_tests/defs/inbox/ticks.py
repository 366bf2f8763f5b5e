"""Ticks of the inbox sensor, carried out as Dagster's daemon does: partitions, then runs, then the cursor."""

import uuid
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg
import polars as pl

from transcription_assets.defs.inbox.sensor import SensorLimits, inbox_sensor
from transcription_assets.defs.jobs import PROCESS, recordings
from transcription_assets.defs.resources import StoreResource
from transcription_assets.domain import inbox_diff
from transcription_assets.storage import Store

PACE = SensorLimits(
    interval_s=1,
    settle_s=0,
    max_adds=300,
    run_max_files=20,
    run_max_bytes=10**9,
    remove_gone=False,
    remove_max_share=0.5,
)
RUN_KEY = "dagster/run_key"


@dataclass
class Daemon:
    """An instance and the sensor's cursor; `requested` are the keys of each run, in the order of the requests."""

    store: Store
    instance: dg.DagsterInstance
    pace: SensorLimits = PACE
    cursor: str | None = None
    message: str = ""
    requested: list[list[str]] = field(default_factory=list)

    def evaluate(self) -> dg.SensorResult:
        resources = {"store": StoreResource(url=self.store.url)}
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources) as context:
            result = inbox_sensor(self.pace)(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def tick(self, dies: Literal["never", "at once", "after partitions", "after runs"] = "never") -> list[list[str]]:
        """Carry one tick out, until it dies; the keys of the runs that were started."""
        result = self.evaluate()
        self.message = result.skip_reason.skip_message or "" if result.skip_reason else ""
        if dies == "at once":
            return []
        for request in result.dynamic_partitions_requests or []:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
            else:
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(request.partitions_def_name, key)
        if dies == "after partitions":
            return []
        started = [keys for request in result.run_requests or [] if (keys := self._start(request))]
        self.requested += started
        if dies != "after runs":
            self.cursor = result.cursor
        return started

    def finish(self) -> None:
        """All runs end well."""
        for run in self.instance.get_runs():
            self.instance.run_storage.delete_run(run.run_id)
            self.instance.add_run(run.with_status(dg.DagsterRunStatus.SUCCESS))

    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions(str(recordings.name)))

    def known(self) -> pl.DataFrame:
        return inbox_diff.from_bytes(self.store.read(inbox_diff.Cursor.parse(self.cursor).snapshot))

    def _start(self, request: dg.RunRequest, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> list[str]:
        """Start a run unless there is one of its run key."""
        assert request.run_key
        if self.instance.get_runs(dg.RunsFilter(tags={RUN_KEY: request.run_key})):
            return []
        tags = {**request.tags, RUN_KEY: request.run_key}
        if request.partition_key:
            tags["dagster/partition"] = request.partition_key
        run = dg.DagsterRun(PROCESS, run_id=str(uuid.uuid4()), tags=tags, status=status)
        self.instance.add_run(run)
        return keys_of(run, self.partitions())


def keys_of(run: dg.DagsterRun, order: list[str]) -> list[str]:
    """What Dagster hands the run."""
    if key := run.tags.get("dagster/partition"):
        return [key]
    first, last = (run.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
    return order[order.index(first) : order.index(last) + 1]
