import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.defs.inbox.queue import object_names


def record(key: str, bucket: str = "media", event: str = "ObjectCreated:Put") -> dict[str, Any]:
    """As S3 sends it; the key as it writes keys."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1, "eTag": "abc", "sequencer": "0055"}},
    }


def notification(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": records})


def names(body: str, prefix: str = "archive") -> list[str]:
    return object_names(body, "media", prefix)


def test_a_notification_names_its_objects() -> None:
    assert names(notification(record("archive/video/a.mp4"), record("archive/audio/b.mp3"))) == [
        "video/a.mp4",
        "audio/b.mp3",
    ]


@pytest.mark.parametrize(
    "event", ["ObjectCreated:CompleteMultipartUpload", "ObjectCreated:Copy", "ObjectRemoved:DeleteMarkerCreated", "New"]
)
def test_whatever_happened_to_an_object_it_has_to_be_looked_at(event: str) -> None:
    assert names(notification(record("archive/video/a.mp4", event=event))) == ["video/a.mp4"]


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
@settings(max_examples=100)
def test_a_key_of_any_characters_comes_back_whole(name: str) -> None:
    assert names(notification(record(quote_plus(f"archive/{name}", safe="/*")))) == [name]


def test_a_versioned_bucket_says_more_and_means_the_same() -> None:
    versioned = record("archive/video/a.mp4")
    versioned["s3"]["object"]["versionId"] = "096fKKXTRTtl3on89fVO.nfljtsv6qko"
    assert names(notification(versioned)) == ["video/a.mp4"]


def test_an_object_that_a_message_names_twice_is_looked_at_once() -> None:
    assert names(notification(record("archive/video/a.mp4"), record("archive/video/a.mp4"))) == ["video/a.mp4"]


def test_a_notification_that_came_by_way_of_sns_is_unwrapped() -> None:
    inner = notification(record("archive/video/a+b.mp4"))
    wrapped = json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": inner})
    assert names(wrapped) == ["video/a b.mp4"]


def test_eventbridge_does_not_encode_keys_and_they_are_not_decoded() -> None:
    event = {
        "version": "0",
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "media"}, "object": {"key": "archive/video/1+1%20.mp4", "version-id": "x"}},
    }
    assert names(json.dumps(event)) == ["video/1+1%20.mp4"]


def test_a_store_without_a_prefix_is_the_whole_bucket() -> None:
    assert names(notification(record("video/a.mp4")), prefix="") == ["video/a.mp4"]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(
            {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "media", "RequestId": "5582815E1AEA5ADF"}
        ),
        notification(record("archive/video/a.mp4", bucket="other")),
        notification(record("archive2/video/a.mp4"), record("video/a.mp4"), record("archive/")),
        json.dumps({"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"}),
        json.dumps({"Type": "Notification", "Message": "not JSON"}),
        json.dumps({"source": "aws.ec2", "detail": {"bucket": {"name": "media"}, "object": {"key": "archive/a"}}}),
        json.dumps({"Records": [None, 1, {}, {"s3": {"object": {"key": "archive/a"}}}, {"s3": None}]}),
        json.dumps({"Records": "archive/video/a.mp4"}),
        "",
        "hello",
        "[" * 100_000,
        "null",
    ],
)
def test_what_is_not_ours_names_nothing_and_stops_nothing(body: str) -> None:
    assert names(body) == []
