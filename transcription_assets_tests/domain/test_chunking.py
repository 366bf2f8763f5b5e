from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.domain.chunking import (
    CHUNK_S,
    DISPLAY_PAUSE_S,
    Region,
    coverage,
    cut,
    find_gaps,
    merge_regions,
    pack,
)
from transcription_assets.domain.transcript import Word

CLOSE = 1e-6
lengths = st.floats(0.1, 90.0)
pauses = st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 2.9, 3.0, 3.1, 20.0])


@st.composite
def regions(draw: st.DrawFn) -> list[Region]:
    """Generate ordered regions that do not overlap; some are adjacent."""
    clock, found = 0.0, []
    for pause, length in draw(st.lists(st.tuples(pauses, lengths), max_size=25)):
        start = clock + pause
        clock = start + length
        found.append(Region(start, clock))
    return found


@st.composite
def words(draw: st.DrawFn) -> list[Word]:
    clock, found = 0.0, []
    for pause, length in draw(st.lists(st.tuples(pauses, st.floats(0.0, 2.0)), max_size=25)):
        start = clock + pause
        clock = start + length
        found.append(Word(start, clock, " word", 0.9))
    return found


def voiced(found: list[Region]) -> float:
    return sum(region.length for region in found)


@given(regions())
@settings(max_examples=200)
def test_chunks_are_ordered_and_fit_the_whisper_window(found: list[Region]) -> None:
    chunks = pack(found)
    assert all(0 < chunk.length <= CHUNK_S + CLOSE for chunk in chunks)
    assert all(left.end <= right.start + CLOSE for left, right in pairwise(chunks))


@given(regions())
@settings(max_examples=200)
def test_every_voiced_second_is_in_exactly_one_chunk(found: list[Region]) -> None:
    chunks = pack(found)
    inside = sum(
        max(0.0, min(chunk.end, region.end) - max(chunk.start, region.start)) for chunk in chunks for region in found
    )
    assert inside == pytest.approx(voiced(found), abs=1e-4)


@given(regions())
@settings(max_examples=200)
def test_no_chunk_spans_a_long_pause(found: list[Region]) -> None:
    for chunk in pack(found, pause_s=3.0):
        within = [region for region in found if region.end > chunk.start + CLOSE and region.start < chunk.end - CLOSE]
        assert all(right.start - left.end <= 3.0 + CLOSE for left, right in pairwise(within))


@given(regions())
@settings(max_examples=200)
def test_a_region_that_fits_a_chunk_is_never_cut(found: list[Region]) -> None:
    edges = {edge for chunk in pack(found) for edge in (chunk.start, chunk.end)}
    for region in found:
        if region.length <= CHUNK_S:
            assert not any(region.start + CLOSE < edge < region.end - CLOSE for edge in edges)


def test_short_regions_share_a_chunk_and_long_ones_are_cut_evenly() -> None:
    assert pack([Region(0, 10), Region(11, 20), Region(21, 29)]) == [Region(0, 29)]
    assert pack([Region(0, 10), Region(11, 20), Region(21, 31)]) == [Region(0, 20), Region(21, 31)]
    assert pack([Region(0, 75)]) == [Region(0, 25), Region(25, 50), Region(50, 75)]
    assert pack([]) == []


@given(regions(), st.floats(0.0, 1.0))
@settings(max_examples=200)
def test_a_window_ends_in_a_pause_if_there_is_one(found: list[Region], share: float) -> None:
    length = (found[-1].end if found else 0.0) + 5.0
    earliest = share * length
    end = cut(found, length, earliest)
    assert 0 < end <= length
    if end < length:
        assert end >= earliest
        assert not any(region.start < end < region.end for region in found)


def test_a_window_ends_in_the_last_pause_after_its_minimum_length() -> None:
    spoken = [Region(0, 4), Region(5, 8), Region(8.5, 10)]
    assert cut(spoken, 10.0, earliest_s=6.0) == pytest.approx(8.25)
    assert cut(spoken, 10.0, earliest_s=9.0) == 10.0, "without a pause the window ends at its full length"
    assert cut(spoken, 12.0, earliest_s=9.0) == 11.0, "the trailing silence counts as a pause"
    assert cut([], 10.0, earliest_s=8.0) == 10.0


@given(regions(), words())
@settings(max_examples=200)
def test_the_largest_gap_is_bounded_by_the_uncovered_speech(found: list[Region], spoken: list[Word]) -> None:
    audit = coverage(found, spoken)
    total, missing = voiced(found), voiced(found) - audit.covered_seconds
    assert audit.vad_seconds == pytest.approx(total, abs=1e-3)
    assert -2e-3 <= missing <= total + 2e-3
    short_pauses = voiced(merge_regions(found, DISPLAY_PAUSE_S)) - total
    breaths = 2 * 0.5
    assert audit.largest_gap <= missing + short_pauses + breaths + 2e-3
    assert (audit.largest_gap > 0) or missing == pytest.approx(0, abs=2e-3)


@given(regions(), words())
@settings(max_examples=100)
def test_more_words_never_reduce_coverage(found: list[Region], spoken: list[Word]) -> None:
    fewer, all_of_them = coverage(found, spoken[::2]), coverage(found, spoken)
    assert all_of_them.covered_seconds >= fewer.covered_seconds - 2e-3
    assert all_of_them.largest_gap <= fewer.largest_gap + 2e-3


def test_speech_without_words_is_uncovered_and_reported_as_gaps() -> None:
    audit = coverage([Region(0, 10), Region(20, 24)], [Word(0.0, 2.0, " a", 0.9), Word(5.0, 10.0, " b", 0.9)])
    assert (audit.vad_seconds, audit.covered_seconds, audit.largest_gap) == (14.0, 8.0, 4.0)
    assert audit.gaps == ((2.0, 5.0), (20.0, 24.0))
    assert coverage([Region(0, 10)], []).covered_seconds == 0.0
    assert coverage([], []).coverage == 1.0, "without speech the coverage is complete"


def test_a_gap_over_several_short_regions_is_one_gap() -> None:
    """The detector splits speech at each breath, so several short uncovered regions can be one long gap."""
    found = [Region(0.0, 4.0), Region(4.0, 5.9), Region(6.2, 8.0), Region(8.0, 9.8), Region(9.8, 14.0)]
    spoken = [Word(0.0, 4.0, " a", 0.9), Word(10.0, 14.0, " b", 0.9)]
    audit = coverage(found, spoken)
    assert audit.gaps == ((4.0, 10.0),)
    assert audit.largest_gap == 6.0
    assert audit.vad_seconds - audit.covered_seconds == pytest.approx(4.7), "a pause inside the gap is not voiced"
    assert find_gaps(found, spoken) == [Region(4.0, 10.0)]


def test_only_more_than_two_seconds_without_words_are_a_gap() -> None:
    """A tolerance of 0.5 s at each end must not hide a gap of almost three seconds."""
    for pause, marked in ((2.0, 0), (2.1, 1), (2.9, 1)):
        spoken = [Word(0.0, 3.0, " a", 0.9), Word(3.0 + pause, 9.0, " b", 0.9)]
        assert len(coverage([Region(0.0, 9.0)], spoken).gaps) == marked
