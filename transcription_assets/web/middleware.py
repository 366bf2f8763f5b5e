"""ASGI middleware that checks host, access and rate limit of every request, and adds security headers."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders

from transcription_assets.web.access import Access, is_same_origin
from transcription_assets.web.rate_limit import RateLimit, address_block

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBES = frozenset({"/healthz", "/readyz"})
SIGN_IN = "/sign-in"
OPEN = ("/static/", SIGN_IN)
"""Paths that the sign-in page itself needs."""
ASSISTANTS = "/mcp"
ASK = "/api/ask"
COSTLY = frozenset({"/api/search", "/api/similar", ASSISTANTS, SIGN_IN})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
OTHERS_TIMES = 10

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def content_policy(media_origin: str = "") -> str:
    """Return the Content-Security-Policy: resources of this origin only, recordings also from the bucket's."""
    sources = f"'self' {media_origin}".strip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        f"media-src {sources}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


@dataclass(slots=True)
class Guard:
    """Middleware around the whole application, with rate limits per address.

    `per_minute` is the limit of searches and sign-ins, `asks_per_minute` that of questions. `policy` is called for each
    response, as the bucket's origin is not known at first.
    """

    app: App
    access: Access
    per_minute: int
    asks_per_minute: int
    policy: Callable[[], str] = content_policy
    _searches: RateLimit = field(init=False)
    _asks: RateLimit = field(init=False)
    _others: RateLimit = field(init=False)
    _guesses: RateLimit = field(init=False)

    def __post_init__(self) -> None:
        self._searches = RateLimit(self.per_minute, time.monotonic)
        self._asks = RateLimit(self.asks_per_minute, time.monotonic)
        self._others = RateLimit(self.per_minute * OTHERS_TIMES, time.monotonic)
        self._guesses = RateLimit(self.per_minute, time.monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request, or pass it to the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("content-security-policy", self.policy())
                headers.setdefault("cache-control", "private, no-cache")
            await send(message)

        answer = self._refusal(Request(scope))
        await (answer or self.app)(scope, receive, sent)

    def _refusal(self, request: Request) -> Response | None:
        """Return the response that rejects the request, None if it is allowed."""
        path = request.url.path
        if path in PROBES:
            return None
        if not self.access.is_own_name(request.headers.get("host", "")):
            return _problem(400, "This host name is not allowed. Add it to TRANSCRIPTION_SERVE_HOSTS.")
        address = address_block(request.client.host if request.client else "")
        offers_token = self.access.offers_token(request.headers)
        # Checked before the token is compared: after too many guesses the answer reveals nothing about a token.
        if offers_token and (wait_s := self._guesses.wait(address)):
            return _too_many(wait_s)
        # Limited by address, never by the user header: a client that bypasses the proxy can send any name in it.
        limit = self._asks if path == ASK else self._searches if path in COSTLY else self._others
        if self.access.offers_wrong_token(request.headers):
            limit = self._guesses  # also where everybody may read: it may be a guess of the token for changes
        if wait_s := limit.take(address):
            return _too_many(wait_s)
        if not (self.access.may_read(request.headers) or path.startswith(OPEN)):
            return self._unknown(request)
        # Assistants read by POST; web/assistants.py rejects those of other sites.
        is_change = request.method not in SAFE and path not in {SIGN_IN, ASSISTANTS}
        reason = self._forbidden(request) if is_change else ""
        return _problem(403, reason) if reason else None

    def _forbidden(self, request: Request) -> str:
        """Return why this request may change nothing, "" if it may."""
        if not is_same_origin(request.headers):
            return "Another site sent this request. Open this page directly."
        # A question changes nothing, but its answer may cost something.
        if request.url.path != ASK and not self.access.may_write(request.headers):
            return "This needs write access. Sign in with the token for changes."
        return ""

    def _unknown(self, request: Request) -> Response:
        """Redirect browsers to the sign-in page, and answer 401 to other clients or if there is no token to ask for."""
        if not self.access.has_sign_in:
            return PlainTextResponse("Not signed in. Open this page through the proxy that signs users in.\n", 401)
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{SIGN_IN}?next={quote(path, safe='')}", 303)
        return _problem(
            401, "Authentication required. Send the header Authorization: Bearer TOKEN.", {"www-authenticate": "Bearer"}
        )


def _too_many(wait_s: int) -> Response:
    unit = "second" if wait_s == 1 else "seconds"
    return _problem(429, f"Too many requests. Try again in {wait_s} {unit}.", {"retry-after": str(wait_s)})


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers=headers)
