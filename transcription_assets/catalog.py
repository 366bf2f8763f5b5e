"""What the sensor knows: the listing it has dealt with, and what changed since. Pure decisions on frames.

A change is a difference of (key, etag), never of a time: a store's times do not say when an object appeared.
Every frame here has the columns of `SCHEMA`, one row a recording, each key once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from typing import Self

import polars as pl

from transcription_assets.failures import PermanentFailure
from transcription_assets.keys import SUFFIXES, encode

SCHEMA = pl.Schema(
    {
        "key": pl.String(),
        "etag": pl.String(),
        "size": pl.Int64(),
        "last_modified": pl.Datetime("us", "UTC"),
    }
)


# Every name that `keys.encode` changes, and a few more: only these go through Python, one by one.
_ODD = (
    r"""[%,"'*\\\[\]{}<>\x00-\x1f\x7f-\x9f\u2028\u2029]|\.\.\."""
    r"""|(?:^|/)[\s.\x{feff}/]|[\s.\x{feff}](?:/|$)|/$"""
)


def recordings(objects: pl.DataFrame) -> pl.DataFrame:
    """Of a store's objects (name, etag, size, last_modified) those that `keys.is_media`, by media key."""
    name = pl.col("name")
    suffix = name.str.extract(r"[^/](\.[^./]*)$").str.to_lowercase()
    media = objects.filter(suffix.is_in(sorted(SUFFIXES)) & ~name.str.contains(r"(?:^|/)\._[^/]*$"))
    odd = media.filter(name.str.contains(_ODD))["name"].unique().to_list()
    key = name.replace(odd, [encode(each) for each in odd])
    return media.select(key.alias("key"), "etag", "size", "last_modified").cast(SCHEMA)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Listed and not known; known with another etag (as listed now); known and not listed (as known)."""

    new: pl.DataFrame
    changed: pl.DataFrame
    gone: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Cursor:
    """What the sensor's cursor holds: the name of its snapshot, and when everything was last listed with nothing left.

    `reset` names the last run that ended before the cursor was reset: the runs that are asked for since then have names
    of their own, for Dagster starts none of a name that it has seen. Written `catalog/abc.parquet`, then, where they
    are known, ` 2026-03-01T12:00:00+00:00` and ` reset=0b3c…`.
    """

    snapshot: str = ""
    listed: datetime | None = None
    reset: str = ""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read what `str` wrote; a time that cannot be read is no time."""
        rest, _, reset = (text or "").partition(" reset=")
        snapshot, _, listed = rest.partition(" ")
        try:
            return cls(snapshot, datetime.fromisoformat(listed).astimezone(UTC) if listed else None, reset)
        except ValueError:
            return cls(snapshot, reset=reset)

    def __str__(self) -> str:
        listed = f" {self.listed.isoformat(timespec='seconds')}" if self.listed else ""
        return self.snapshot + listed + (f" reset={self.reset}" if self.reset else "")


def difference(listing: pl.DataFrame, known: pl.DataFrame) -> Difference:
    """What changed between the known state and the listing, each part in the order of its frame."""
    other = listing.join(known, on=["key", "etag"], how="anti", maintain_order="left")
    return Difference(
        new=other.join(known, on="key", how="anti", maintain_order="left"),
        changed=other.join(known, on="key", how="semi", maintain_order="left"),
        gone=known.join(listing, on="key", how="anti", maintain_order="left"),
    )


