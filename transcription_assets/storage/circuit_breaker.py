"""A circuit breaker for a store that does not answer, so that requests do not each wait until their timeout."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from transcription_assets.errors import StoreAway

PAUSE_S = 30.0
"""Seconds after a failed probe in which no request is sent."""


@dataclass(slots=True)
class Availability:
    """Circuit breaker; `answers` probes the store with a short timeout, `now` is a clock in seconds.

    After a request failed with StoreAway, the next one sends a probe first, since a single stalled object must not
    block the others. If the probe fails as well, requests fail at once for `PAUSE_S`; then the next one probes again.
    """

    answers: Callable[[], bool]
    now: Callable[[], float] = time.monotonic
    _is_doubted: bool = False
    _quiet_until: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def watched(self, what: str) -> Iterator[None]:
        """Wrap a request for `what`, the name used in messages.

        Raises:
            StoreAway: the store does not answer, now or in the last `PAUSE_S` seconds (raised at once).

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
