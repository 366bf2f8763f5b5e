from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.domain import inbox_diff, media_keys
from transcription_assets.errors import PermanentFailure

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LISTED = {name: inbox_diff.SCHEMA[name] for name in ("key", "etag", "last_modified")}
NOTHING = pl.DataFrame(schema=inbox_diff.SCHEMA)


def frame(etags: dict[str, str], *, size: int = 1, modified: datetime = NOW) -> pl.DataFrame:
    rows = [(key, etag, size, modified) for key, etag in etags.items()]
    return pl.DataFrame(rows, inbox_diff.SCHEMA, orient="row")


def etags(rows: pl.DataFrame) -> dict[str, str]:
    return dict(rows.select("key", "etag").iter_rows())


inboxes = st.dictionaries(st.sampled_from([f"video/{c}.mp4" for c in "abcdefgh"]), st.sampled_from("123"))


@given(inboxes, inboxes)
@settings(max_examples=200)
def test_the_difference_contains_exactly_the_changes(now: dict[str, str], before: dict[str, str]) -> None:
    found = inbox_diff.compare(frame(now), frame(before))
    assert etags(found.new) == {key: etag for key, etag in now.items() if key not in before}
    assert etags(found.changed) == {key: tag for key, tag in now.items() if before.get(key, tag) != tag}
    assert etags(found.gone) == {key: etag for key, etag in before.items() if key not in now}


def test_an_object_that_appears_with_an_old_time_is_found() -> None:
    known = frame({"video/a.mp4": "1"}, modified=NOW)
    hour_long_upload = frame({"video/b.mp4": "1"}, modified=NOW - timedelta(hours=1))
    assert etags(inbox_diff.compare(pl.concat([known, hour_long_upload]), known).new) == {"video/b.mp4": "1"}


def test_a_new_modification_time_alone_is_not_a_change() -> None:
    touched = frame({"video/a.mp4": "1"}, modified=NOW + timedelta(days=1))
    found = inbox_diff.compare(touched, frame({"video/a.mp4": "1"}))
    assert found.new.is_empty()
    assert found.changed.is_empty()
    assert found.gone.is_empty()


@given(st.lists(inboxes, min_size=1, max_size=6), st.integers(1, 3), st.data())
@settings(max_examples=100)
def test_no_order_of_ticks_loses_or_repeats_a_version(
    inbox_over_time: list[dict[str, str]], most: int, data: st.DataObject
) -> None:
    known, runs, unsure = NOTHING, list[tuple[str, str, str]](), set[tuple[str, str]]()
    listings = list(_listings(inbox_over_time))
    for listing in listings:
        for dies in data.draw(st.lists(st.booleans(), max_size=3)):
            todo, following = _tick(listing, known, most)
            runs.extend(todo)
            asked = {key for key, _, _ in todo}
            unsure |= {version for version in etags(known).items() if dies and version[0] in asked}
            known = known if dies else following
    while etags(known) != inbox_over_time[-1]:
        todo, following = _tick(listings[-1], known, most)
        runs.extend(todo)
        assert not following.equals(known), "the ticks make no progress before they reach the listing"
        known = following
    last_run = {key: etag for key, etag, _ in runs}
    # A failed tick may have requested a version that was then replaced by the version known before.
    assert {(key, tag) for key, tag in inbox_over_time[-1].items() if last_run[key] != tag} <= unsure
    assert set(inbox_over_time[-1].items()) <= {(key, etag) for key, etag, _ in runs}
    started = {run: (key, etag) for key, etag, run in runs}  # Dagster starts one run for a run key
    versions = {(row[0], row[1], row[3]) for listing in listings for row in listing.iter_rows()}
    assert len(started) <= len(versions)


def _listings(inbox_over_time: list[dict[str, str]]) -> Iterator[pl.DataFrame]:
    """Yield the listing at each moment; an unchanged object keeps its modification time."""
    times = dict[str, tuple[str, datetime]]()
    for number, inbox in enumerate(inbox_over_time):
        moment = NOW + timedelta(minutes=number)
        times = {
            key: times[key] if key in times and times[key][0] == etag else (etag, moment) for key, etag in inbox.items()
        }
        yield pl.DataFrame([(key, *version) for key, version in times.items()], LISTED, orient="row").select(
            "key", "etag", pl.lit(1, pl.Int64).alias("size"), "last_modified"
        )


