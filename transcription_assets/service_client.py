"""Requests to services with the OpenAI protocol: retries, deadlines, and errors that never contain the key."""

import html
import json
import logging
import math
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from transcription_assets.errors import PermanentFailure, Refused, TransientFailure

if TYPE_CHECKING:
    from httpx2 import Client, Response

ATTEMPTS = 5
LONGEST_PAUSE_S = 30.0
CONNECT_S = 10.0
TIMEOUT_S = 60.0
"""For one response, from the request to its last byte."""
MOST_BYTES = 256 << 20
REQUESTS = 100
LONGEST_REASON = 300
READ_REASON = 64 << 10
"""Bytes of a response that are searched for the key before its beginning is quoted."""
RETRIED = frozenset({408, 425, 429})
"""Statuses below 500 that a retry may mend."""

log = logging.getLogger(__name__)


class Rejected(Refused):
    """The service rejects the request; `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class NoAnswer(TransientFailure):
    """There was no usable response after all attempts.

    `status` is the last HTTP status, 0 if there was none, 200 if its body was broken; `connected` is False if the last
    attempt did not reach the service.
    """

    def __init__(self, message: str, *, status: int, connected: bool, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.connected = connected


class Deadline:
    """Deadline of a call, retries included; thread-safe."""

    def __init__(self, seconds: float = float("inf")) -> None:
        self._until = time.monotonic() + seconds
        self._ended = threading.Event()

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, at least 0.1."""
        return max(0.1, self._until - time.monotonic())

    def end(self) -> None:
        """Let it pass now: requests that run are finished, and not repeated."""
        self._until = time.monotonic()
        self._ended.set()

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until `end` is called."""
        self._ended.wait(seconds)


class ServiceClient:
    """Client of the service at `url`; thread-safe.

    `key` is sent as a bearer token if it is not empty, and removed from all messages; redirects are not followed, so
    that it is sent to no other host. Transient errors (429, 5xx, no response, a broken one) are retried with growing
    pauses, or after the service's `Retry-After`. `name` (such as `embedding`) is the kind of service in messages, which
    advise to correct `TRANSCRIPTION_<NAME>_URL` or `TRANSCRIPTION_<NAME>_KEY`. `requests` is the maximum number
    of concurrent requests.

    Raises:
        PermanentFailure: `key` holds characters that are not allowed in an HTTP header.

    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        key: str = "",
        timeout_s: float = TIMEOUT_S,
        most_bytes: int = MOST_BYTES,
        attempts: int = ATTEMPTS,
        requests: int = REQUESTS,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._name = name
        self._variables = f"TRANSCRIPTION_{name.upper()}"
        self._key = key.strip()
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._attempts = attempts
        self._requests = requests
        self._sleep = sleep
        if not (self._key.isascii() and self._key.isprintable()):
            raise PermanentFailure(
                f"{self._variables}_KEY contains characters that are invalid in an HTTP header; correct the key",
                hint=f"correct {self._variables}_KEY",
            )

    @property
    def url(self) -> str:
        """Base URL of the service, without a slash at its end."""
        return self._url

    def post(self, path: str, model: str, deadline: Deadline | None = None, **body: Any) -> Any:
        """Send a request, retry transient errors, and return the JSON document of the response.

        Args:
            path: Path below the URL of the service, such as `embeddings`.
            model: Model of the request, for messages.
            deadline: Deadline of the call, retries included; none by default.
            body: `content` with `headers`, or `data` and `files`, as of httpx2.

        Raises:
            Rejected: the service rejects the request.
            PermanentFailure: the URL is invalid, or redirects.
            NoAnswer: there was no usable response after all attempts.

        """
        deadline = deadline or Deadline()
        url = f"{self._url}/{path}"
        sleep = self._sleep or deadline.wait
        reason = ""
        for attempt in range(self._attempts):
            pause = random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, 2.0**attempt)  # noqa: S311 -- no secret
            status, connected = 0, True
            try:
                status, headers, data = self._sent(url, deadline, body)
                if status == 200:  # noqa: PLR2004 -- the only one with a result
                    return json.loads(data)
                reason = self._reason(url, model, status, headers, data)
                pause = _retry_after(headers) or pause
            except _Broken as error:
                reason, connected = str(error), error.connected
            except (ValueError, RecursionError) as error:
                reason = f"invalid JSON ({error})"
            if attempt + 1 == self._attempts or pause >= deadline.remaining_s:
                break
            log.warning("%s: %s; retrying in %.1f s", url, reason, pause)
            sleep(pause)
        raise NoAnswer(
            f"the {self._name} service {url} failed {attempt + 1} times: {reason}; try again later",
            status=status,
            connected=connected,
            hint="try again later",
        )

    def _reason(self, url: str, model: str, status: int, headers: Mapping[str, str], data: bytes) -> str:
        """Return the reason given in a response that may be retried; raise if a retry cannot help."""
        text = self._without_key(data[:READ_REASON].decode(errors="replace"))
        reason = f"HTTP {status}: {' '.join(text.split())[:LONGEST_REASON]}"
        if 300 <= status < 400:  # noqa: PLR2004 -- redirects
            hint = f"set {self._variables}_URL to the target of the redirect"
            target = self._without_key(headers.get("location", "nowhere"))
            raise PermanentFailure(f"{url} redirects to {target}; {hint}", hint=hint)
        if status < 500 and status not in RETRIED:  # noqa: PLR2004
            raise Rejected(
                f"the {self._name} service {url} rejects {model}: {reason}; check the model, the key and the URL",
                status=status,
                hint="check the model, the key and the URL",
            )
        return reason

    def _sent(self, url: str, deadline: Deadline, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and whole body of one response; raise `_Broken` if there is none."""
        import httpx2

        own = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        request = dict(body) | {"headers": {**body.get("headers", {}), **own}}
        limit = min(self._timeout_s, deadline.remaining_s)
        until = time.monotonic() + limit
        timeout = httpx2.Timeout(limit, connect=min(CONNECT_S, limit))
        try:
            with self._client.stream("POST", url, timeout=timeout, **request) as response:
                return response.status_code, response.headers, self._body(response, until)
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
            hint = f"correct {self._variables}_URL"
            raise PermanentFailure(f"invalid URL {url}: {error}; {hint}", hint=hint) from None
        except (httpx2.RequestError, OSError) as error:
            connected = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise _Broken(self._without_key(f"{type(error).__name__}: {error}"), connected=connected) from None

    def _body(self, response: "Response", until: float) -> bytes:
        """Read the whole body; raise `_Broken` if it is too long or too slow."""
        data = bytearray()
        for block in response.iter_bytes():
            data += block
            if len(data) > self._most_bytes or time.monotonic() > until:
                raise _Broken("the response is too long or too slow")
        return bytes(data)

    def _without_key(self, text: str) -> str:
        return self._in_text.sub("***", text) if self._key else text

    @cached_property
    def _in_text(self) -> re.Pattern[str]:
        """Pattern of the key, also as it is escaped in JSON, URLs and HTML."""
        forms = [
            f"(?:{re.escape(letter)}|\\\\{re.escape(letter)}|\\\\u{ord(letter):04x}|%{ord(letter):02x}"
            f"|&#0*{ord(letter)};|&#x0*{ord(letter):x};|{re.escape(html.escape(letter))})"
            for letter in self._key
        ]
        return re.compile("".join(forms), re.IGNORECASE)

    @cached_property
    def _client(self) -> "Client":
        """The client for all requests, so that connections are reused; thread-safe."""
        import httpx2

        limits = httpx2.Limits(max_connections=self._requests, max_keepalive_connections=self._requests)
        client = httpx2.Client(follow_redirects=False, limits=limits)
        # Idle connections are closed with this object, so that callers need no close().
        weakref.finalize(self, client.close)
        return client


class _Broken(Exception):
    """There was no response, or an incomplete one; `connected` is False if the service was not reached."""

    def __init__(self, reason: str, *, connected: bool = True) -> None:
        super().__init__(reason)
        self.connected = connected


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of the Retry-After header, 0.0 if it is missing or not a number."""
    try:
        seconds = float(headers.get("retry-after", "0"))
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE_S) if math.isfinite(seconds) else 0.0
