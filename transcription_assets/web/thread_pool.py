"""Blocking work outside the event loop: a thread pool with a bounded queue and a time limit."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from transcription_assets.errors import TransientFailure

LONGEST_QUEUE = 64
"""Maximum calls that wait for a thread; more would only wait until their clients have given up."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Overloaded(TransientFailure):
    """The queue is full."""


class TooSlow(TransientFailure):
    """The result was not ready within the time limit."""


class ThreadPool:
    """Pool of `threads` threads; a caller waits at most `limit_s` seconds, including the time in the queue.

    At most `queue` calls wait for a thread.
    """

    def __init__(self, threads: int, limit_s: float, queue: int = LONGEST_QUEUE) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="serve")
        self._most = threads + queue
        self._limit_s = limit_s
        self._working = 0

    async def run(self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return the result of `work`, called in a thread.

        Raises:
            Overloaded: the queue is full.
            TooSlow: the time limit has passed; a call that has started continues.
            Exception: any exception of `work`.

        """
        if self._working >= self._most:
            raise Overloaded("the server is overloaded; try again later")
        self._working += 1
        future = self._pool.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _done: _in_loop(loop, self._finished))
        return await self._in_time(asyncio.wrap_future(future))

    async def within(self, future: "Future[Result]") -> Result:
        """Wait for a shared future, which is not cancelled if this caller gives up.

        Raises:
            TooSlow: the time limit has passed.
            Exception: the exception of the future.

        """
        return await self._in_time(asyncio.shield(asyncio.wrap_future(future)))

    async def _in_time(self, waiting: Awaitable[Result]) -> Result:
        try:
            return await asyncio.wait_for(waiting, self._limit_s)
        except TimeoutError:
            raise TooSlow(f"no response within {self._limit_s:g} s; try again") from None

    def close(self) -> None:
        """Cancel queued calls without waiting for running ones: they only read, so the process may end meanwhile."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _finished(self) -> None:
        self._working -= 1


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Schedule `call` in the loop unless it is closed: a thread may finish later than the loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
