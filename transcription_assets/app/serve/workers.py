"""Blocking work, away from the event loop: a few threads, a bounded queue, a time limit."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from transcription_assets.failures import TransientFailure

LONGEST_QUEUE = 64
"""Calls that wait for a thread; more would only wait until nobody wants their answer any more."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Overloaded(TransientFailure):
    """Too many ask at once."""


class TooSlow(TransientFailure):
    """The answer took longer than anybody should wait."""


class Workers:
    """`threads` of them; `limit_s` is how long a caller waits, queue included."""

    def __init__(self, threads: int, limit_s: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="serve")
        self._most = threads + LONGEST_QUEUE
        self._limit_s = limit_s
        self._working = 0

    async def run(self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """The result of `work`; Overloaded or TooSlow where there is none in time."""
        if self._working >= self._most:
            raise Overloaded("too many requests at once; try again in a moment")
        self._working += 1
        future = self._pool.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _done: _in_loop(loop, self._finished))
        return await self._in_time(asyncio.wrap_future(future))

    async def within(self, future: "Future[Result]") -> Result:
        """Wait for what others may wait for too: it goes on when this caller gives up (TooSlow)."""
        return await self._in_time(asyncio.shield(asyncio.wrap_future(future)))

    async def _in_time(self, waiting: Awaitable[Result]) -> Result:
        try:
            return await asyncio.wait_for(waiting, self._limit_s)
        except TimeoutError:
            raise TooSlow(f"no answer within {self._limit_s:g} s; try again") from None

    def close(self) -> None:
        """Wait for nobody: what is read only can be left in the middle."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _finished(self) -> None:
        self._working -= 1


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """A cancelled or finished thread may outlive the loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
