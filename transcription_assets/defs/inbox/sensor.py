"""The inbox sensor, built on the pure decisions in `domain/inbox_diff.py`.

A tick reads the snapshot that the cursor names, reads the inbox, computes the difference, and returns partitions, run
requests and the name of the next snapshot together. If a tick dies, the cursor is unchanged and the next tick finds the
same difference; run keys prevent a second run of the same batch, and recordings of active runs wait until those finish.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl

from transcription_assets.defs.inbox.listing import InboxView, list_inbox, read_notifications
from transcription_assets.defs.inbox.queue import Queue
from transcription_assets.defs.jobs import PROCESS, recordings
from transcription_assets.defs.resources import StoreResource
from transcription_assets.defs.runs import RANGE_END, RANGE_START, ActiveRuns, find_active_runs, last_ended_run
from transcription_assets.domain import inbox_diff, media_keys
from transcription_assets.errors import NotFound, TranscriptionError
from transcription_assets.storage import Store

PARTITIONS_MOST = 100_000
"""Number of partitions of one asset that Dagster is designed for."""
PARTITIONS_MANY = 80_000
RUNS_A_TICK = 40
"""Run requests of one tick; the daemon takes a little more than 0.1 s to submit each."""
SNAPSHOTS_KEPT = 10


@dataclass(frozen=True, slots=True)
class SensorLimits:
    """Limits of one tick, so that it ends well within the daemon's time limit of a minute.

    With `queue_url`, a tick reads only the objects that the queue's messages name, with a complete listing every
    `list_every_s` seconds.
    """

    interval_s: int
    settle_s: float
    max_adds: int
    run_max_files: int
    run_max_bytes: int
    remove_gone: bool
    remove_max_share: float
    max_runs: int = 100
    queue_url: str = ""
    list_every_s: int = 3600


@dataclass(frozen=True, slots=True, eq=False)
class TickPlan:
    """The requests of one tick, and counts of the work that has to wait."""

    runs: list[pl.DataFrame]
    taken: pl.DataFrame
    added: list[str]
    removed: pl.DataFrame
    partitions: int
    todo: int
    busy: int
    no_room: int


def inbox_sensor(pace: SensorLimits) -> dg.SensorDefinition:
    """Create the sensor.

    Raises:
        TranscriptionError: From its evaluation: the store, the queue or the snapshot cannot be read.

    """

    @dg.sensor(
        job_name=PROCESS,
        minimum_interval_seconds=pace.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Detects new and changed recordings in the inbox and requests runs for them, once their files "
        "are complete.",
    )
    def inbox_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
        place, cursor = store.open(), inbox_diff.Cursor.parse(context.cursor)
        known = _known(place, cursor.snapshot)
        active = find_active_runs(context.instance, pace.max_runs)
        view = _read_inbox(place, known, cursor, pace, free=pace.max_runs - len(active.runs))
        found = inbox_diff.compare(view.frame, view.known)
        todo, growing = _settled(place, _oldest_first(found), pace.settle_s)
        plan = _plan(context.instance, todo, _removable(context, found.gone, known, view, pace), active, pace)
        message = _message(plan, view, growing=growing.height, gone=found.gone.height, full=_full(active, pace))
        if plan.partitions + len(plan.added) >= PARTITIONS_MANY:
            context.log.warning(_partition_warning(plan))
        all_taken = view.complete and plan.todo == plan.taken.height and growing.is_empty()
        listed = datetime.now(UTC) if all_taken and pace.queue_url else cursor.listed
        if plan.taken.is_empty() and plan.removed.is_empty():
            return dg.SensorResult(skip_reason=message, cursor=str(replace(cursor, listed=listed)))
        context.log.info(message)
        _remove_artefacts(store, plan.removed)
        snapshot = inbox_diff.advance(known, plan.taken, plan.removed)
        name = inbox_diff.snapshot_name(snapshot)
        reset = cursor.reset if cursor.snapshot else last_ended_run(context.instance)
        place.write(name, inbox_diff.to_bytes(snapshot))
        _clean(place, keep={name, cursor.snapshot})
        return dg.SensorResult(
            run_requests=[_run_request(rows, _before(rows, known, cursor, pace), reset) for rows in plan.runs],
            dynamic_partitions_requests=_partition_requests(plan),
            cursor=str(inbox_diff.Cursor(name, listed, reset)),
        )

    return inbox_sensor


def _known(place: Store, snapshot: str) -> pl.DataFrame:
    if not snapshot:
        return pl.DataFrame(schema=inbox_diff.SCHEMA)
    try:
        return inbox_diff.from_bytes(place.read(snapshot))
    except NotFound as error:
        # After a reset, the steps reuse the results of all recordings that are done.
        hint = "reset the sensor's cursor in the UI to start from an empty snapshot"
        raise TranscriptionError(f"snapshot {snapshot} is missing in the store: {hint}", hint=hint) from error


def _read_inbox(
    place: Store, known: pl.DataFrame, cursor: inbox_diff.Cursor, pace: SensorLimits, *, free: int
) -> InboxView:
    """Return the whole inbox or, between two complete listings, the recordings that messages in the queue name."""
    age = datetime.now(UTC) - cursor.listed if cursor.listed else timedelta.max
    if not pace.queue_url or age >= timedelta(seconds=pace.list_every_s):
        return list_inbox(place, known)
    if free <= 0:  # no run can be requested, and the queue counts how often a message is received
        return InboxView(known.clear(), known.clear(), complete=False)
    queue = Queue(pace.queue_url)
    # Messages are invisible until the next tick, which finds the recordings of this one known and deletes them.
    view, served = read_notifications(place, known, queue.receive(pace.max_adds, hidden_s=pace.interval_s))
    queue.delete(served)
    return view


def _oldest_first(found: inbox_diff.Difference) -> pl.DataFrame:
    """Return new and changed recordings in an order that later arrivals do not change: a tick can be repeated."""
    return pl.concat([found.new, found.changed]).sort("last_modified", "key")


def _settled(place: Store, todo: pl.DataFrame, settle_s: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off files that may still be growing; objects appear in a bucket complete."""
    return inbox_diff.split_settled(todo, datetime.now(UTC), settle_s if place.is_local else 0.0)


