"""Values that a table can be filtered by."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl


@dataclass(frozen=True, slots=True)
class Facets:
    """Values to filter by, each with its number of recordings, the most frequent first."""

    recordings: int
    languages: Mapping[str, int]
    speakers: Mapping[str, int]
    collections: Mapping[str, int]
    since: date | None
    until: date | None


def facets(rows: pl.DataFrame) -> Facets:
    """Count the facets of a table's rows."""
    one = rows.group_by("media_key").first()
    collections = one["media_key"].str.extract(r"^([^/]+/(?:[^/]+/)?)").fill_null("")
    languages = rows.select("media_key", "language").unique()
    speakers = rows.select("media_key", "speakers").explode("speakers").unique()
    dates = one["recorded"]
    return Facets(
        recordings=one.height,
        languages=_counted(languages["language"]),
        speakers=_counted(speakers["speakers"]),
        collections=_counted(collections),
        since=dates.min(),  # type: ignore[arg-type]  # of a column of dates
        until=dates.max(),  # type: ignore[arg-type]
    )


def _counted(values: pl.Series) -> dict[str, int]:
    counted = values.drop_nulls().value_counts(sort=True, name="count")
    return {str(value): int(count) for value, count in counted.iter_rows() if value}
