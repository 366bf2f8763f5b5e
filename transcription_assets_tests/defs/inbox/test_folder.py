"""The inbox sensor, evaluated as the daemon does it: with a real store, a real instance and a cursor."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Self

import dagster as dg
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.defs.inbox import sensor
from transcription_assets.defs.inbox.sensor import SensorLimits, inbox_sensor
from transcription_assets.defs.jobs import recordings
from transcription_assets.defs.resources import StoreResource
from transcription_assets.defs.runs import RANGE_END, RANGE_START
from transcription_assets.domain import inbox_diff, media_keys
from transcription_assets.errors import TranscriptionError, TransientFailure
from transcription_assets_tests.defs.inbox.ticks import PACE


class Inbox:
    """An inbox, the sensor that looks into it, and what the daemon keeps between two ticks."""

    def __init__(self, root: Path, instance: dg.DagsterInstance, pace: SensorLimits = PACE) -> None:
        self.root, self.instance, self.pace = root, instance, pace
        self.cursor: str | None = None
        self.store = StoreResource(url=str(root))
        self.store.open()

    def drop(self, *names: str, data: bytes = b"sound") -> None:
        for name in names:
            path = Path(os.fsdecode(os.fsencode(self.root / name)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def look(self) -> dg.SensorResult:
        """Evaluate the sensor; nothing of what it asks for is done."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"store": self.store}, sensor_name="inbox_sensor"
        )
        found = inbox_sensor(self.pace)(context)
        assert isinstance(found, dg.SensorResult)
        return found

    def tick(self) -> dg.SensorResult:
        """Evaluate the sensor and do what the daemon does with the result: partitions, then the cursor."""
        result = self.look()
        for request in result.dynamic_partitions_requests or ():
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(str(recordings.name), request.partition_keys)
            else:
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(str(recordings.name), key)
        self.cursor = result.cursor
        return result

    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions(str(recordings.name)))

    def covered(self, request: dg.RunRequest) -> list[str]:
        """The keys that a run request means, by the instance's own order, as Dagster resolves a range."""
        if request.partition_key:
            return [request.partition_key]
        order = self.partitions()
        return order[order.index(request.tags[RANGE_START]) : order.index(request.tags[RANGE_END]) + 1]


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield Inbox(tmp_path / "store", instance)


def asked(result: dg.SensorResult) -> list[dg.RunRequest]:
    assert result.skip_reason is None, result.skip_reason
    return list(result.run_requests or ())


def reason(result: dg.SensorResult) -> str:
    assert result.skip_reason, result
    assert not result.run_requests
    assert not result.dynamic_partitions_requests
    return result.skip_reason.skip_message or ""


def test_an_empty_inbox_is_nothing_new(inbox: Inbox) -> None:
    assert "nothing new" in reason(inbox.tick())


def test_new_files_become_partitions_and_one_run_over_their_range(inbox: Inbox) -> None:
    inbox.drop("video/b.mp4", "audio/deep/down/c.mp3", "video/a.mp4")
    (request,) = asked(inbox.tick())
    assert sorted(inbox.partitions()) == ["audio/deep/down/c.mp3", "video/a.mp4", "video/b.mp4"]
    assert sorted(inbox.covered(request)) == sorted(inbox.partitions())
    assert request.run_key


def test_a_single_file_runs_as_its_own_partition(inbox: Inbox) -> None:
    inbox.drop("video/a.mp4")
    (request,) = asked(inbox.tick())
    assert request.partition_key == "video/a.mp4"
    assert not request.tags


def test_the_same_inbox_again_starts_nothing(inbox: Inbox) -> None:
    inbox.drop("video/a.mp4")
    asked(inbox.tick())
    assert "nothing new" in reason(inbox.tick())


def test_a_changed_file_runs_again_under_another_run_key(inbox: Inbox) -> None:
    inbox.drop("video/a.mp4", "video/b.mp4")
    (first,) = asked(inbox.tick())
    inbox.drop("video/a.mp4", data=b"another take")
    (second,) = asked(inbox.tick())
    assert second.partition_key == "video/a.mp4"
    assert second.run_key != first.run_key
    assert len(inbox.partitions()) == 2


