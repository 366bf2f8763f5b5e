"""Runs and their recordings: active runs, and failed runs of single recordings.

The sensor does not request a recording that is queued or being processed.

Dagster shows a partition as failed if the last run that planned to materialise it has failed. A run over several assets
plans all of them when it is created, so failing it for one recording marks every later step of that recording as
failed. Therefore the run continues with the other recordings, and those that failed are recorded as a second run, which
plans only the step that failed and is created as failed. It is not launched, but can be re-executed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import dagster as dg

from transcription_assets.defs.dagster_internals import (
    BACKFILL_ID_TAG,
    DagsterEvent,
    ErrorSource,
    ExecutionStep,
    JobFailureData,
    RunFailureReason,
    StepExecutionContext,
    StepFailureData,
    UserFailureData,
)
from transcription_assets.defs.jobs import recordings

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"

# Not NOT_STARTED: a tick that dies between creating and submitting a run leaves it in this state, and only a request
# for the same recordings starts it.
ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

RETRY_RUN = "dagster/retry_on_asset_or_op_failure"
"""Tag that enables run retries for a failed run; `dagster.yaml` disables them for runs without it."""
UNATTENDED = (
    "dagster/sensor_name",
    "dagster/from_automation_condition",
    "dagster/auto_materialize",
    "dagster/retry_number",
)
"""Tags of runs that no person launched."""
BATCH_RUN = "transcription_assets/batch_run"
"""Tag of a failed run: the ID of the run in which its recordings failed."""


@dataclass(frozen=True, slots=True)
class ActiveRuns:
    """The active runs."""

    runs: Sequence[dg.DagsterRun]

    def keys(self, order: Sequence[str]) -> set[str]:
        """Return the media keys of their recordings; `order` lists all partitions in their order."""
        if not self.runs:
            return set()
        position = {key: number for number, key in enumerate(order)}
        return {key for run in self.runs for key in _keys(run.tags, order, position)}


def find_active_runs(instance: dg.DagsterInstance, most: int) -> ActiveRuns:
    """Return at most `most` of the active runs, whether a sensor, automation or a person started them."""
    return ActiveRuns(instance.get_runs(dg.RunsFilter(statuses=ACTIVE), limit=most))


def last_ended_run(instance: dg.DagsterInstance) -> str:
    """Return the ID of the latest finished run, or an empty string."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    return next((run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=ended), limit=1)), "")


def keys_of(tags: Mapping[str, str], order: Sequence[str]) -> Sequence[str]:
    """Return the media keys of a run with these tags; `order` lists all partitions in their order."""
    return _keys(tags, order, {key: number for number, key in enumerate(order)})


def range_tags(keys: Sequence[str], order: Sequence[str]) -> list[dict[str, str]]:
    """Return the tags of runs that cover exactly these recordings, one run for each range of neighbours.

    Args:
        keys: Media keys; those that `order` lacks are left out.
        order: All partitions, in their order.

    """
    selected, ranges = set(keys), []
    for _, group in groupby(order, selected.__contains__):
        members = list(group)
        if members[0] not in selected:
            continue
        single = len(members) == 1
        ranges.append({PARTITION: members[0]} if single else {RANGE_START: members[0], RANGE_END: members[-1]})
    return ranges


def _keys(tags: Mapping[str, str], order: Sequence[str], position: dict[str, int]) -> Sequence[str]:
    if PARTITION in tags:
        return [tags[PARTITION]]
    first, last = (position.get(tags.get(tag, "")) for tag in (RANGE_START, RANGE_END))
    return [] if first is None or last is None else order[first : last + 1]


def has_downstream(context: dg.AssetExecutionContext) -> bool:
    """Return whether a later step of this run depends on this one."""
    return bool(_selected(context) & context.job_def.asset_layer.asset_graph.get(context.asset_key).child_keys)