def _tick(listing: pl.DataFrame, known: pl.DataFrame, most: int) -> tuple[list[tuple[str, str, str]], pl.DataFrame]:
    """Return the requested runs as (key, etag, run key), and the snapshot after them."""
    found = inbox_diff.compare(listing, known)
    todo = pl.concat([found.new, found.changed]).head(most)
    runs = [(row["key"][0], row["etag"][0], inbox_diff.run_key(row)) for row in todo.iter_slices(1)]
    return runs, inbox_diff.advance(known, todo, found.gone)


@given(inboxes, inboxes, st.integers(1, 3))
@settings(max_examples=100)
def test_bounded_ticks_converge_to_the_listing(now: dict[str, str], before: dict[str, str], most: int) -> None:
    listing, known = frame(now), frame(before)
    for _ in range(-(-len(now) // most) + 1):
        found = inbox_diff.compare(listing, known)
        known = inbox_diff.advance(known, pl.concat([found.new, found.changed]).head(most), found.gone)
    assert known.equals(listing.sort("key"))


def test_objects_not_requested_do_not_enter_the_snapshot() -> None:
    found = inbox_diff.compare(frame({"video/a.mp4": "1", "video/b.mp4": "1"}), NOTHING)
    known = inbox_diff.advance(NOTHING, found.new.head(1), found.gone)
    assert etags(known) == {"video/a.mp4": "1"}


def test_removed_objects_stay_known_until_they_are_handled() -> None:
    known = frame({"video/a.mp4": "1"})
    assert etags(inbox_diff.advance(known, NOTHING, NOTHING)) == {"video/a.mp4": "1"}
    assert inbox_diff.advance(known, NOTHING, known).is_empty()


sizes = st.lists(st.integers(0, 12), max_size=20)


@given(sizes, st.integers(1, 5), st.integers(1, 20))
@settings(max_examples=200)
def test_batches_keep_the_order_and_respect_both_limits(sizes: list[int], most: int, weight: int) -> None:
    todo = pl.DataFrame(
        [(f"video/{n:02}.mp4", "1", size, NOW) for n, size in enumerate(sizes)], inbox_diff.SCHEMA, orient="row"
    )
    size_of = dict(todo.select("key", "size").iter_rows())
    cut = inbox_diff.batches(todo, most, weight)
    assert [key for batch in cut for key in batch] == todo["key"].to_list()
    for batch in cut:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or sum(size_of[key] for key in batch) <= weight
    for batch, following in pairwise(cut):
        full = len(batch) == most or sum(size_of[key] for key in batch) + size_of[following[0]] > weight
        assert full, "every batch but the last is full"


def test_a_half_copied_file_waits_for_the_next_tick() -> None:
    listing = pl.concat(
        [
            frame({"video/done.mp4": "1"}, modified=NOW - timedelta(seconds=31)),
            frame({"video/growing.mp4": "1"}, modified=NOW - timedelta(seconds=29)),
        ]
    )
    ready, growing = inbox_diff.split_settled(listing, NOW, 30)
    assert ready["key"].to_list() == ["video/done.mp4"]
    assert growing["key"].to_list() == ["video/growing.mp4"]


def test_a_modification_time_in_the_future_does_not_delay_a_file() -> None:
    listing = frame({"video/a.mp4": "1"}, modified=NOW + timedelta(days=4000))
    ready, growing = inbox_diff.split_settled(listing, NOW, 30)
    assert ready.equals(listing)
    assert growing.is_empty()


def test_without_a_settling_time_everything_is_ready() -> None:
    ready, _ = inbox_diff.split_settled(frame({"video/a.mp4": "1"}), NOW, 0)
    assert ready.height == 1


@given(inboxes, st.randoms())
@settings(max_examples=100)
def test_a_snapshot_is_named_by_its_content_and_round_trips(content: dict[str, str], random: Random) -> None:
    known = frame(content)
    order = list(range(known.height))
    random.shuffle(order)
    assert inbox_diff.snapshot_name(known[order]) == inbox_diff.snapshot_name(known)
    assert inbox_diff.from_bytes(inbox_diff.to_bytes(known)).equals(known)
    other = inbox_diff.advance(known, frame({"video/z.mp4": "1"}), NOTHING)
    assert inbox_diff.snapshot_name(other) != inbox_diff.snapshot_name(known)


def test_the_snapshot_name_is_stable_between_releases() -> None:
    known = frame({"video/a.mp4": '"1-2"'})
    assert inbox_diff.snapshot_name(known) == "catalog/f6be61a5678bfa00.parquet"


@pytest.mark.parametrize("data", [b"", b"rubbish", b"PAR1" * 4])
def test_an_unreadable_snapshot_error_contains_a_remedy(data: bytes) -> None:
    with pytest.raises(PermanentFailure) as caught:
        inbox_diff.from_bytes(data)
    assert caught.value.hint


def test_a_snapshot_with_another_schema_contains_a_remedy() -> None:
    with pytest.raises(PermanentFailure) as caught:
        inbox_diff.from_bytes(inbox_diff.to_bytes(pl.DataFrame({"key": ["a"]})))
    assert caught.value.hint


def test_a_restored_older_version_runs_again() -> None:
    first = frame({"video/a.mp4": "1"})
    again = frame({"video/a.mp4": "1"}, modified=NOW + timedelta(hours=1))
    assert inbox_diff.run_key(first) != inbox_diff.run_key(again)


def test_the_tick_after_a_failed_one_requests_the_same_run() -> None:
    assert inbox_diff.run_key(frame({"video/a.mp4": "1"})) == inbox_diff.run_key(frame({"video/a.mp4": "1"}))


@pytest.mark.parametrize(
    ("known", "gone", "listed", "share", "may"),
    [
        (100, 10, 90, 0.1, True),
        (100, 11, 89, 0.1, False),
        (100, 100, 0, 0.1, False),
        (4, 1, 3, 0.2, True),
        (2, 1, 1, 0.2, True),
        (4, 2, 2, 0.2, False),
        (1, 1, 0, 0.2, False),
        (1, 1, 1, 0.2, True),  # renamed: another object is listed instead
        (3, 3, 5, 0.2, False),  # another folder was mounted
        (4, 1, 3, 0.0, False),
        (10, 5, 5, 1.0, True),
        (10, 10, 0, 1.0, False),
        (0, 0, 0, 0.1, False),
    ],
)
def test_artefacts_are_removed_only_if_few_objects_disappeared(
    known: int, gone: int, listed: int, share: float, *, may: bool
) -> None:
    every = frame({f"video/{number:03}.mp4": "1" for number in range(known)})
    there = frame({f"video/there/{number}.mp4": "1" for number in range(listed)})
    left = every.head(gone)
    assert inbox_diff.removable(left, every, there, max_share=share) == (left["key"].to_list() if may else [])


odd_text = st.text(st.sampled_from("aK\u017f.. \t\n%,'*/\\[<\x85\xa0\u2028\u3000\ufeff\u212aé"), max_size=8)
object_names = st.tuples(odd_text, st.sampled_from([".mp4", ".MKV", ".m\u212av", ".txt", ".t\u017f", ""])).map("".join)


@given(st.lists(object_names, max_size=20))
@settings(max_examples=200)
def test_vectorised_keys_equal_keys_computed_one_by_one(names: list[str]) -> None:
    rows = [(f"video/{name}", "1", 1, NOW) for name in names]
    objects = pl.DataFrame(rows, {"name": pl.String(), **dict(list(inbox_diff.SCHEMA.items())[1:])}, orient="row")
    found = inbox_diff.recordings(objects)
    assert found.schema == inbox_diff.SCHEMA
    assert found["key"].to_list() == [media_keys.encode(row[0]) for row in rows if media_keys.is_media(row[0])]