def test_an_old_version_that_is_put_back_runs_again_though_dagster_has_seen_its_etag(inbox: Inbox) -> None:
    inbox.drop("video/a.mp4", data=b"first")
    about = (inbox.root / "video/a.mp4").stat()
    (first,) = asked(inbox.tick())
    inbox.drop("video/a.mp4", data=b"second version")
    asked(inbox.tick())
    inbox.drop("video/a.mp4", data=b"first")
    os.utime(inbox.root / "video/a.mp4", ns=(about.st_atime_ns, about.st_mtime_ns))
    (again,) = asked(inbox.tick())
    assert again.run_key != first.run_key


def test_an_old_version_that_comes_back_with_its_very_time_runs_again_as_a_versioned_bucket_does_it(
    inbox: Inbox,
) -> None:
    ahead = time.time_ns() + 86_400 * 10**9  # ahead of the time of the change, which nobody can set
    run_keys = set()
    for data in (b"first", b"second version", b"first"):
        inbox.drop("video/a.mp4", data=data)
        os.utime(inbox.root / "video/a.mp4", ns=(ahead, ahead))
        (request,) = asked(inbox.tick())
        run_keys.add(request.run_key)
    assert len(run_keys) == 3


class Later(datetime):
    """FAKE clock: a minute ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(minutes=1)


def test_a_half_copied_file_waits_until_it_has_settled(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox.pace = replace(PACE, settle_s=60.0)
    inbox.drop("video/a.mp4", data=b"half")
    assert "1 still being copied" in reason(inbox.tick())
    inbox.drop("video/a.mp4", data=b"half and the other half")
    assert "1 still being copied" in reason(inbox.tick())
    monkeypatch.setattr(sensor, "datetime", Later)
    (request,) = asked(inbox.tick())
    assert request.partition_key == "video/a.mp4"


def test_a_copy_that_keeps_the_old_time_still_has_to_settle(inbox: Inbox) -> None:
    inbox.pace = replace(PACE, settle_s=60.0)
    inbox.drop("video/a.mp4")
    os.utime(inbox.root / "video/a.mp4", (0, 0))
    assert "1 still being copied" in reason(inbox.tick())


ODD = [
    "video/a, b.mp4",
    'video/it\'s "[1]".mp4',
    "video/wait...what.mp4",
    "video/100%.mp4",
    "video/a%20b.mp4",
    "video/Größe.MP4",
    "video/two\nlines.mp4",
    "video/.hidden.mp4",
    "video/ lead and trail .mp4",
    "video/\udcff.mp4",
    "video/a/ep.mp4",
    "video/b/ep.mp4",
    "video/ep.mkv",
    "audio/👩‍👩‍👧.wav",
    "video/-rf *.mp4",
]


def test_names_of_all_kinds_become_legal_partitions_that_lead_back_to_their_files(inbox: Inbox) -> None:
    inbox.drop(*ODD)
    (request,) = asked(inbox.tick())
    assert sorted(map(media_keys.decode, inbox.partitions())) == sorted(ODD)
    assert sorted(inbox.covered(request)) == sorted(map(media_keys.encode, ODD))
    # Dagster itself is the judge of what a partition key may be.
    definition = dg.DynamicPartitionsDefinition(name="recordings")
    with dg.partition_loading_context(dynamic_partitions_store=inbox.instance):
        assert list(definition.get_partition_keys()) == inbox.partitions()


def test_what_is_no_recording_is_ignored_and_counted(inbox: Inbox) -> None:
    inbox.drop("video/notes.txt", "video/.DS_Store", "video/a.mp4.part", "video/._a.mp4", "audio/README")
    assert "ignored 5 files (unsupported extension)" in reason(inbox.tick())


def test_a_tick_that_died_before_its_cursor_was_kept_asks_for_the_very_same_runs(inbox: Inbox) -> None:
    inbox.pace = replace(PACE, run_max_files=2)
    inbox.drop(*(f"video/{letter}.mp4" for letter in "abcde"))
    before = inbox.look()
    after = inbox.tick()
    assert [request.run_key for request in asked(before)] == [request.run_key for request in asked(after)]
    assert isinstance(before, dg.SensorResult)
    assert before.cursor == inbox.cursor


def test_a_tick_that_died_after_its_partitions_were_added_asks_for_the_very_same_runs(inbox: Inbox) -> None:
    inbox.drop("video/a.mp4", "video/b.mp4")
    before = asked(inbox.tick())
    inbox.cursor = None
    again = asked(inbox.tick())
    assert [request.run_key for request in before] == [request.run_key for request in again]
    assert inbox.partitions() == sorted({*inbox.partitions()})


def test_a_full_inbox_is_taken_in_bites_and_the_backlog_is_said(
    inbox: Inbox, capfd: pytest.CaptureFixture[str]
) -> None:
    inbox.pace = replace(PACE, max_adds=4, run_max_files=3)
    inbox.drop(*(f"video/{number:02}.mp4" for number in range(10)))
    taken: list[str] = []
    sizes = []
    for _ in range(3):
        requests = asked(inbox.tick())
        sizes.append([len(inbox.covered(request)) for request in requests])
        taken += [key for request in requests for key in inbox.covered(request)]
    assert sizes == [[3, 1], [3, 1], [2]]
    assert sorted(taken) == sorted(inbox.partitions())
    assert len(taken) == 10
    assert "nothing new" in reason(inbox.tick())
    said = re.findall(r"4 recordings requested; (\d+) more waiting", "".join(capfd.readouterr()))
    assert said[:1] + said[-1:] == ["6", "2"]


def test_large_files_make_small_runs(inbox: Inbox) -> None:
    inbox.pace = replace(PACE, run_max_bytes=250)
    inbox.drop(*(f"video/{letter}.mp4" for letter in "abcde"), data=b"x" * 100)
    assert [len(inbox.covered(request)) for request in asked(inbox.tick())] == [2, 2, 1]


def test_files_that_came_between_others_never_run_what_lies_between_them(inbox: Inbox) -> None:
    inbox.drop("video/b.mp4", "video/d.mp4", "video/f.mp4")
    asked(inbox.tick())
    for name in ("video/b.mp4", "video/f.mp4"):
        inbox.drop(name, data=b"another take")
    inbox.drop("video/a.mp4", "video/c.mp4")
    covered = [key for request in asked(inbox.tick()) for key in inbox.covered(request)]
    assert sorted(covered) == ["video/a.mp4", "video/b.mp4", "video/c.mp4", "video/f.mp4"]


def test_what_left_the_inbox_is_said_and_nothing_of_it_is_removed_by_itself(inbox: Inbox) -> None:
    inbox.drop("video/a.mp4", "video/b.mp4")
    asked(inbox.tick())
    inbox.store.open().write(media_keys.transcript("video/a.mp4"), b"{}")
    (inbox.root / "video/a.mp4").unlink()
    assert "1 missing in the inbox" in reason(inbox.tick())
    assert "video/a.mp4" in inbox.partitions()
    assert inbox.store.open().exists(media_keys.transcript("video/a.mp4"))


def test_where_removal_is_on_all_traces_go_and_a_file_that_comes_back_is_new(inbox: Inbox) -> None:
    inbox.pace = replace(PACE, remove_gone=True)
    inbox.drop("video/a.mp4", "video/b.mp4", "video/c.mp4")
    asked(inbox.tick())
    store = inbox.store.open()
    for path in media_keys.artefacts("video/a.mp4") + media_keys.artefacts("video/b.mp4"):
        store.write(path, b"x")
    (inbox.root / "video/a.mp4").unlink()
    result = inbox.tick()
    assert asked(result) == []
    assert sorted(inbox.partitions()) == ["video/b.mp4", "video/c.mp4"]
    assert not any(store.exists(path) for path in media_keys.artefacts("video/a.mp4"))
    assert all(store.exists(path) for path in media_keys.artefacts("video/b.mp4"))
    assert "nothing new" in reason(inbox.tick())
    inbox.drop("video/a.mp4")
    (request,) = asked(inbox.tick())
    assert request.partition_key == "video/a.mp4"


def test_more_than_the_share_at_once_is_rather_a_wrong_folder_and_nothing_is_removed(
    inbox: Inbox, capfd: pytest.CaptureFixture[str]
) -> None:
    inbox.pace = replace(PACE, remove_gone=True)
    inbox.drop("video/a.mp4", "video/b.mp4", "video/c.mp4")
    asked(inbox.tick())
    (inbox.root / "video").rename(inbox.root / "moved")
    (inbox.root / "video").mkdir()
    assert "3 missing in the inbox" in reason(inbox.tick())
    assert len(inbox.partitions()) == 3
    assert "TRANSCRIPTION_REMOVE_MAX_SHARE" in "".join(capfd.readouterr())


def test_what_lies_behind_a_link_that_leads_nowhere_may_be_away_for_a_while_and_is_not_removed(inbox: Inbox) -> None:
    inbox.pace = replace(PACE, remove_gone=True)
    inbox.drop("video/a.mp4", "video/b.mp4", "disk/c.mp4")
    (inbox.root / "video/disk").symlink_to(inbox.root / "disk")
    asked(inbox.tick())
    (inbox.root / "disk").rename(inbox.root / "unmounted")
    said = reason(inbox.tick())
    assert "1 missing in the inbox" in said
    assert "1 could not be read" in said
    assert len(inbox.partitions()) == 3


def test_a_removal_that_died_half_way_is_finished_by_the_next_tick(inbox: Inbox) -> None:
    inbox.pace = replace(PACE, remove_gone=True)
    inbox.drop("video/a.mp4", "video/b.mp4")
    asked(inbox.tick())
    (inbox.root / "video/a.mp4").unlink()
    inbox.look()
    asked(inbox.tick())
    assert inbox.partitions() == ["video/b.mp4"]


def test_an_inbox_that_is_away_fails_the_tick_and_removes_nothing(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.pace = replace(PACE, remove_gone=True, remove_max_share=1.0)
    inbox.drop("video/a.mp4")
    asked(inbox.tick())

    def away(_path: object) -> Iterator[os.DirEntry[str]]:
        raise PermissionError(13, "Permission denied")  # root, who runs tests in containers, may read everything

    monkeypatch.setattr(os, "scandir", away)
    with pytest.raises(TransientFailure):
        inbox.look()
    monkeypatch.undo()
    assert "nothing new" in reason(inbox.tick())


def test_a_catalogue_that_is_gone_is_said_with_what_to_do(inbox: Inbox) -> None:
    inbox.drop("video/a.mp4")
    asked(inbox.tick())
    snapshot = inbox_diff.Cursor.parse(inbox.cursor).snapshot
    assert snapshot
    inbox.store.open().delete(snapshot)
    with pytest.raises(TranscriptionError) as caught:
        inbox.look()
    assert "cursor" in caught.value.hint
    inbox.cursor = None
    assert asked(inbox.tick()), "a fresh start looks at everything again"


@given(
    order=st.lists(st.integers(0, 30).map(str), unique=True, min_size=1),
    chosen=st.sets(st.integers(0, 30).map(str)),
)
@settings(max_examples=200)
def test_runs_have_no_gap_between_their_recordings_and_cover_the_batch_exactly(
    order: list[str], chosen: set[str]
) -> None:
    batch = sorted(key for key in order if key in chosen)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    todo = pl.DataFrame([(key, "e", 1, now) for key in batch], schema=inbox_diff.SCHEMA, orient="row")
    pieces = [rows["key"].to_list() for rows in inbox_diff.runs(todo, order, max_files=100, max_bytes=10**9)]
    position = {key: number for number, key in enumerate(order)}
    assert sorted(key for piece in pieces for key in piece) == batch
    for piece in pieces:
        first, last = position[piece[0]], position[piece[-1]]
        assert order[first : last + 1] == piece
    for left, right in pairwise(pieces):
        assert position[right[0]] > position[left[-1]] + 1, "two runs where one would do"
