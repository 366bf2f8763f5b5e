"""The inbox sensor: a thin shell around the decisions in `catalog`.

A tick reads the snapshot that the cursor names, lists the inbox, takes the difference, and returns partitions, run
requests and the name of the next snapshot together. If the tick dies the old name stands, the same difference is
found again, and run keys stop a second run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from transcription_assets import catalog, keys
from transcription_assets.defs.jobs import process_recordings
from transcription_assets.defs.partitions import recordings
from transcription_assets.defs.resources import StoreResource
from transcription_assets.failures import NotFound, TranscriptionError
from transcription_assets.storage import Store

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class Pace:
    """How much one tick does, so that it ends well within the daemon's minute."""

    interval_s: int
    settle_s: float
    max_adds: int
    run_max_files: int
    run_max_bytes: int
    remove_gone: bool
    remove_max_share: float


def inbox_sensor(pace: Pace) -> dg.SensorDefinition:
    """The sensor at this pace."""

    @dg.sensor(
        job=process_recordings,
        minimum_interval_seconds=pace.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for new and changed recordings in the inbox and starts the graph for them; a file that is "
        "still being copied waits.",
    )
    def inbox_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult | dg.SkipReason:
        place = store.open()
        known = _known(place, context.cursor)
        listing = place.list_media()
        found = catalog.difference(listing.frame, known)
        todo, growing = _settled(place, _oldest_first(found), pace.settle_s)
        taken = todo.head(pace.max_adds)
        removed = _removed(context, store, found.gone, known, pace)
        message = _message(
            taken=taken, todo=todo, growing=growing, gone=found.gone, removed=removed, ignored=listing.ignored
        )
        if taken.is_empty() and removed.is_empty():
            return dg.SkipReason(message)
        context.log.info(message)
        snapshot = catalog.advance(known, taken, removed)
        name = catalog.snapshot_name(snapshot)
        place.write(name, catalog.to_bytes(snapshot))
        existing = context.instance.get_dynamic_partitions(str(recordings.name))
        held = set(existing)
        added = [key for key in taken["key"] if key not in held]
        return dg.SensorResult(
            run_requests=list(_run_requests(taken, [*existing, *added], pace)),
            dynamic_partitions_requests=[
                *([recordings.build_add_request(added)] if added else []),
                *([recordings.build_delete_request(removed["key"].to_list())] if removed.height else []),
            ],
            cursor=name,
        )

    return inbox_sensor


def _known(place: Store, cursor: str | None) -> pl.DataFrame:
    if not cursor:
        return pl.DataFrame(schema=catalog.SCHEMA)
    try:
        return catalog.from_bytes(place.read(cursor))
    except NotFound as error:
        # Everything is looked at again: what is done already is found done, so this costs time, not work.
        raise TranscriptionError(
            f"the catalogue {cursor} is gone from the store: reset the sensor's cursor in the UI to start afresh"
        ) from error


def _oldest_first(found: catalog.Difference) -> pl.DataFrame:
    """What has to be done, in an order that later arrivals do not disturb: a tick that died is repeated as it was."""
    return pl.concat([found.new, found.changed]).sort("last_modified", "key")


def _settled(place: Store, todo: pl.DataFrame, settle_s: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """An object appears in a bucket whole; only a file in a folder can still be growing."""
    return catalog.settled(todo, datetime.now(UTC), settle_s if place.is_local else 0.0)


def _run_requests(taken: pl.DataFrame, order: Sequence[str], pace: Pace) -> Iterator[dg.RunRequest]:
    position = {key: number for number, key in enumerate(order)}
    for batch in catalog.batches(taken, pace.run_max_files, pace.run_max_bytes):
        for piece in contiguous(batch, position):
            rows = taken.filter(pl.col("key").is_in(piece))
            tags = {RANGE_START: piece[0], RANGE_END: piece[-1]}
            if len(piece) == 1:
                yield dg.RunRequest(run_key=catalog.run_key(rows), partition_key=piece[0])
            else:
                yield dg.RunRequest(run_key=catalog.run_key(rows), tags=tags)


def contiguous(batch: Sequence[str], position: dict[str, int]) -> list[list[str]]:
    """The batch in pieces that lie side by side in the partitions' own order, since a range means all between."""
    pieces: list[list[str]] = []
    for key in sorted(batch, key=position.__getitem__):
        if pieces and position[key] == position[pieces[-1][-1]] + 1:
            pieces[-1].append(key)
        else:
            pieces.append([key])
    return pieces


def _removed(
    context: dg.SensorEvaluationContext,
    store: StoreResource,
    gone: pl.DataFrame,
    known: pl.DataFrame,
    pace: Pace,
) -> pl.DataFrame:
    """Take what is gone out of the store and the search table, where that is turned on; returns what was taken out."""
    if gone.is_empty() or not pace.remove_gone:
        return gone.clear()
    removable = catalog.removable(gone, known, complete=True, max_share=pace.remove_max_share)
    if not removable:
        context.log.warning(
            f"{gone.height} of {known.height} recordings are gone from the inbox: more than "
            "TRANSCRIPTION_REMOVE_MAX_SHARE allows at once, so nothing was removed. Is the right folder mounted?"
        )
        return gone.clear()
    removed = gone.head(pace.max_adds)
    place = store.open()
    for key in removed["key"]:
        place.delete(*keys.artefacts(key))
    store.table().remove(removed["key"].to_list())
    return removed


def _message(
    *,
    taken: pl.DataFrame,
    todo: pl.DataFrame,
    growing: pl.DataFrame,
    gone: pl.DataFrame,
    removed: pl.DataFrame,
    ignored: int,
) -> str:
    parts = [
        f"{taken.height} recordings requested" if taken.height else "nothing new",
        f"{todo.height - taken.height} more wait for the next tick" if todo.height > taken.height else "",
        f"{growing.height} still being copied" if growing.height else "",
        f"{gone.height} gone from the inbox" if gone.height else "",
        f"{removed.height} removed" if removed.height else "",
        f"{ignored} files ignored, they are no recordings" if ignored else "",
    ]
    return "; ".join(part for part in parts if part)
