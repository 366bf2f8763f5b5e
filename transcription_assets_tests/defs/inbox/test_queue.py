"""The queue against a server that speaks SQS's protocol."""

import time

import pytest

from transcription_assets.defs.inbox.queue import Message, Queue
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets_tests.defs.inbox.sqs_server import SqsServer


@pytest.fixture(autouse=True)
def account(sqs: SqsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", sqs.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def filled(sqs: SqsServer, count: int) -> Queue:
    url = sqs.queue()
    for number in range(count):
        sqs.client().send_message(QueueUrl=url, MessageBody=str(number))
    return Queue(url)


def test_more_messages_than_one_request_holds_are_received_and_deleted(sqs: SqsServer) -> None:
    queue = filled(sqs, 25)
    messages = queue.receive(100, hidden_s=60)
    assert sorted(int(message.body) for message in messages) == list(range(25))
    assert sqs.waiting(queue.url) == (0, 25)
    queue.delete(messages)
    assert sqs.waiting(queue.url) == (0, 0)


def test_no_more_than_asked_for_are_taken_and_the_others_stay(sqs: SqsServer) -> None:
    queue = filled(sqs, 15)
    assert len(queue.receive(12, hidden_s=60)) == 12
    assert sqs.waiting(queue.url) == (3, 12)


def test_a_message_that_was_not_deleted_comes_again(sqs: SqsServer) -> None:
    queue = filled(sqs, 1)
    assert len(queue.receive(1, hidden_s=1)) == 1
    while not (again := queue.receive(1, hidden_s=1)):
        time.sleep(0.05)  # if it is lost, pytest's limit ends this
    assert again[0].body == "0"


def test_an_empty_queue_is_no_failure(sqs: SqsServer) -> None:
    assert filled(sqs, 0).receive(10, hidden_s=60) == []


def test_a_message_that_somebody_else_deleted_stops_nothing(sqs: SqsServer) -> None:
    queue = filled(sqs, 2)
    messages = queue.receive(2, hidden_s=60)
    queue.delete(messages[:1])
    queue.delete(messages)
    assert sqs.waiting(queue.url) == (0, 0)
    queue.delete([Message("", "no such receipt")])


def test_a_queue_that_is_not_there_is_said_to_be_wrong_with_its_url(sqs: SqsServer) -> None:
    url = f"{sqs.endpoint}/123456789012/nothing"
    with pytest.raises(PermanentFailure, match="123456789012/nothing"):
        Queue(url).receive(1, hidden_s=1)


def test_a_queue_that_does_not_answer_is_asked_again_by_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    with pytest.raises(TransientFailure):
        Queue("http://127.0.0.1:1/1/q").receive(1, hidden_s=1)


def test_a_queue_of_another_region_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_SQS")
    queue = Queue("https://sqs.eu-west-1.amazonaws.com/1/q")
    assert queue._client.meta.region_name == "eu-west-1"  # noqa: SLF001
