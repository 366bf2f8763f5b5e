"""Sending one event to one webhook, its signature (Standard Webhooks), and the decision when to try again."""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

import httpx2

from transcription_assets.domain.urls import without_secrets
from transcription_assets.errors import TranscriptionError
from transcription_assets.events.catalogue import Webhook
from transcription_assets.events.event import CONTENT_TYPE, SOURCE, Event
from transcription_assets.guarded_http import Network, client, translate_http_errors

FIRST_S = 5.0
FACTOR = 3.0
LONGEST_S = 3600.0
"""The pause after a failure grows from FIRST_S by FACTOR to LONGEST_S; `Retry-After` may ask for a longer one."""
MOST_RETRY_AFTER_S = 86_400.0
MOST_REJECTIONS = 5
"""Attempts after which an event that the server rejects is given up."""
_ABOUT_THE_RECEIVER = frozenset({401, 403, 404, 405, 408, 410, 421, 425, 429})
"""Errors of the client that have nothing to do with the event: other events would fail as well."""

Verdict = Literal["delivered", "rejected", "away"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Outcome of an attempt: the server took the event, rejected this event, or would take none now.

    `retry_after_s` is what the server asked for, 0.0 by default.
    """

    verdict: Verdict
    reason: str = ""
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends events to webhooks; `secrets` are by receiver, and `networks` may be reached besides public addresses."""

    source: str = SOURCE
    secrets: Mapping[str, Sequence[bytes]] = field(default_factory=dict, repr=False)
    networks: tuple[Network, ...] = ()

    def send(self, receiver: Webhook, event: Event) -> Attempt:
        """Send the event once, within `receiver.timeout_s`; redirects are not followed, and no answer is read."""
        secrets = self.secrets.get(receiver.name, ())
        if not secrets:
            return Attempt("away", "it has no secret in TRANSCRIPTION_EVENT_SECRETS")
        body = json.dumps(event.cloud_event(self.source)).encode()
        headers = signature_headers(event.id, int(time.time()), body, secrets)
        try:
            with (
                translate_http_errors(_origin(receiver.url)),
                client(self.networks, receiver.timeout_s, setting="TRANSCRIPTION_EVENT_NETWORKS") as http,
                http.stream(
                    "POST",
                    receiver.url,
                    content=body,
                    headers=headers | {"content-type": CONTENT_TYPE},
                    follow_redirects=False,
                ) as response,
            ):
                return outcome_of(response)
        except TranscriptionError as error:
            return Attempt("away", str(error))


def signature_headers(identifier: str, timestamp: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of a webhook, as the Standard Webhooks specification defines them (HMAC-SHA256).

    With two secrets, during a rotation, it has a signature by each. `timestamp` is the time of the attempt in seconds
    since 1970.
    """
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(identifier, timestamp, body, secret)}" for secret in secrets),
    }


def _signature(identifier: str, timestamp: int, body: bytes, secret: bytes) -> str:
    signed = f"{identifier}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _origin(url: str) -> str:
    """Return scheme, host and port of a URL: the path of many webhooks is a secret."""
    try:
        parts = urlsplit(without_secrets(url))
    except ValueError:
        return "invalid URL"
    return f"{parts.scheme}://{parts.netloc}"


def outcome_of(response: httpx2.Response) -> Attempt:
    """Return the outcome that a status stands for; every status but 2xx is a failure."""
    status = response.status_code
    if response.is_success:
        return Attempt("delivered")
    if response.has_redirect_location or response.is_redirect:
        return Attempt("away", f"the server answered {status}: redirects are not followed; correct the URL")
    if response.is_client_error and status not in _ABOUT_THE_RECEIVER:
        return Attempt("rejected", f"the server answered {status}")
    return Attempt("away", f"the server answered {status}", _retry_after(response.headers.get("retry-after", "")))


def _retry_after(value: str) -> float:
    """Return the seconds of a `Retry-After`, in seconds or as a date; 0.0 if it is neither."""
    if value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004 -- digits
        return min(float(value), MOST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), MOST_RETRY_AFTER_S)


def pause(failures: int, retry_after_s: float = 0.0, jitter: Callable[[], float] = random.random) -> timedelta:
    """Return the pause after so many failures in a row (at least 1): exponential, of which half is random.

    It is not shorter than what the server asked for.
    """
    longest = min(LONGEST_S, FIRST_S * FACTOR ** min(failures - 1, 20))
    return timedelta(seconds=max(retry_after_s, longest * (0.5 + 0.5 * jitter())))
