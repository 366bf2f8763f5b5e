"""What a bucket's event notifications name. Each of them says no more than "look at this object".

They come at least once, in any order, late, and some never; so neither what they say has happened nor the version
that they name is believed: the object itself is looked at.
"""

import json
from typing import Any
from urllib.parse import unquote_plus


def names(body: str, bucket: str, prefix: str) -> list[str]:
    """The objects that a message is about, by their names below `s3://bucket/prefix`, each once.

    Takes S3's own notifications, the same wrapped by SNS, and EventBridge's. Empty for test events, other buckets,
    other prefixes and whatever is not a notification.
    """
    root = f"{prefix}/" if prefix else ""
    found = dict.fromkeys(key for where, key in _objects(_json(body)) if where == bucket and key.startswith(root))
    return [key[len(root) :] for key in found if key != root]


def _objects(message: Any) -> list[tuple[str, str]]:
    """(bucket, key) of all objects."""
    match message:
        case {"Type": "Notification", "Message": str(inner)}:
            return _objects(_json(inner))
        case {"source": "aws.s3", "detail": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}}:
            return [(bucket, key)]  # EventBridge does not encode the key
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