def materialised_upstream(context: dg.AssetExecutionContext) -> list[str]:
    """Return the recordings of the run, sorted, without those that failed in an earlier step of it.

    For a run that was re-executed from failure, earlier steps may be in its parent run.
    """
    upstream = _selected(context) & context.job_def.asset_layer.asset_graph.get(context.asset_key).parent_keys
    left = set(context.partition_keys)
    run: dg.DagsterRun | None = context.run
    while run and upstream:
        logs = context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        events = [entry.get_dagster_event() for entry in logs]
        for asset in list(upstream):
            if materialised := {event.partition for event in events if event.asset_key == asset}:
                left &= materialised
                upstream = upstream - {asset}
        run = context.instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return sorted(left)


def record_failed(context: dg.AssetExecutionContext, keys: Sequence[str], failure: dg.Failure, *, retry: bool) -> None:
    """Record that this step failed for these recordings only.

    Creates one run for each range of neighbouring partitions.

    Args:
        context: The context of the step.
        keys: Media keys of the recordings that failed; those that are no longer partitions are left out.
        failure: Supplies the description and metadata of the run.
        retry: Whether Dagster's run retries may start the run again.

    """
    instance, run = context.instance, context.run
    step_context = context.op_execution_context.get_step_execution_context()
    partitions = instance.get_dynamic_partitions(str(recordings.name))
    for tags in range_tags(keys, partitions):
        failed = instance.create_run_for_job(
            context.job_def,
            run_config=run.run_config,
            # Created as failed: if this process is killed now, the run does not stay in progress.
            status=dg.DagsterRunStatus.FAILURE,
            tags={
                **tags,
                BATCH_RUN: run.run_id,
                **({RETRY_RUN: "true"} if retry else {}),
                # A backfill counts its failed runs by this tag.
                **{name: value for name, value in run.tags.items() if name == BACKFILL_ID_TAG},
            },
            asset_selection={context.asset_key},
            remote_job_origin=run.remote_job_origin,
            job_code_origin=run.job_code_origin,
        )
        event = _step_failure(step_context, failure)
        instance.report_dagster_event(event, failed.run_id)
        instance.report_run_failed(
            failed,
            f"{failure.description}\nIt failed in run {run.run_id}, which continued with the other recordings.",
            JobFailureData(None, RunFailureReason.STEP_FAILURE, event),
        )
        context.log.error(f"recorded as failed run {failed.run_id}: {', '.join(keys)}")


def is_requested_by_a_person(run: dg.DagsterRun) -> bool:
    """Return whether a person launched the run, and not the sensor, the automation or a retry."""
    return not any(run.tags.get(tag) for tag in UNATTENDED)


def request_run_retry(instance: dg.DagsterInstance, run_id: str, step: ExecutionStep) -> None:
    """Tag the run for a retry if `is_first(step)`."""
    if is_first(step):
        instance.add_run_tags(run_id, {RETRY_RUN: "true"})


def is_first(step: ExecutionStep) -> bool:
    """Return whether no earlier step was part of the run.

    Otherwise declarative automation continues from the earlier step's result, and a retry of the run would do the same
    work a second time.
    """
    return not step.get_execution_dependency_keys()


def _selected(context: dg.AssetExecutionContext) -> set[dg.AssetKey]:
    return set(context.job_def.asset_layer.selected_asset_keys)


def _step_failure(context: StepExecutionContext, failure: dg.Failure) -> DagsterEvent:
    """Return a failure event of this step that can be reported to another run."""
    user_failure = UserFailureData("intentional-failure", failure.description, failure.metadata)  # type: ignore[no-untyped-call]
    data = StepFailureData(None, user_failure, ErrorSource.USER_CODE_ERROR)  # type: ignore[no-untyped-call]
    return DagsterEvent(
        event_type_value=dg.DagsterEventType.STEP_FAILURE.value,
        job_name=context.job_name,
        step_handle=context.step.handle,
        node_handle=context.step.node_handle,
        step_kind_value=context.step.kind.value,
        event_specific_data=data,
        message=f'Execution of step "{context.step.key}" failed.',
    )
