"""Cache of one value that is expensive to compute; the old value is returned while a new one is computed."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from typing import Generic, TypeVar

SHARE = 0.1
"""Maximum share of time spent computing: a value that took five seconds is cached for fifty."""
TIMEOUT_S = 0.5
"""Seconds to wait for a new value if there is a previous one."""

Value = TypeVar("Value")


@dataclass(slots=True)
class Cached(Generic[Value]):
    """Cached result of `make`, valid for `least_s` seconds or longer (SHARE), then computed again at the next request.

    One background thread at a time computes it. `now` is a clock in seconds.
    """

    make: Callable[[], Value]
    least_s: float
    now: Callable[[], float] = time.monotonic
    _until: float = float("-inf")
    _made: float = float("-inf")
    _making: "Future[Value] | None" = None
    _last: "Future[Value] | None" = None
    _failed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def soon(self) -> "Future[Value]":
        """Return the future of a current value; an exception of `make` is set on it and not cached."""
        with self._lock:
            if self._last and self.now() < self._until:
                return self._last
            if self._making is None:
                self._making = Future()
                threading.Thread(target=self._compute, args=(self._making,), name="cache", daemon=True).start()
            return self._making

    def get(self) -> Value:
        """Return the value, the previous one if a new one takes longer than TIMEOUT_S.

        Raises:
            Exception: any exception of `make`.

        """
        last = self._last
        try:
            return self.soon().result(TIMEOUT_S if last else None)
        except NotYet:
            assert last  # noqa: S101 -- without it there is no timeout
            return last.result()

    def recent(self, most_s: float) -> Value | None:
        """Return a value of at most `most_s` seconds, and begin to compute a new one if it has expired.

        None if there is no such value, or the last call of `make` raised an exception.
        """
        last, made = self._last, self._made
        if last is None or self._failed or self.now() - made > most_s:
            return None
        self.soon()
        return last.result()

    @property
    def failed(self) -> bool:
        """Whether the last call of `make` raised an exception."""
        return self._failed

    @property
    def any(self) -> "Future[Value]":
        """Future of a value of any age, else of the first one; callers can await it without blocking a thread."""
        return self._last or self.soon()

    def _compute(self, making: "Future[Value]") -> None:
        started = self.now()
        try:
            value = self.make()
        except BaseException as error:  # noqa: BLE001 -- any error has to reach those who wait for the future
            with self._lock:
                self._making, self._failed = None, True
            making.set_exception(error)
            return
        with self._lock:
            self._making, self._last, self._failed = None, making, False
            self._made = self.now()
            self._until = self._made + max(self.least_s, (self._made - started) / SHARE)
        making.set_result(value)
