"""The rows that filters select, so that a costly filter is evaluated once instead of by each query. Pure.

LanceDB evaluates a filter for each query of a search. A range over an ordered index (a prefix of the media key, dates,
durations) takes 10 to 15 ms each time in a million rows. So the ids of the rows in such a range are read once for a
version of a table, and the queries, of which only ids are read, return more rows than are wanted, without a filter: the
best of them that are selected are the same rows, except which of several with the same BM25 is the last one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcription_assets.search.filters import Filters

FEWEST_PASSAGES = 20_000
"""In a smaller table a filter takes about as long as anything else."""
LEAST_SHARE = 0.01
"""If fewer of the rows are selected, a query without the filter would have to return too many others."""
MOST_SELECTED = 250_000
"""Reading more ids takes longer than evaluating the filter for all queries of several searches."""
MOST_RETURNED = 5_000
MARGIN = 2.0
"""A query returns MARGIN times the rows among which the wanted number are selected on average."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter as an SQL expression, None if all rows are selected.

    `rows` are the sorted ids of the selected rows if they were read, else None; `share` is their part of the table.
    """

    where: str | None = None
    rows: NDArray[np.uint64] | None = None
    share: float = 1.0

    def returned(self, most: int) -> int | None:
        """Return how many rows a query without the filter has to return, None if it should have the filter."""
        if self.rows is None:
            return None
        returned = math.ceil(MARGIN * most / self.share)
        return returned if returned <= MOST_RETURNED else None

    def selected(self, found: Mapping[int, float]) -> dict[int, float]:
        """Return those of the rows found that are selected, in the same order."""
        if self.rows is None or not found:
            return dict(found)
        ids = np.fromiter(found, np.uint64, len(found))
        places = np.minimum(np.searchsorted(self.rows, ids), len(self.rows) - 1)
        is_selected = (self.rows[places] == ids).tolist()
        return {row: measure for (row, measure), kept in zip(found.items(), is_selected, strict=True) if kept}


def may_be_read(filters: Filters, passages: int) -> bool:
    """Return whether the ids of the selected rows may be worth reading, in a table of so many passages."""
    has_range = any(
        value is not None for value in (filters.since, filters.until, filters.shortest_s, filters.longest_s)
    )
    return passages >= FEWEST_PASSAGES and (has_range or bool(filters.prefix or filters.sources))


def is_worth_reading(count: int, passages: int) -> bool:
    """Return whether to read the ids of this number of selected rows."""
    return LEAST_SHARE * passages <= count <= MOST_SELECTED
