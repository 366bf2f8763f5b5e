"""Decisions on sources and their items, and the merge of states."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.sources import catalogue, decisions, ledger
from transcription_assets.sources.catalogue import InvalidSources
from transcription_assets.sources.feeds import Item
from transcription_assets.sources.ledger import Entry, Ledger, Status
from transcription_assets.storage import Store

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
ITEMS = [Item(f"g{n}", f"https://e.example/{n}.mp3") for n in range(10)]
STATUSES: tuple[Status, ...] = ("skipped", "waiting", "failed", "landing", "landed")
entries = st.builds(
    Entry,
    st.sampled_from(STATUSES),
    st.sampled_from(["2026-01-01", "2026-01-02"]),
    attempts=st.integers(0, 9),
)
ledgers = st.builds(Ledger, items=st.dictionaries(st.sampled_from([item.identity for item in ITEMS]), entries))
SOURCE = catalogue.parse(b'[a]\nkind = "feed"\nurl = "https://e.example/feed"\nevery_hours = 2', "test")["a"]


@given(ledgers, st.integers(0, 12), st.integers(1, 12))
def test_a_plan_takes_nothing_that_landed(known: Ledger, backfill: int, most: int) -> None:
    plan = decisions.plan(ITEMS, known, backfill, most)
    taken = [item.identity for item in plan.fetch]
    assert len(taken) == len(set(taken)) <= most
    assert not {identity for identity in taken if identity in known.items and known.items[identity].status == "landed"}
    assert not {item.identity for item in plan.skip} & set(taken)


def test_skipped_items_are_wanted_only_with_a_raised_backfill() -> None:
    known = Ledger(items={item.identity: Entry("skipped", "2026-01-01") for item in ITEMS}, backfill=3)
    assert decisions.plan(ITEMS[4:], known, 3, 9).fetch == ()
    raised = decisions.plan(ITEMS, known, 5, 2)
    assert (raised.fetch, raised.lifted, raised.pending) == (tuple(ITEMS[:2]), tuple(ITEMS[:5]), 3)
    waiting = known.with_entries({item.identity: Entry("waiting", "2026-01-02") for item in raised.lifted})
    assert decisions.plan(ITEMS, waiting, 5, 9).fetch == tuple(ITEMS[:5])


@given(ledgers, ledgers)
def test_merging_never_loses_what_landed(one: Ledger, other: Ledger) -> None:
    merged = ledger.merge(one, other)
    assert set(merged.items) == {*one.items, *other.items}
    for each in (one, other):
        for identity, entry in each.items.items():
            if entry.status == "landed":
                assert merged.items[identity].status == "landed"
    assert ledger.merge(merged, other).items == merged.items


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Ledger(), True),
        (Ledger(looked=(NOW - timedelta(hours=1)).isoformat()), False),
        (Ledger(looked=(NOW - timedelta(hours=2)).isoformat()), True),
        (Ledger(looked=(NOW - timedelta(hours=1)).isoformat(), pending=3), True),
        (Ledger(looked=(NOW - timedelta(hours=1)).isoformat(), pending=3, error="away"), False),
        (Ledger(looked=(NOW + timedelta(days=400)).isoformat()), True),
    ],
)
def test_a_source_is_due(known: Ledger, *, expected: bool) -> None:
    assert decisions.is_due(SOURCE, known, NOW) == expected


def test_the_source_that_waited_longest_is_first() -> None:
    sources = {name: SOURCE.model_copy(update={"name": name}) for name in "abc"}
    states = {"a": Ledger(looked="2026-05-02T00:00:00+00:00"), "b": Ledger(looked="2026-05-01T00:00:00+00:00")}
    assert decisions.due(sources, states, "feed", NOW) == ["c", "b", "a"]
    assert decisions.due(sources, states, "http", NOW) == []


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[a]\nkind = 'feed'", "a.url"),
        ("[a]\nkind = 'feed'\nurl = 'file:///etc/passwd'", "a.url"),
        ("[a]\nkind = 'feed'\nurl = 'javascript:alert(1)'", "a.url"),
        ("[a]\nkind = 'ftp'\nurl = 'https://e.example'", "a"),
        ("[a]\nkind = 'feed'\nurl = 'https://e.example'\nbakfill = 3", "a.bakfill"),
        ("[a]\nkind = 'feed'\nurl = 'https://e.example'\nbackfill = -1", "a.backfill"),
        ("[a]\nkind = 'http'\nurl = 'https://e.example'\nhttp = 1", "a.http"),
        ("[a]\nkind = 'feed'\nurl = 'https://e.example'\nname = 'b'", "a.name"),
        ("['../x']\nkind = 'feed'\nurl = 'https://e.example'", "../x"),
        ("['']\nkind = 'feed'\nurl = 'https://e.example'", ""),
        ("[a]\nkind = 'http'\nurl = 'https://e.example'\n[A]\nkind = 'http'\nurl = 'https://e.example'", "A"),
        ("[a]\nkind = 'store'\nurl = 'relative/folder'", "a.url"),
        ("a = 1", "a"),
        ("[a", ""),
    ],
)
def test_a_wrong_catalogue_names_the_field(text: str, field: str) -> None:
    with pytest.raises(InvalidSources) as raised:
        catalogue.parse(text.encode(), "test")
    assert field in raised.value.reasons


def test_a_store_without_catalogue_has_no_sources(store: Store) -> None:
    assert catalogue.load(store) == {}
