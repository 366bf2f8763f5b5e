"""Uploads of the server: request bodies are written into the spool, and complete uploads land in the background."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from fastapi import Request

from transcription_assets.errors import NotFound, TransientFailure
from transcription_assets.sources.spool import ENDED, Checksum, Upload, UploadInUse, UploadSpool
from transcription_assets.web.archive import Archive

if TYPE_CHECKING:
    from transcription_assets.web.middleware import Message

BLOCK = 1 << 20
"""Bytes of a body that are collected before they are written."""
STALL_S = 60.0
"""Seconds without a byte after which a request is given up; what was received stays."""
SLOWEST_BYTES_PER_S = 4096
"""Mean rate below which a request is given up, after STALL_S seconds."""
DRAINED_BYTES = 32 << 20
"""Bytes of a refused body that are read and dropped, as a client that still sends would not see the answer."""
DRAIN_S = 10.0
TAKEOVER_S = 15.0
"""Seconds to wait for the end of an interrupted request."""
SWEEP_S = 60.0
"""Seconds between two attempts to land what waits, and to delete what has expired."""
WRITERS = 4
LANDINGS = 2

log = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class BodyInterrupted(TransientFailure):
    """The body ended early: the client hung up or stalled, or another request for the same upload came."""


class Body:
    """The body of a request in blocks of about BLOCK bytes, with limits in time."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        # The client sends the body only once it is read.
        self._is_withheld = request.headers.get("expect", "").lower() == "100-continue"
        self._is_complete = False

    async def blocks(self, stop: "asyncio.Future[None] | None" = None) -> AsyncIterator[bytes]:
        """Yield the body; what was received before an interruption is yielded before it is raised.

        Raises:
            BodyInterrupted: the client hung up, stalled or is too slow, or `stop` is done.

        """
        # A future, as the task of an event would outlive a generator that is not closed.
        stop = stop or asyncio.get_running_loop().create_future()
        waiting, deadline = bytearray(), time.monotonic() + STALL_S
        while not self._is_complete:
            left = min(STALL_S, max(0.0, deadline - time.monotonic()))
            message = await self._next(stop, left)
            if message["type"] != "http.request":
                yield bytes(waiting)
                raise BodyInterrupted("the connection was lost; continue at the offset of the upload")
            waiting += message.get("body", b"")
            deadline += len(message.get("body", b"")) / SLOWEST_BYTES_PER_S
            self._is_complete = not message.get("more_body", False)
            if len(waiting) >= BLOCK or self._is_complete:
                yield bytes(waiting)
                waiting.clear()

    async def _next(self, stop: "asyncio.Future[None]", limit_s: float) -> "Message":
        """Return the next message, or one of type `none` if `stop` is done or the limit has passed."""
        self._is_withheld = False
        received = asyncio.ensure_future(self._receive())
        try:
            either: set[asyncio.Future[Any]] = {received, stop}
            await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            return received.result() if received.done() else {"type": "none"}
        finally:
            received.cancel()

    async def drain(self) -> bool:
        """Read and drop the rest of a refused body, within limits; return whether it is complete."""
        if self._is_withheld:
            return False
        left = DRAINED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self._is_complete and left > 0:
                    message = await self._receive()
                    self._is_complete = message["type"] != "http.request" or not message.get("more_body", False)
                    left -= len(message.get("body", b""))
        return self._is_complete


@dataclass(frozen=True, slots=True)
class _Active:
    """The request that writes an upload: a future that ends it, and an event after its end."""

    stop: "asyncio.Future[None]"
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """End the request."""
        if not self.stop.done():
            self.stop.set_result(None)


