"""Selected rows: which filters are evaluated once, and that searches find the same rows as with the filter."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.search import retrieval, selection
from transcription_assets.search.filters import Filters
from transcription_assets.search.index import MOST_SELECTIONS, Index
from transcription_assets.search.query import Mode, Query
from transcription_assets.search.searcher import Searcher
from transcription_assets.search.selection import Selection, is_worth_reading, may_be_read
from transcription_assets_tests.search.talks import SAID, ThemeEncoder, fill

ROWS = st.integers(0, 40)


@given(st.sets(ROWS, min_size=1), st.dictionaries(ROWS, st.floats(0, 1)))
def test_selected_rows_keep_order_and_measure(chosen: set[int], found: dict[int, float]) -> None:
    one = Selection("kind = 'speech'", np.array(sorted(chosen), np.uint64), 0.5)
    assert list(one.selected(found).items()) == [(row, value) for row, value in found.items() if row in chosen]


def test_query_without_filter_returns_more_for_fewer_selected() -> None:
    rows = np.arange(10, dtype=np.uint64)
    assert Selection("x", rows, 0.5).returned(24) == 96
    assert Selection("x", rows, 0.02).returned(24) == 2400
    assert Selection("x", rows, 0.02).returned(51) is None
    assert Selection("x").returned(24) is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(prefix="video/"), True),
        (Filters(sources=("radio",)), True),
        (Filters(since=date(2024, 1, 1)), True),
        (Filters(until=date(2024, 1, 1)), True),
        (Filters(shortest_s=0.0), True),
        (Filters(longest_s=60.0), True),
        (Filters(languages=("de",), kinds=("speech",), speakers=("Ada",), recording="video/a.mp4"), False),
    ],
)
def test_rows_are_read_only_for_ranges(filters: Filters, *, expected: bool) -> None:
    assert may_be_read(filters, 1_000_000) is expected
    assert not may_be_read(filters, 10_000)


@pytest.mark.parametrize(("count", "expected"), [(0, False), (9_999, False), (10_000, True), (250_001, False)])
def test_few_and_very_many_rows_are_not_read(count: int, *, expected: bool) -> None:
    assert is_worth_reading(count, 1_000_000) is expected


FILTERS = (
    Filters(prefix="video/talks/"),
    Filters(prefix="video/talks/", languages=("en",)),
    Filters(longest_s=40.0),
    Filters(since=date(2024, 5, 17)),
    Filters(prefix="nothing/"),
)


@pytest.mark.parametrize("margin", [2.0, 0.1])
def test_search_finds_the_same_as_with_the_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, margin: float
) -> None:
    table = Index(str(tmp_path))
    fill(table, *SAID)
    table.maintain()
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    queries = [
        Query(text, mode=mode, filters=filters)
        for text in ("Bergen", "sea of bread", '"nine hours"', "captan", "nobody slept")
        for mode in Mode
        for filters in FILTERS
    ]
    expected = [searcher.search(query) for query in queries]
    # With a margin below 1 too few rows are returned, and the filter is evaluated after all.
    monkeypatch.setattr(selection, "MARGIN", margin)
    monkeypatch.setattr(selection, "FEWEST_PASSAGES", 1)
    table.forget()
    assert [searcher.search(query) for query in queries] == expected


def test_rows_of_recent_filters_are_read_once_for_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "FEWEST_PASSAGES", 1)
    read, select = list[Filters](), retrieval.select

    async def counted(pinned: retrieval.Snapshot, filters: Filters) -> Selection:
        read.append(filters)
        return await select(pinned, filters)

    monkeypatch.setattr(retrieval, "select", counted)
    table = Index(str(tmp_path))
    fill(table, *SAID)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    first, *others = (Filters(prefix="video/talks/", shortest_s=float(number)) for number in range(MOST_SELECTIONS + 1))
    for _ in range(2):
        assert searcher.search(Query("Bergen", filters=first)).hits
    assert read == [first]
    for filters in (*others, first):
        searcher.search(Query("Bergen", filters=filters))
    assert read == [first, *others, first]
    fill(table, *SAID)
    searcher.search(Query("Bergen", filters=first))
    assert read[-1] == first
    assert len(read) == MOST_SELECTIONS + 3
