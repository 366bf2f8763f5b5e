"""HTTP connections with a deadline per request, limited in total and per address so that no client occupies all."""

import asyncio
import time

from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from transcription_assets.web.middleware import PROBES, App, Message, Receive, Scope, Send
from transcription_assets.web.rate_limit import address_block, is_within, plain_address

REQUEST_S = 10.0
"""Seconds for the head of a request, from the opening of the connection, or from the first byte of a later request."""
MOST = 500
MOST_OF_ADDRESS = 100
"""A browser opens six, and an office may share one address. Trusted proxies are exempt: they set their own limits."""
SPARE = 50
"""Connections beyond these limits, reserved for probes; a new one replaces the oldest."""
SPARE_S = 2.0
"""Seconds for the head of a request on a spare connection."""


class Connection(H11Protocol):
    """A connection that is closed if no request arrives in time; beyond the limits only probes are answered.

    Behind a load balancer or a forwarded port a probe may have the same address as many clients. So probes are
    recognised by their path, not by their address.
    """

    address = ""
    is_spare = False
    opened = 0.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, as a spare one beyond the limits, and start the deadline."""
        super().connection_made(transport)
        if self.client:  # a dual-stack socket reports IPv4 clients as ::ffff:10.0.0.1; networks are given as 10.0.0.0/8
            self.client = (plain_address(self.client[0]), self.client[1])
        self.opened = time.monotonic()  # the loop's clock may count milliseconds, too coarse to order connections
        peer = self.client[0] if self.client else ""
        self.address = address_block(peer)
        open_ones = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        taken = [one.address for one in open_ones if not one.is_spare]
        is_proxy = is_within(peer, tuple(self.config.forwarded_allow_ips))
        if len(taken) >= MOST or (taken.count(self.address) >= MOST_OF_ADDRESS and not is_proxy):
            self.is_spare = True
            self.app = _probes_of(self.app)
            spare = [one for one in open_ones if one.is_spare and not one.transport.is_closing()]
            if len(spare) >= SPARE:
                min(spare, key=lambda one: one.opened).transport.abort()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Parse the data; start the deadline, or cancel it once the head of the request is complete."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._deadline is None:
            limit_s = SPARE_S if self.is_spare else REQUEST_S
            self._deadline = self.loop.call_later(limit_s, self.timeout_keep_alive_handler)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _probes_of(app: App) -> App:
    """Return an application that answers probes as `app` does, rejects other requests, and closes the connection."""
    busy = JSONResponse(
        {"detail": f"Too many connections. Try again in {SPARE_S:.0f} seconds."},
        503,
        headers={"retry-after": str(round(SPARE_S))},
    )

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await (app if scope["path"] in PROBES else busy)(scope, receive, sent)

    return answer
