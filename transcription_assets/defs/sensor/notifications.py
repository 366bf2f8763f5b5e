"""Object names in a bucket's event notifications.

Notifications arrive at least once, in any order, late or not at all. So neither the event nor the version in them is
relied on: a notification means only that the state of the object has to be read.
"""

import json
from typing import Any
from urllib.parse import unquote_plus


def names(body: str, bucket: str, prefix: str) -> list[str]:
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
            return [found for record in records for found in _record(record)]
    return []


def _record(record: Any) -> list[tuple[str, str]]:
    match record:
        case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}}:
            return [(bucket, unquote_plus(key, errors="surrogateescape"))]
    return []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
