"""The inbox queue: a client of Amazon SQS or a compatible service, and the object names in its messages.

Event notifications of a bucket arrive at least once, in any order, late or not at all. So neither the event nor the
version in them is relied on: a notification means only that the state of the object has to be read.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from transcription_assets.errors import PermanentFailure, TransientFailure

BATCH = 10  # messages in one request, SQS's limit
WAIT_S = 1  # wait for a first message (long polling); with 0, SQS queries only some of its servers

_REGION = re.compile(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com")
_RETRYABLE = re.compile(r"Throttl|TooMany|Expired|Internal|Unavailable|Timeout")


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and the receipt that is needed to delete it."""

    body: str
    receipt: str


class Queue:
    """The queue at this URL. A message that was received and not deleted becomes visible again after a timeout.

    Raises:
        PermanentFailure: No region is configured, or the AWS profile does not exist.

    """

    def __init__(self, url: str, session: Any | None = None) -> None:
        import boto3
        from botocore.config import Config

        self.url = url
        region = _REGION.match(url)
        with self._translate_errors():
            session = session or boto3.Session()
            self._client = session.client(
                "sqs",
                region_name=region[1] if region else None,
                config=Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=10, read_timeout=30),
            )

    def receive(self, most: int, *, hidden_s: int) -> list[Message]:
        """Return up to `most` messages, which stay invisible to other receivers for `hidden_s` seconds.

        Raises:
            PermanentFailure: Credentials are missing, or the queue does not exist or refuses access.
            TransientFailure: The queue does not answer, or throttles requests.

        """
        found: list[Message] = []
        while len(found) < most:
            with self._translate_errors():
                answer = self._client.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=min(BATCH, most - len(found)),
                    VisibilityTimeout=hidden_s,
                    WaitTimeSeconds=0 if found else WAIT_S,
                )
            messages = answer.get("Messages", [])
            found += [Message(message["Body"], message["ReceiptHandle"]) for message in messages]
            if not messages:
                break
        return found

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete these messages; one that cannot be deleted is ignored, since it is received again.

        Raises:
            PermanentFailure: Credentials are missing, or the queue does not exist or refuses access.
            TransientFailure: The queue does not answer, or throttles requests.

        """
        for first in range(0, len(messages), BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.receipt}
                for number, message in enumerate(messages[first : first + BATCH])
            ]
            with self._translate_errors():
                self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate boto3's errors to failures of this library."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

        try:
            yield
        except (NoCredentialsError, NoRegionError, ProfileNotFound) as error:
            hint = "configure an access key, a profile or a role, and a region"
            raise PermanentFailure(f"{self.url}: {error}; {hint}", hint=hint) from error
        except BotoCoreError as error:
            raise TransientFailure(f"{self.url}: {error}") from error
        except ClientError as error:
            if _RETRYABLE.search(error.response.get("Error", {}).get("Code", "")):
                raise TransientFailure(f"{self.url}: {error}") from error
            hint = (
                "check that the queue exists in the region of the session and allows sqs:ReceiveMessage and"
                " sqs:DeleteMessage"
            )
            raise PermanentFailure(f"{self.url}: {error}; {hint}", hint=hint) from error


def object_names(body: str, bucket: str, prefix: str) -> list[str]:
    """Return the names of a message's objects relative to `s3://bucket/prefix`, without duplicates.

    Reads S3's own notifications, those wrapped by SNS, and EventBridge's. Empty for test events, other buckets, other
    prefixes and invalid messages.
    """
    root = f"{prefix}/" if prefix else ""
    found = dict.fromkeys(key for where, key in _objects(_json(body)) if where == bucket and key.startswith(root))
    return [key[len(root) :] for key in found if key != root]


def _objects(message: Any) -> list[tuple[str, str]]:
    """Return (bucket, key) of all objects."""
    match message:
        case {"Type": "Notification", "Message": str(inner)}:
            return _objects(_json(inner))
        case {"source": "aws.s3", "detail": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}}:
            return [(bucket, key)]  # EventBridge does not percent-encode keys
        case {"Records": list(records)}:
            return [found for record in records for found in _object(record)]
    return []


def _object(record: Any) -> list[tuple[str, str]]:
    match record:
        case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}}:
            return [(bucket, unquote_plus(key, errors="surrogateescape"))]
    return []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