def rewritten(listing: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """What is listed as it is known, but of another time (in whole seconds): put there once more."""
    second = pl.col("last_modified").dt.truncate("1s")
    return (
        listing.join(known, on=["key", "etag"], how="semi")
        .with_columns(second)
        .join(known.with_columns(second), on=["key", "last_modified"], how="anti")
    )


def settled(listing: pl.DataFrame, now: datetime, settle_s: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split into what is ready and what was modified within the last `settle_s` seconds: it may still grow.

    A time further ahead than that is a wrong clock: such a file is ready, or it would never be.
    """
    growing = (pl.lit(now) - pl.col("last_modified")).abs() < timedelta(seconds=settle_s)
    return listing.filter(~growing), listing.filter(growing)


def batches(todo: pl.DataFrame, max_files: int, max_bytes: int) -> list[list[str]]:
    """The keys in their order, cut into runs of at most `max_files` and `max_bytes`.

    A file that is larger than `max_bytes` has a batch of its own.
    """
    cut: list[list[str]] = []
    room = 0
    for key, size in todo.select("key", "size").iter_rows():
        if not cut or len(cut[-1]) >= max_files or size > room:
            cut.append([])
            room = max_bytes
        cut[-1].append(key)
        room -= size
    return cut


def runs(todo: pl.DataFrame, order: Sequence[str], max_files: int, max_bytes: int) -> list[pl.DataFrame]:
    """What has to be done, one frame a run: recordings side by side in `order`, the partitions' own, as `batches` cuts.

    A run over a range means every partition from its first to its last, so nothing else may lie between them.
    Every key of `todo` has to be in `order`.
    """
    position = pl.DataFrame({"key": order}, schema={"key": pl.String()}).with_row_index("position")
    rows = todo.join(position, on="key").sort("position")
    stretch = (pl.col("position").diff() != 1).fill_null(value=False).cum_sum()
    found = []
    for part in rows.with_columns(stretch.alias("stretch")).partition_by("stretch", maintain_order=True):
        first = 0
        for batch in batches(part, max_files, max_bytes):
            found.append(part.slice(first, len(batch)).select(SCHEMA.names()))
            first += len(batch)
    return found


def within(todo: pl.DataFrame, order: Sequence[str], limit: int) -> pl.DataFrame:
    """What can be done with at most `limit` partitions, of which `order` are there: always what needs no new one."""
    new = ~pl.col("key").is_in(pl.Series(order, dtype=pl.String()).implode())
    return todo.filter(~new | (new.cum_sum() <= limit - len(order)))


def without(rows: pl.DataFrame, held: Collection[str]) -> pl.DataFrame:
    """The rows with other keys than these."""
    return rows.filter(~pl.col("key").is_in(list(held)))


def advance(known: pl.DataFrame, taken: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """The next known state, sorted by key: `taken` as requested, without `gone`, the rest as it was."""
    kept = known.join(pl.concat([taken, gone]), on="key", how="anti")
    return pl.concat([kept, taken]).sort("key")


def to_bytes(known: pl.DataFrame) -> bytes:
    """The snapshot as Parquet."""
    buffer = BytesIO()
    known.write_parquet(buffer)
    return buffer.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """Read what `to_bytes` wrote; PermanentFailure where it is something else."""
    try:
        return pl.read_parquet(BytesIO(data)).select(SCHEMA.names()).cast(SCHEMA)
    except pl.exceptions.PolarsError as error:
        raise PermanentFailure(
            f"the sensor's snapshot cannot be read ({error}); reset the sensor's cursor: it then looks at"
            " every recording anew, and those that are done are not done again"
        ) from error


def snapshot_name(known: pl.DataFrame) -> str:
    """Where a snapshot lies: named after its content, so that a name always means the same state."""
    return f"catalog/{_digest(known.sort('key'), SCHEMA.names())[:16]}.parquet"


def run_key(rows: pl.DataFrame) -> str:
    """The name of the run over these recordings: the same versions have the same name.

    The time is part of it because an old version that is put back has its old etag and has to run again; in whole
    seconds, because S3 tells no more of one object, and sometimes more in a listing.
    """
    return _digest(rows.with_columns(pl.col("last_modified").dt.truncate("1s")), ["key", "etag", "last_modified"])[:32]


def removable(gone: pl.DataFrame, known: pl.DataFrame, listing: pl.DataFrame, *, max_share: float) -> list[str]:
    """Return the keys that may be removed: all of `gone`, or none.

    None where more than `max_share` (0 to 1) of what is known has gone at once, or where nothing is listed any more:
    then it is rather a wrong folder or prefix. A single one may always go, unless `max_share` is 0: of fewer than five
    it would be more than the default share. `listing` has to be complete.
    """
    most = max(1.0, max_share * known.height) if max_share else 0.0
    return [] if listing.is_empty() or gone.height > most else gone["key"].to_list()


def _digest(rows: pl.DataFrame, columns: list[str]) -> str:
    digest = sha256()
    for row in rows.select(pl.col(columns).to_physical()).iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()
