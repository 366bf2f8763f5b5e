"""What the sensor knows: the listing it has dealt with, and what changed since. Pure decisions on frames.

A change is a difference of (key, etag), never of a time: a store's times do not say when an object appeared.
Every frame here has the columns of `SCHEMA`, one row a recording, each key once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from io import BytesIO

import polars as pl

from transcription_assets.failures import PermanentFailure

SCHEMA = pl.Schema(
    {
        "key": pl.String(),
        "etag": pl.String(),
        "size": pl.Int64(),
        "last_modified": pl.Datetime("us", "UTC"),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Listed and not known; known with another etag (as listed now); known and not listed (as known)."""

    new: pl.DataFrame
    changed: pl.DataFrame
    gone: pl.DataFrame


def difference(listing: pl.DataFrame, known: pl.DataFrame) -> Difference:
    """What changed between the known state and the listing, each part in the order of its frame."""
    other = listing.join(known, on=["key", "etag"], how="anti", maintain_order="left")
    return Difference(
        new=other.join(known, on="key", how="anti", maintain_order="left"),
        changed=other.join(known, on="key", how="semi", maintain_order="left"),
        gone=known.join(listing, on="key", how="anti", maintain_order="left"),
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

    The time is part of it because an old version that is put back has its old etag and has to run again.
    """
    return _digest(rows, ["key", "etag", "last_modified"])[:32]


def removable(gone: pl.DataFrame, known: pl.DataFrame, *, complete: bool, max_share: float) -> list[str]:
    """The keys that may be removed: all that are gone, or none.

    None where the listing was not complete, and where more than `max_share` (0 to 1) of what is known has
    gone at once: then it is rather a wrong folder or prefix.
    """
    if not complete or gone.height > max_share * known.height:
        return []
    return gone["key"].to_list()


def _digest(rows: pl.DataFrame, columns: list[str]) -> str:
    digest = sha256()
    for row in rows.select(pl.col(columns).to_physical()).iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()