def _plan(
    instance: dg.DagsterInstance, todo: pl.DataFrame, removable: pl.DataFrame, active: ActiveRuns, pace: SensorLimits
) -> TickPlan:
    if todo.is_empty() and removable.is_empty():
        return TickPlan([], todo, [], removable, partitions=0, todo=0, busy=0, no_room=0)
    order = instance.get_dynamic_partitions(str(recordings.name))
    busy = active.keys(order)
    waiting = inbox_diff.exclude_keys(todo, busy)
    fitting = inbox_diff.fit_partitions(waiting, order, PARTITIONS_MOST)
    chosen = fitting.head(pace.max_adds)
    extended = [*order, *inbox_diff.exclude_keys(chosen, order)["key"]]
    runs = inbox_diff.runs(chosen, extended, pace.run_max_files, pace.run_max_bytes)
    runs = runs[: max(0, min(RUNS_A_TICK, pace.max_runs - len(active.runs)))]
    taken = pl.concat([todo.clear(), *runs])
    return TickPlan(
        runs=runs,
        taken=taken,
        added=inbox_diff.exclude_keys(taken, order)["key"].to_list(),
        removed=inbox_diff.exclude_keys(removable, busy).head(pace.max_adds),
        partitions=len(order),
        todo=todo.height,
        busy=todo.height - waiting.height,
        no_room=waiting.height - fitting.height,
    )


def _before(rows: pl.DataFrame, known: pl.DataFrame, cursor: inbox_diff.Cursor, pace: SensorLimits) -> str:
    """Return the versions that these recordings replace, as a part of the run key.

    Removed recordings leave no version to replace, so with `remove_gone` it is the whole snapshot.
    """
    if pace.remove_gone:
        return cursor.snapshot
    return inbox_diff.run_key(known.join(rows, on="key", how="semi").sort("key"))


