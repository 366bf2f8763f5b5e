"""Signatures of webhooks, as the Standard Webhooks specification defines them (HMAC-SHA256)."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

TOLERANCE_S = 300
"""Seconds by which the time of a webhook may differ from that of the receiver: an older one may be replayed."""


def headers(identifier: str, timestamp: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of a webhook; with two secrets, during a rotation, it has a signature by each.

    `timestamp` is the time of the attempt in seconds since 1970.
    """
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(identifier, timestamp, body, secret)}" for secret in secrets),
    }


def is_valid(received: Mapping[str, str], body: bytes, secret: bytes, now: float) -> bool:
    """Return whether a webhook has a signature by this secret and was sent within TOLERANCE_S; names in lower case."""
    identifier, timestamp = received.get("webhook-id", ""), received.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()) or abs(now - int(timestamp)) > TOLERANCE_S:
        return False
    expected = f"v1,{_signature(identifier, int(timestamp), body, secret)}".encode()
    given = received.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(each.encode(errors="replace"), expected) for each in given)


def _signature(identifier: str, timestamp: int, body: bytes, secret: bytes) -> str:
    signed = f"{identifier}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
