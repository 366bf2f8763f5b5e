"""ASGI middleware that limits the bodies of all requests but uploads, in size and in time."""

import asyncio
import time
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from transcription_assets.web import problems
from transcription_assets.web.middleware import ASSISTANTS, SAFE, App, Message, Receive, Scope, Send

MOST_BYTES = 64 << 10
BODY_S = 30.0


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Middleware that answers 413 to bodies of more than MOST_BYTES, and 408 to those that take longer than BODY_S."""

    app: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a body that is limited."""
        if scope["type"] != "http" or scope["method"] in SAFE or takes_files(scope["path"]):
            await self.app(scope, receive, send)
            return
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if stated.isdigit() and int(stated) > MOST_BYTES:
            await problems.answer(413, _TOO_LARGE)(scope, receive, send)
            return
        size, deadline = 0, time.monotonic() + BODY_S
        is_complete = False

        async def received() -> Message:
            nonlocal size, is_complete
            if is_complete:
                return await receive()  # waits until the client hangs up
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, f"The request did not arrive within {BODY_S:.0f} seconds.") from None
            size += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if size > MOST_BYTES:
                raise HTTPException(413, _TOO_LARGE)
            return message

        await self.app(scope, received, send)


_TOO_LARGE = f"The body of this request may have at most {MOST_BYTES >> 10} KB."


def takes_files(path: str) -> bool:
    """Return whether requests of this path have limits of their own."""
    return path == "/api/media" or path.startswith("/api/uploads") or path == ASSISTANTS
