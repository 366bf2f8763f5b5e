"""The inbox sensor over a real S3 server: every upload is seen once, every change is followed, nothing is lost."""

from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.defs.inbox import sensor
from transcription_assets.domain import inbox_diff
from transcription_assets.errors import TranscriptionError
from transcription_assets_tests.defs.inbox.archive import Archive, names
from transcription_assets_tests.defs.inbox.ticks import PACE, Daemon


def test_an_upload_that_began_before_and_ended_after_another_was_processed_is_found(
    archive: Archive, daemon: Daemon
) -> None:
    place = archive.place("video/an hour.mp4")
    upload = archive.client.create_multipart_upload(**place)["UploadId"]
    archive.put("video/quick.mp4")
    assert daemon.tick() == [["video/quick.mp4"]]
    daemon.finish()
    assert daemon.tick() == []
    part = archive.client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    archive.client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts)
    assert daemon.tick() == [["video/an hour.mp4"]]


def test_objects_of_the_same_second_are_all_found(archive: Archive, daemon: Daemon) -> None:
    archive.put("video/b.mp4")
    assert daemon.tick() == [["video/b.mp4"]]
    archive.put("video/a.mp4", "video/c.mp4")
    assert sorted(key for run in daemon.tick() for key in run) == ["video/a.mp4", "video/c.mp4"]


def test_the_newest_object_may_be_deleted_and_the_next_ones_are_still_found(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(3))
    daemon.tick()
    archive.remove("video/002.mp4")
    archive.put("video/000a.mp4")
    assert daemon.tick() == [["video/000a.mp4"]]
    assert daemon.partitions() == [*names(3), "video/000a.mp4"]


def test_an_overwritten_object_runs_again_once_its_run_is_over(archive: Archive, daemon: Daemon) -> None:
    archive.put("video/a.mp4", data=b"one")
    daemon.tick()
    archive.put("video/a.mp4", data=b"two")
    assert daemon.tick() == [], "the run in the queue reads the new version, or the next one does"
    assert "1 of them waiting for an active run" in daemon.message
    daemon.finish()
    assert daemon.tick() == [["video/a.mp4"]]
    daemon.finish()
    assert daemon.tick() == []


def test_a_backlog_is_requested_in_bounded_ticks_and_named(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(7), "audio/notes.txt")
    daemon.pace = replace(PACE, max_adds=5, run_max_files=2, max_runs=3)
    assert daemon.tick() == [["video/000.mp4", "video/001.mp4"], ["video/002.mp4", "video/003.mp4"], ["video/004.mp4"]]
    assert daemon.tick() == []
    assert "2 more waiting" in daemon.message
    assert "TRANSCRIPTION_SENSOR_MAX_RUNS" in daemon.message
    daemon.finish()
    assert daemon.tick() == [["video/005.mp4", "video/006.mp4"]]
    assert daemon.partitions() == names(7)


def test_a_run_is_cut_by_bytes_too(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(4), data=b"x" * 10)
    daemon.pace = replace(PACE, run_max_bytes=25)
    assert [len(run) for run in daemon.tick()] == [2, 2]


@pytest.mark.parametrize("dies", ["at once", "after partitions", "after runs"])
def test_a_tick_that_dies_loses_nothing_and_doubles_nothing(archive: Archive, daemon: Daemon, dies: str) -> None:
    archive.put(*names(5))
    daemon.pace = replace(PACE, run_max_files=2)
    daemon.tick(dies=dies)  # type: ignore[arg-type]
    archive.put(*names(3, start=5))
    daemon.tick()
    daemon.finish()
    daemon.tick()
    assert sorted(key for run in daemon.requested for key in run) == names(8)
    assert daemon.partitions() == names(8)


def test_a_batch_that_changed_since_its_tick_died_is_not_asked_for_while_it_is_in_flight(
    archive: Archive, daemon: Daemon
) -> None:
    archive.put(*names(4))
    daemon.tick(dies="after runs")
    archive.put("video/001.mp4", data=b"new")
    archive.put("video/004.mp4")
    assert daemon.tick() == [["video/004.mp4"]]


def test_a_run_that_was_made_and_never_submitted_does_not_hold_its_recordings_for_ever(
    archive: Archive, daemon: Daemon
) -> None:
    archive.put(*names(2))
    [request] = daemon.evaluate().run_requests or []
    daemon._start(replace_key(request), dg.DagsterRunStatus.NOT_STARTED)  # noqa: SLF001
    assert daemon.tick() == [names(2)]


def replace_key(request: dg.RunRequest) -> dg.RunRequest:
    """As another batch would have it; of a single recording, since the partitions are not there yet."""
    return dg.RunRequest(run_key="another", partition_key=request.tags["dagster/asset_partition_range_start"])


def test_a_cursor_that_was_reset_asks_again_only_for_what_is_not_in_flight(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(2))
    daemon.tick()
    archive.put("video/new.mp4")
    daemon.cursor = None
    assert daemon.tick() == [["video/new.mp4"]]


def test_nothing_is_written_when_nothing_changed(archive: Archive, daemon: Daemon) -> None:
    archive.put("video/a.mp4")
    daemon.tick()
    before, cursor = daemon.store.list("catalog/"), daemon.cursor
    assert daemon.tick() == []
    assert daemon.message == "nothing new"
    assert (daemon.store.list("catalog/"), daemon.cursor) == (before, cursor)