class UploadReceiver:
    """Receiver of the uploads of one server. `close` ends it; what is unfinished continues with the next server."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="uploads")
        self._landings = ThreadPoolExecutor(LANDINGS, thread_name_prefix="landing")
        self._active: dict[str, _Active] = {}
        self._landing: dict[str, asyncio.Future[Upload]] = {}

    @property
    def spool(self) -> UploadSpool:
        """The spool of this server."""
        return self._archive.tools.spool

    async def run(self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return the result of blocking work, done in a thread.

        Raises:
            Exception: any exception of `work`.

        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))

    async def receive(
        self, identifier: str, offset: int, body: AsyncIterator[bytes], checksum: Checksum | None = None
    ) -> int:
        """Append a body to an upload, and return its new offset; an interrupted body is kept as far as it came.

        Raises:
            BodyInterrupted: the client hung up or stalled, or another request took over.
            UploadInUse: another process has the upload.
            TranscriptionError: as `Spool.writing` and `UploadWriter.write` raise.

        """
        async with self._in_thread(self.spool.writing(identifier, offset, checksum)) as writer:
            async for block in body:
                if block:
                    await self.run(writer.write, block)
        return writer.offset

    @asynccontextmanager
    async def taken_over(self, identifier: str) -> AsyncIterator["asyncio.Future[None]"]:
        """Yield a future that another request sets to take the upload over; end the request that has it now.

        A client that lost its connection comes back before this server may know that it was lost.

        Raises:
            UploadInUse: the other request does not end in time.

        """
        await self.interrupt(identifier)
        if identifier in self._active:
            raise UploadInUse("another request writes this upload; try again")
        active = self._active[identifier] = _Active(asyncio.get_running_loop().create_future())
        try:
            yield active.stop
        finally:
            del self._active[identifier]
            active.ended.set()

    async def interrupt(self, identifier: str) -> None:
        """End the request that writes an upload, and wait until it has written what it received."""
        if active := self._active.get(identifier):
            active.end()
            with suppress(TimeoutError):
                await asyncio.wait_for(active.ended.wait(), TAKEOVER_S)

    async def land(self, upload: Upload, wait_s: float) -> Upload:
        """Land a complete upload; return it as it is after at most `wait_s` seconds, while landing goes on.

        After a transient failure the sweep tries again.

        Raises:
            NotFound: it was cancelled.
            TranscriptionError: as `Landing.land` raises.

        """
        if upload.state in ENDED:
            return upload
        with suppress(TimeoutError, TransientFailure):
            return await asyncio.wait_for(asyncio.shield(self._begin_landing(upload)), wait_s)
        return await self.run(self.spool.get, upload.identifier)

    def _begin_landing(self, upload: Upload) -> "asyncio.Future[Upload]":
        known = self._landing.get(upload.identifier)
        if known is None:
            loop = asyncio.get_running_loop()
            known = loop.run_in_executor(self._landings, lambda: self._archive.landing.land(upload))
            self._landing[upload.identifier] = known
            known.add_done_callback(lambda done: self._landed(upload, done))
        return known

    def _landed(self, upload: Upload, landing: "asyncio.Future[Upload]") -> None:
        del self._landing[upload.identifier]
        error = None if landing.cancelled() else landing.exception()
        if error and not isinstance(error, UploadInUse | NotFound):
            log.warning("upload %s (%s) does not land: %s", upload.identifier, upload.filename, error, exc_info=error)

    async def sweep_forever(self) -> None:
        """Land what is complete and delete what has expired, now and every SWEEP_S seconds."""
        while True:
            for step in (self._land_complete, self._expire):
                try:
                    await step()
                except Exception as error:
                    log.warning("uploads: %s", error, exc_info=error)
            await asyncio.sleep(SWEEP_S)

    async def _land_complete(self) -> None:
        """Begin to land what is complete; LANDINGS at a time, each with its own failure."""
        for upload in await self.run(self.spool.all):
            is_complete = await self.run(self.spool.offset, upload) == upload.length
            if is_complete and upload.state not in ENDED and upload.identifier not in self._active:
                self._begin_landing(upload)

    async def _expire(self) -> None:
        await self.run(self.spool.expire)

    def close(self) -> None:
        """Begin nothing more; what is being written or landed is finished or continued by the next server."""
        for active in self._active.values():
            active.end()
        self._pool.shutdown(wait=False)
        self._landings.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _in_thread(self, entered: AbstractContextManager[Result]) -> AsyncIterator[Result]:
        """Enter and leave a context in a thread, as both wait for the disk."""
        value = await self.run(entered.__enter__)
        try:
            yield value
        except BaseException as error:
            await self.run(entered.__exit__, type(error), error, error.__traceback__)
            raise
        else:
            await self.run(entered.__exit__, None, None, None)