def _run_request(rows: pl.DataFrame, before: str, reset: str) -> dg.RunRequest:
    """Request a run; the run key is the same if a tick is repeated, and another if an old version was restored."""
    name = " ".join(filter(None, [inbox_diff.run_key(rows), before, reset]))
    if rows.height == 1:
        return dg.RunRequest(run_key=name, partition_key=rows["key"][0])
    return dg.RunRequest(run_key=name, tags={RANGE_START: rows["key"][0], RANGE_END: rows["key"][-1]})


def _partition_requests(
    plan: TickPlan,
) -> Sequence[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    return [
        *([recordings.build_add_request(plan.added)] if plan.added else []),
        *([recordings.build_delete_request(plan.removed["key"].to_list())] if plan.removed.height else []),
    ]


def _removable(
    context: dg.SensorEvaluationContext, gone: pl.DataFrame, known: pl.DataFrame, view: InboxView, pace: SensorLimits
) -> pl.DataFrame:
    """Return the recordings to remove with their artefacts, none unless `remove_gone` is set."""
    if gone.is_empty() or not view.complete or not pace.remove_gone:
        return gone.clear()
    if inbox_diff.removable(gone, known, view.frame, max_share=pace.remove_max_share):
        return gone
    context.log.warning(
        f"{gone.height} of {known.height} recordings are missing in the inbox: more than TRANSCRIPTION_REMOVE_MAX_SHARE"
        " allows per tick, or the inbox is empty, so nothing was removed. Check that the right folder is mounted."
    )
    return gone.clear()


def _remove_artefacts(store: StoreResource, removed: pl.DataFrame) -> None:
    """Delete the artefacts and the rows of the removed recordings."""
    if removed.is_empty():
        return
    place = store.open()
    for key in removed["key"]:
        folders = (media_keys.checkpoints(key), media_keys.slide_pictures(key))
        place.delete(*media_keys.artefacts(key), *(path for folder in folders for path in place.list(folder)))
    store.table().remove(removed["key"].to_list())
    store.voiceprints().replace([], removed["key"].to_list())


def _clean(place: Store, keep: set[str]) -> None:
    """Delete old snapshots, except the ones that the current and the next cursor name."""
    for name in list(place.oldest_first("catalog/"))[:-SNAPSHOTS_KEPT]:
        if name not in keep:
            place.delete(name)


def _full(active: ActiveRuns, pace: SensorLimits) -> bool:
    return len(active.runs) >= pace.max_runs


def _partition_warning(plan: TickPlan) -> str:
    return (
        f"{plan.partitions + len(plan.added)} partitions exist; no more than {PARTITIONS_MOST} are added, the number"
        " that Dagster is designed for. See docs/how-to/scale.md"
    )


def _message(plan: TickPlan, view: InboxView, *, growing: int, gone: int, full: bool) -> str:
    taken, removed, more = plan.taken.height, plan.removed.height, plan.todo - plan.taken.height
    parts = [
        f"{taken} recordings requested" if taken else "nothing new" if not more else "nothing requested",
        f"{more} more waiting for the next tick" if more else "",
        f"{plan.busy} of them waiting for an active run of an older version" if plan.busy else "",
        f"{plan.no_room} of them over the limit of {PARTITIONS_MOST} partitions" if plan.no_room else "",
        "limit of active runs reached (TRANSCRIPTION_SENSOR_MAX_RUNS)" if full else "",
        f"{growing} still being copied" if growing else "",
        f"{gone} missing in the inbox" if gone else "",
        f"{removed} removed" if removed else "",
        f"{view.unread} could not be read" if view.unread else "",
        media_keys.ignored_files(view.ignored),
    ]
    return "; ".join(part for part in parts if part)
