"""Active runs and their recordings: the sensor does not request a recording that is queued or being processed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import dagster as dg

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
    wanted, ranges = set(keys), []
    for _, group in groupby(order, wanted.__contains__):
        members = list(group)
        if members[0] not in wanted:
            continue
        single = len(members) == 1
        ranges.append({PARTITION: members[0]} if single else {RANGE_START: members[0], RANGE_END: members[-1]})
    return ranges


def _keys(tags: Mapping[str, str], order: Sequence[str], position: dict[str, int]) -> Sequence[str]:
    if PARTITION in tags:
        return [tags[PARTITION]]
    first, last = (position.get(tags.get(tag, "")) for tag in (RANGE_START, RANGE_END))
    return [] if first is None or last is None else order[first : last + 1]
