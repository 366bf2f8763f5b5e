"""Requests that wait until a recording is done: limited in number, with one shared look at each recording."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat

from fastapi import Request

from transcription_assets.web import recordings
from transcription_assets.web.cache import Cached
from transcription_assets.web.library import Library
from transcription_assets.web.rate_limit import address_block
from transcription_assets.web.thread_pool import ThreadPool

MOST = 64
MOST_OF_ADDRESS = 8
LOOK_S = 1.0
"""Seconds for which a look at a recording is shared."""
STEPS_S = (1.0, 2.0, 4.0)
"""Seconds between the looks of one request; the last one is repeated."""


@dataclass(slots=True)
class Waiters:
    """Waiting requests, at most MOST, and MOST_OF_ADDRESS of one client address."""

    library: Library
    workers: ThreadPool
    _addresses: Counter[str] = field(default_factory=Counter)
    _keys: Counter[str] = field(default_factory=Counter)
    _looks: dict[str, Cached[bool]] = field(default_factory=dict)

    async def wait(self, request: Request, key: str, wait_s: float) -> None:
        """Wait until a recording is done or has failed, the client has disconnected, or `wait_s` seconds have passed.

        Beyond the limits, return at once.

        Raises:
            NotFound: there is no recording of this key.
            TranscriptionError: the store cannot be opened or read, or a look takes too long.

        """
        address = address_block(request.client.host if request.client else "")
        if wait_s <= 0 or self._addresses.total() >= MOST or self._addresses[address] >= MOST_OF_ADDRESS:
            return
        self._addresses[address] += 1
        self._keys[key] += 1
        look = self._looks.setdefault(key, Cached(partial(self._has_ended, key), LOOK_S))
        try:
            await self._ended(request, look, time.monotonic() + wait_s)
        finally:
            self._addresses -= Counter((address,))  # drops what is zero
            self._keys -= Counter((key,))
            if key not in self._keys:
                del self._looks[key]

    async def _ended(self, request: Request, look: Cached[bool], deadline: float) -> None:
        for step_s in chain(STEPS_S, repeat(STEPS_S[-1])):
            if await self.workers.within(look.soon()):
                return
            left = deadline - time.monotonic()
            if left <= 0 or await request.is_disconnected():
                return
            await asyncio.sleep(min(left, step_s))

    def _has_ended(self, key: str) -> bool:
        return recordings.one(self.library, key, with_progress=False).state in {"done", "failed"}
