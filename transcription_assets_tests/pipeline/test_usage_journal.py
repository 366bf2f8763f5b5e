"""The journal of what steps used: complete, read once, and the same after days were summed up."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from transcription_assets.costs.usage import StepUsage
from transcription_assets.errors import StoreAway
from transcription_assets.pipeline import usage_journal
from transcription_assets.pipeline.usage_journal import UsageReader
from transcription_assets.storage import Store
from transcription_assets_tests.chain import Chain, recording

TODAY = datetime(2026, 3, 10, 12, tzinfo=UTC)
PROCESSED = ("video", "audio", "transcript", "embeddings")
ONE = {"audio": StepUsage(1, 60.0, compute_s=1.5), "video": StepUsage(failures={"StoreAway": 1})}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def fill(store: Store, *days_ago: int) -> None:
    for days in days_ago:
        usage_journal.add(store, ONE, TODAY - timedelta(days=days))


def test_entries_add_up(store: Store) -> None:
    reader = UsageReader(lambda: store)
    assert reader.read() == {}
    fill(store, 0, 0, 1)
    expected = {"audio": StepUsage(3, 180.0, compute_s=4.5), "video": StepUsage(failures={"StoreAway": 3})}
    assert reader.read() == expected
    assert UsageReader(lambda: store).read() == expected


def test_each_file_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 0, 1)
    reader = UsageReader(lambda: store)
    first = reader.read()
    monkeypatch.setattr(Store, "read", lambda *_: pytest.fail("read again"))
    assert reader.read() == first


def test_days_that_ended_are_summed_up(store: Store) -> None:
    fill(store, 0, 1, 2, 2, 2, 9)
    before = UsageReader(lambda: store)
    totals = before.read()
    usage_journal.compact(store, TODAY)
    assert [path for path in store.list("usage/") if path.count("/") == 1] == [
        "usage/2026-03-01.json",
        "usage/2026-03-08.json",
    ]
    assert len(store.list("usage/")) == 4
    assert before.read() == totals, "a running server"
    assert UsageReader(lambda: store).read() == totals, "a server that starts"


def _before(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> None:
    """Call `act` once, before the first call of a method of the store."""
    original, left = getattr(Store, name), [act]

    def called(*args: object) -> object:
        if left:
            left.pop()()
        return original(*args)

    monkeypatch.setattr(Store, name, called)


@pytest.mark.parametrize("moment", ["read", "exists", "delete"])
def test_two_processes_may_sum_up_at_once(store: Store, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    fill(store, 5, 5, 5)
    totals = UsageReader(lambda: store).read()
    _before(monkeypatch, moment, lambda: usage_journal.compact(Store.open(store.url), TODAY))
    usage_journal.compact(store, TODAY)
    assert store.list("usage/") == ["usage/2026-03-05.json"]
    assert UsageReader(lambda: store).read() == totals


def test_sum_is_not_counted_beside_its_entries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ended before it had deleted the entries."""
    fill(store, 5, 5)
    totals = UsageReader(lambda: store).read()
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", lambda *_: None)
        usage_journal.compact(store, TODAY)
    assert len(store.list("usage/")) == 3
    assert UsageReader(lambda: store).read() == totals
    usage_journal.compact(store, TODAY)
    assert len(store.list("usage/")) == 1


def test_many_files_are_read_in_parts_before_totals_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals that grow while old files are read would look like work that was just done."""
    monkeypatch.setattr(usage_journal, "MOST_READ", 2)
    fill(store, 0, 0, 1, 1, 1)
    reader = UsageReader(lambda: store)
    assert reader.read() is None
    assert reader.read() is None
    totals = reader.read()
    assert totals is not None
    assert totals["audio"].recordings == 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"version": "9", "steps": {}}',
        b'{"version": "1", "steps": {"audio": {"audio_s": -1}}}',
        b'{"version": "1", "steps": {"audio": {"audio_s": NaN}}}',
        b'{"version": "1", "steps": {"audio": {"audio_s": 1e300}}}',
        b'{"version": "1", "steps": {"audio": {"failures": {"a\\"}\\n": 1}}}}',
        b"[" * 100_000,
    ],
    ids=["empty", "list", "cut", "version", "negative", "nan", "huge", "label", "deep"],
)
def test_damaged_files_are_left_out(store: Store, content: bytes) -> None:
    fill(store, 0)
    totals = UsageReader(lambda: store).read()
    store.write("usage/2026-03-10/damaged.json", content)
    store.write("usage/notes.txt", b"not an entry")
    assert UsageReader(lambda: store).read() == totals


def test_day_with_an_unreadable_entry_is_left_as_it_is(store: Store) -> None:
    fill(store, 5, 5, 6)
    store.write("usage/2026-03-05/newer.json", b'{"version": "2", "steps": {}}')
    usage_journal.compact(store, TODAY)
    paths = store.list("usage/")
    assert "usage/2026-03-04.json" in paths
    assert len([path for path in paths if path.startswith("usage/2026-03-05/")]) == 3


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "starts"])
def test_totals_do_not_fall_while_days_are_summed_up(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, is_running: bool
) -> None:
    fill(store, 5, 5)
    reader = UsageReader(lambda: store)
    if is_running:
        reader.read()
    fill(store, 5)
    totals = UsageReader(lambda: store).read()
    _before(monkeypatch, "read", lambda: usage_journal.compact(Store.open(store.url), TODAY))
    assert reader.read() == totals


def test_amounts_below_zero_lose_no_entry(store: Store) -> None:
    usage_journal.add(store, {"audio": StepUsage(1, 60.0, compute_s=-0.5)}, TODAY)
    assert UsageReader(lambda: store).read() == {"audio": StepUsage(1, 60.0)}


def test_results_that_exist_add_no_entry(tmp_path: Path) -> None:
    chain = Chain(Store.open(str(tmp_path / "store")))
    chain.store.write("audio/10.wav", recording(tmp_path, 10))
    chain.run("audio/10.wav")
    written = chain.store.list("usage/")
    used = UsageReader(lambda: chain.store).read()
    assert used is not None
    assert {step: item.recordings for step, item in used.items()} == dict.fromkeys(PROCESSED, 1)
    usage_journal.add(chain.store, ONE, datetime(2020, 1, 1, tzinfo=UTC))
    assert chain.run("audio/10.wav").reused == ["audio/10.wav"]
    assert chain.store.list("usage/") == ["usage/2020-01-01.json", *written], "days are summed up all the same"


def test_store_that_cannot_list_stops_no_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreAway("away")

    monkeypatch.setattr(Store, "list", away)
    usage_journal.compact(store)


def test_store_that_is_away_stops_no_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreAway("away")

    monkeypatch.setattr(Store, "write", away)
    usage_journal.add(store, ONE)
    assert store.list("usage/") == []