def test_old_snapshots_are_deleted_but_never_the_one_that_the_cursor_names(
    archive: Archive, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "SNAPSHOTS_KEPT", 2)
    archive.put("video/start.mp4")
    daemon.tick()
    for number in range(6):
        archive.put(f"video/{number}.mp4")
        daemon.tick(dies="at once")
        assert daemon.cursor in daemon.store.list("catalog/")
        # Beside the two newest that of the cursor and the new one: a bucket tells their times by the second only.
        assert len(daemon.store.list("catalog/")) <= 2 + 2
    daemon.tick()
    assert daemon.known().height == 7


def test_a_snapshot_that_is_gone_is_not_taken_for_an_empty_catalogue(archive: Archive, daemon: Daemon) -> None:
    archive.put("video/a.mp4")
    daemon.tick()
    daemon.store.delete(*daemon.store.list("catalog/"))
    with pytest.raises(TranscriptionError) as caught:
        daemon.tick()
    assert "cursor" in caught.value.hint


def test_what_is_gone_is_reported_and_stays_searchable_unless_that_is_turned_on(
    archive: Archive, daemon: Daemon
) -> None:
    archive.put(*names(3))
    daemon.tick()
    archive.remove("video/001.mp4")
    daemon.finish()
    assert daemon.tick() == []
    assert "1 missing in the inbox" in daemon.message
    assert daemon.partitions() == names(3)


def test_what_is_gone_is_taken_out_after_its_run_where_that_is_turned_on(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(3))
    daemon.pace = replace(PACE, remove_gone=True)
    daemon.tick()
    daemon.store.write("transcripts/video/001.mp4.json", b"{}")
    archive.remove("video/001.mp4")
    daemon.tick()
    assert daemon.partitions() == names(3), "a run is working on it, and a range may begin with it"
    daemon.finish()
    daemon.tick()
    assert daemon.partitions() == ["video/000.mp4", "video/002.mp4"]
    assert not daemon.store.exists("transcripts/video/001.mp4.json")
    archive.put("video/001.mp4")
    assert daemon.tick() == [["video/001.mp4"]], "what comes back is done again"


def test_a_prefix_that_is_suddenly_nearly_empty_removes_nothing(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(3))
    daemon.pace = replace(PACE, remove_gone=True)
    daemon.tick()
    daemon.finish()
    archive.remove(*names(2))
    daemon.tick()
    assert "2 missing" in daemon.message
    assert daemon.partitions() == names(3)


def test_dagsters_limit_of_partitions_is_kept_and_announced(
    archive: Archive, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sensor, "PARTITIONS_MOST", 5)
    monkeypatch.setattr(sensor, "PARTITIONS_MANY", 4)
    archive.put(*names(3))
    daemon.tick()
    daemon.finish()
    assert "docs/how-to/scale.md" not in capsys.readouterr().err
    archive.put(*names(4, start=3))
    assert daemon.tick() == [names(2, start=3)]
    assert "docs/how-to/scale.md" in capsys.readouterr().err
    daemon.finish()
    archive.put("video/000.mp4", data=b"changed")
    assert daemon.tick() == [["video/000.mp4"]], "what is a partition already is followed as ever"
    daemon.finish()
    assert daemon.tick() == []
    assert "2 of them over the limit of 5 partitions" in daemon.message


def test_a_recording_that_was_moved_when_it_was_done_is_not_gone(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(2))
    daemon.pace = replace(PACE, remove_gone=True)
    daemon.tick()
    daemon.finish()
    archive.put("DONE_video/000.mp4")
    archive.remove("video/000.mp4")
    daemon.tick()
    assert "gone" not in daemon.message
    assert daemon.partitions() == names(2)


def test_scattered_recordings_that_changed_do_not_drag_their_neighbours_along(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(6))
    daemon.tick()
    daemon.finish()
    archive.put("video/001.mp4", "video/002.mp4", "video/005.mp4", data=b"new")
    assert daemon.tick() == [["video/001.mp4", "video/002.mp4"], ["video/005.mp4"]]


def test_each_time_the_cursor_is_reset_everything_is_asked_for_again(archive: Archive, daemon: Daemon) -> None:
    """Dagster starts no run of a name that it has seen: what failed could never be asked for again."""
    daemon.pace = replace(PACE, max_adds=2)
    archive.put(*names(4))
    for _ in range(3):
        daemon.cursor = None
        assert [*daemon.tick(), *daemon.tick()] == [names(2), names(4)[2:]]
        assert daemon.tick() == []
        daemon.finish()


def test_a_reset_asks_for_nothing_that_a_run_works_on(archive: Archive, daemon: Daemon) -> None:
    archive.put(*names(3))
    daemon.tick()
    daemon.cursor = None
    assert daemon.tick() == []


def test_the_cursor_of_the_release_before_is_understood() -> None:
    assert inbox_diff.Cursor.parse("catalog/abc.parquet") == inbox_diff.Cursor("catalog/abc.parquet")


@given(
    snapshot=st.sampled_from(["", "catalog/abc.parquet"]),
    listed=st.none() | st.datetimes(timezones=st.just(UTC)).map(lambda when: when.replace(microsecond=0)),
    reset=st.sampled_from(["", "0b3c-42"]),
)
def test_a_cursor_is_read_as_it_was_written(snapshot: str, listed: datetime | None, reset: str) -> None:
    cursor = inbox_diff.Cursor(snapshot, listed, reset)
    assert inbox_diff.Cursor.parse(str(cursor)) == cursor
