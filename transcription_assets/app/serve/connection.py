"""One connection to the server: whoever opens it has to send a request, and nobody can take all of them."""

import asyncio
import time

from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from transcription_assets.app.serve.guard import PROBES, App, Message, Receive, Scope, Send
from transcription_assets.app.serve.limits import is_within, neighbourhood

REQUEST_S = 10.0
"""How long the head of a request may take, from the first byte or from the opening of the connection on."""
MOST = 500
MOST_OF_ADDRESS = 100
"""A browser opens six, and an office may share an address. Named proxies have no such limit: they set their own."""
SPARE = 50
"""Connections beyond these limits, kept for probes; the oldest makes room for the newest."""
SPARE_S = 2.0
"""How long the head of a request may take there."""


class Connection(H11Protocol):
    """Closed when no request comes in time; beyond the limits only probes are answered.

    A probe may come from the same address as a crowd, behind a load balancer or a port that is forwarded. So what it
    asks for decides, not who it is.
    """

    address = ""
    is_spare = False
    opened = 0.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept it, as one that may ask for everything or as a spare one, and wait for a request."""
        super().connection_made(transport)
        self.opened = time.monotonic()  # a loop may count milliseconds: too coarse for an order
        peer = self.client[0] if self.client else ""
        self.address = neighbourhood(peer)
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
        """A part of a request, or all of it."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side."""
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
    """Return an application that answers probes as `app` does and refuses everything else; it ends the connection."""
    busy = JSONResponse(
        {"detail": "too many connections; try again in a moment"}, 503, headers={"retry-after": str(round(SPARE_S))}
    )

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await (app if scope["path"] in PROBES else busy)(scope, receive, sent)

    return answer
