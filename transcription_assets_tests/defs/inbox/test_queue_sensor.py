"""The inbox sensor with a queue of event notifications: it looks where it is told to, and still loses nothing."""

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from transcription_assets.domain import inbox_diff
from transcription_assets.errors import PermanentFailure
from transcription_assets.storage import Store
from transcription_assets_tests.defs.inbox import sqs_server
from transcription_assets_tests.defs.inbox.archive import Archive, names
from transcription_assets_tests.defs.inbox.ticks import PACE, Daemon


@dataclass(frozen=True, slots=True)
class Notified:
    """A queue, told of uploads by hand as S3 does it: SeaweedFS sends no notifications to SQS."""

    server: sqs_server.SqsServer
    url: str
    archive: Archive

    def tell(self, *names: str, event: str = "ObjectCreated:Put") -> None:
        for name in names:
            key = quote_plus(f"{self.archive.prefix}/{name}", safe="/*")
            entity = {"bucket": {"name": self.archive.bucket}, "object": {"key": key}}
            self.send(json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": event, "s3": entity}]}))

    def send(self, body: str) -> None:
        self.server.client().send_message(QueueUrl=self.url, MessageBody=body)

    def put(self, *names: str, data: bytes = b"x") -> None:
        self.archive.put(*names, data=data)
        self.tell(*names)

    def left(self) -> int:
        return sum(self.server.waiting(self.url))

    def wait_until_visible(self, count: int) -> None:
        while self.server.waiting(self.url)[0] < count:
            time.sleep(0.05)  # if they are lost, pytest's limit ends this


@pytest.fixture
def queue(archive: Archive, daemon: Daemon, sqs: sqs_server.SqsServer, monkeypatch: pytest.MonkeyPatch) -> Notified:
    """The sensor with a queue; everything has been listed already."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", sqs.endpoint)
    url = sqs.queue()
    daemon.pace = replace(PACE, queue_url=url)
    assert daemon.tick() == []
    assert inbox_diff.Cursor.parse(daemon.cursor).listed
    return Notified(sqs, url, archive)


def test_a_notification_starts_a_run_without_a_listing(queue: Notified, daemon: Daemon) -> None:
    queue.archive.put("video/not told of.mp4")
    queue.put("video/a, b.mp4")
    assert daemon.tick() == [["video/a%2C b.mp4"]]


def test_messages_stay_until_the_cursor_that_knows_their_recordings_is_stored(queue: Notified, daemon: Daemon) -> None:
    queue.put("video/a.mp4", "video/b.mp4")
    daemon.tick(dies="at once")
    queue.wait_until_visible(2)
    assert daemon.tick() == [["video/a.mp4", "video/b.mp4"]]
    assert queue.left() == 2
    queue.wait_until_visible(2)
    assert daemon.tick() == []
    assert queue.left() == 0


def test_duplicates_in_any_order_start_one_run(queue: Notified, daemon: Daemon) -> None:
    queue.put("video/a.mp4", data=b"old")
    queue.put("video/b.mp4")
    queue.put("video/a.mp4", data=b"new")
    queue.tell("video/a.mp4", event="ObjectRemoved:Delete")
    queue.tell("video/a.mp4")
    assert sorted(key for run in daemon.tick() for key in run) == ["video/a.mp4", "video/b.mp4"]
    assert set(daemon.known()["etag"]) == set(daemon.store.list_media().frame["etag"])
    daemon.finish()
    queue.wait_until_visible(5)
    assert daemon.tick() == []
    assert queue.left() == 0


def test_what_is_not_ours_is_deleted_and_hides_nothing(queue: Notified, daemon: Daemon) -> None:
    queue.send(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": queue.archive.bucket}))
    queue.send("rubbish")
    queue.tell("video/never was.mp4", "video/notes.txt", "transcripts/video/a.mp4.json", "DONE_video/x.mp4")
    queue.put("video/a.mp4")
    assert daemon.tick() == [["video/a.mp4"]]
    assert queue.left() == 1


def test_a_deleted_object_is_reported_and_only_a_listing_takes_it_out(queue: Notified, daemon: Daemon) -> None:
    daemon.pace = replace(daemon.pace, remove_gone=True, remove_max_share=1)
    queue.put("video/a.mp4", "video/b.mp4")
    daemon.tick()
    daemon.finish()
    queue.archive.remove("video/a.mp4")
    queue.tell("video/a.mp4", event="ObjectRemoved:Delete")
    queue.wait_until_visible(3)
    daemon.tick()
    assert "1 missing" in daemon.message
    assert len(daemon.partitions()) == 2
    assert queue.left() == 0
    _listed_long_ago(daemon)
    daemon.tick()
    assert daemon.partitions() == ["video/b.mp4"]


def test_what_no_message_told_of_is_found_by_the_next_listing(queue: Notified, daemon: Daemon) -> None:
    queue.archive.put("video/not told of.mp4")
    assert daemon.tick() == []
    _listed_long_ago(daemon)
    assert daemon.tick() == [["video/not told of.mp4"]]
    listed = inbox_diff.Cursor.parse(daemon.cursor).listed
    assert listed
    assert datetime.now(UTC) - listed < timedelta(minutes=1)


def test_a_backlog_is_listed_until_nothing_of_it_is_left(queue: Notified, daemon: Daemon) -> None:
    daemon.pace = replace(daemon.pace, max_adds=2)
    queue.archive.put(*names(5))
    _listed_long_ago(daemon)
    while daemon.tick():
        daemon.finish()
    assert daemon.partitions() == names(5)


def test_no_message_is_received_while_no_run_can_be_asked_for(queue: Notified, daemon: Daemon) -> None:
    daemon.pace = replace(daemon.pace, max_runs=1)
    queue.put("video/a.mp4")
    daemon.tick()
    queue.put("video/b.mp4")
    queue.wait_until_visible(2)
    daemon.tick()
    assert queue.server.waiting(queue.url) == (2, 0), "each time that it is received brings it nearer the dead letters"
    daemon.finish()
    assert daemon.tick() == [["video/b.mp4"]]


def test_a_queue_for_a_folder_is_refused_with_what_to_do(queue: Notified, daemon: Daemon, tmp_path: Path) -> None:
    queue.put("video/a.mp4")
    daemon.store = Store.open(str(tmp_path))
    with pytest.raises(PermanentFailure, match="TRANSCRIPTION_INBOX_QUEUE"):
        daemon.tick()


def _listed_long_ago(daemon: Daemon) -> None:
    cursor = inbox_diff.Cursor.parse(daemon.cursor)
    daemon.cursor = str(replace(cursor, listed=datetime.now(UTC) - timedelta(days=1)))
