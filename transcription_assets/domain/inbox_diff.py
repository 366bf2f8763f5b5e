"""The catalogue of the sensor: the recordings that it knows, and the difference to a new listing. Pure functions.

A change is a difference of (key, etag), never of a time, since stores do not record when an object appeared.
All data frames have the columns of `SCHEMA`, one row for each recording, and unique keys.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from typing import Self

import polars as pl

from transcription_assets.domain.media_keys import SUFFIXES, encode
from transcription_assets.errors import PermanentFailure

SCHEMA = pl.Schema(
    {
        "key": pl.String(),
        "etag": pl.String(),
        "size": pl.Int64(),
        "last_modified": pl.Datetime("us", "UTC"),
    }
)


# Matches every name that `media_keys.encode` changes, and a few more; only these are encoded one by one in Python.
_ODD = (
    r"""[%,"'*\\\[\]{}<>\x00-\x1f\x7f-\x9f\u2028\u2029]|\.\.\."""
    r"""|(?:^|/)[\s.\x{feff}/]|[\s.\x{feff}](?:/|$)|/$"""
)


def recordings(objects: pl.DataFrame) -> pl.DataFrame:
    """Return the recordings among a store's objects (name, etag, size, last_modified), with media keys."""
    name = pl.col("name")
    suffix = name.str.extract(r"[^/](\.[^./]*)$").str.to_lowercase()
    media = objects.filter(suffix.is_in(sorted(SUFFIXES)) & ~name.str.contains(r"(?:^|/)\._[^/]*$"))
    odd = media.filter(name.str.contains(_ODD))["name"].unique().to_list()
    key = name.replace(odd, [encode(each) for each in odd])
    return media.select(key.alias("key"), "etag", "size", "last_modified").cast(SCHEMA)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Recordings that are new, changed (another ETag; as listed) or gone (as known)."""

    new: pl.DataFrame
    changed: pl.DataFrame
    gone: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Cursor:
    """State in the sensor's cursor: its snapshot's name, and when a complete listing last left no work.

    `reset` is the ID of the last run that ended before the cursor was reset. It is a part of later run keys, because
    Dagster does not start a second run with the same key. Serialised as `catalog/abc.parquet`, followed by
    ` 2026-03-01T12:00:00+00:00` and ` reset=0b3c…` if they are set.
    """

    snapshot: str = ""
    listed: datetime | None = None
    reset: str = ""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Parse the result of `str`; an invalid time is ignored."""
        rest, _, reset = (text or "").partition(" reset=")
        snapshot, _, listed = rest.partition(" ")
        try:
            return cls(snapshot, datetime.fromisoformat(listed).astimezone(UTC) if listed else None, reset)
        except ValueError:
            return cls(snapshot, reset=reset)

    def __str__(self) -> str:
        listed = f" {self.listed.isoformat(timespec='seconds')}" if self.listed else ""
        return self.snapshot + listed + (f" reset={self.reset}" if self.reset else "")


def compare(listing: pl.DataFrame, known: pl.DataFrame) -> Difference:
    """Compare the listing with the known state; each part is in the order of its frame."""
    other = listing.join(known, on=["key", "etag"], how="anti", maintain_order="left")
    return Difference(
        new=other.join(known, on="key", how="anti", maintain_order="left"),
        changed=other.join(known, on="key", how="semi", maintain_order="left"),
        gone=known.join(listing, on="key", how="anti", maintain_order="left"),
    )


def find_rewritten(listing: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Return objects whose ETag is known but whose modification time (in whole seconds) changed."""
    second = pl.col("last_modified").dt.truncate("1s")
    return (
        listing.join(known, on=["key", "etag"], how="semi")
        .with_columns(second)
        .join(known.with_columns(second), on=["key", "last_modified"], how="anti")
    )


def split_settled(listing: pl.DataFrame, now: datetime, settle_s: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a listing into ready files, and those modified within `settle_s` seconds, which may still be growing.

    A time more than `settle_s` after `now` comes from a wrong clock; such a file is ready, since it might otherwise
    wait for years.
    """
    growing = (pl.lit(now) - pl.col("last_modified")).abs() < timedelta(seconds=settle_s)
    return listing.filter(~growing), listing.filter(growing)


def batches(todo: pl.DataFrame, max_files: int, max_bytes: int) -> list[list[str]]:
    """Split the keys, in their order, into batches of at most `max_files` files and `max_bytes` bytes.

    A file larger than `max_bytes` gets a batch of its own.
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
    """Split `todo` into runs: consecutive partitions in `order`, cut further by `batches`.

    A run over a range covers every partition from its first to its last, so no others may lie between them.
    Every key of `todo` must be in `order`.
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


def fit_partitions(todo: pl.DataFrame, order: Sequence[str], limit: int) -> pl.DataFrame:
    """Return the rows that fit into `limit` partitions, `order` included; existing partitions always fit."""
    new = ~pl.col("key").is_in(pl.Series(order, dtype=pl.String()).implode())
    return todo.filter(~new | (new.cum_sum() <= limit - len(order)))


def exclude_keys(rows: pl.DataFrame, excluded: Collection[str]) -> pl.DataFrame:
    """Return the rows whose keys are not in `excluded`."""
    return rows.filter(~pl.col("key").is_in(list(excluded)))


def advance(known: pl.DataFrame, processed: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """Return the next known state, sorted by key: `processed` replaces known rows, `gone` is removed."""
    unchanged = known.join(pl.concat([processed, gone]), on="key", how="anti")
    return pl.concat([unchanged, processed]).sort("key")


def to_bytes(known: pl.DataFrame) -> bytes:
    """Serialise a snapshot as Parquet."""
    buffer = BytesIO()
    known.write_parquet(buffer)
    return buffer.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """Read a snapshot that `to_bytes` wrote.

    Raises:
        PermanentFailure: The data is not a snapshot.

    """
    try:
        return pl.read_parquet(BytesIO(data)).select(SCHEMA.names()).cast(SCHEMA)
    except pl.exceptions.PolarsError as error:
        hint = "reset the sensor's cursor in the UI (recordings that are done are not processed again)"
        raise PermanentFailure(f"damaged snapshot of the sensor ({error}); {hint}", hint=hint) from error


def snapshot_name(known: pl.DataFrame) -> str:
    """Return the path of a snapshot, derived from its content, so that a name always means the same state."""
    return f"catalog/{_digest(known.sort('key'), SCHEMA.names())[:16]}.parquet"


def run_key(rows: pl.DataFrame) -> str:
    """Return the run key of these recordings; the same versions have the same key.

    It includes the modification time, because an old version that is restored has its old ETag but must run again.
    Times are in whole seconds, because S3 returns no more for a single object but sometimes more in a listing.
    """
    return _digest(rows.with_columns(pl.col("last_modified").dt.truncate("1s")), ["key", "etag", "last_modified"])[:32]


def removable(gone: pl.DataFrame, known: pl.DataFrame, listing: pl.DataFrame, *, max_share: float) -> list[str]:
    """Return the keys that may be removed: all of `gone`, or none.

    None if more than `max_share` (0 to 1) of the known recordings are gone at once, or if the listing is empty: the
    folder or prefix is then probably wrong. A single recording may be removed even if that exceeds the share, unless
    `max_share` is 0. `listing` must be complete.
    """
    most = max(1.0, max_share * known.height) if max_share else 0.0
    return [] if listing.is_empty() or gone.height > most else gone["key"].to_list()


def _digest(rows: pl.DataFrame, columns: list[str]) -> str:
    digest = sha256()
    for row in rows.select(pl.col(columns).to_physical()).iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()
