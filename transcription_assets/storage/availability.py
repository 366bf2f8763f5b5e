"""Fail fast while a store does not answer, so that many requests do not each wait for the whole patience."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from transcription_assets.failures import StoreAway

PAUSE_S = 30.0
"""How long nothing is asked of a store that did not answer a probe."""


@dataclass(slots=True)
class Availability:
    """A circuit breaker. `answers` probes the store with little patience; `now` is a clock in seconds.

    After a request has failed with StoreAway the next one probes first: one object that stalls does not stop the
    others. Where the probe fails too, requests fail at once for `PAUSE_S`, and the next one probes again.
    """

    answers: Callable[[], bool]
    now: Callable[[], float] = time.monotonic
    _is_doubted: bool = False
    _quiet_until: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def watched(self, what: str) -> Iterator[None]:
        """Make a request about `what`.

        Raises:
            StoreAway: at once, where the store did not answer a moment ago.

        """
        if self._is_doubted:
            self._require_answer(what)
        try:
            yield
        except StoreAway:
            self._is_doubted = True
            raise

    def _require_answer(self, what: str) -> None:
        with self._lock:
            if not self._is_doubted:
                return
            if self.now() >= self._quiet_until:
                if self.answers():
                    self._is_doubted = False
                    return
                self._quiet_until = self.now() + PAUSE_S
        raise StoreAway(f"{what}: the store does not answer", hint="check the store and the network")
