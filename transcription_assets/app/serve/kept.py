"""An answer that costs much to make: kept for a while, and given on while a new one is made."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from typing import Generic, TypeVar

SHARE = 0.1
"""Of the time at most goes into making it: what took five seconds is kept for fifty."""
PATIENCE_S = 0.5
"""How long somebody waits for a new answer who could have the last one at once."""

Value = TypeVar("Value")


@dataclass(slots=True)
class Kept(Generic[Value]):
    """What `make` answers, at least `least_s` old before it is made again; one thread at a time makes it."""

    make: Callable[[], Value]
    least_s: float
    now: Callable[[], float] = time.monotonic
    _until: float = float("-inf")
    _making: "Future[Value] | None" = None
    _last: "Future[Value] | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def soon(self) -> "Future[Value]":
        """The answer, or the one that is being made; its exception is why there is none, and is not kept."""
        with self._lock:
            if self._last and self.now() < self._until:
                return self._last
            if self._making is None:
                self._making = Future()
                threading.Thread(target=self._make, args=(self._making,), name="kept", daemon=True).start()
            return self._making

    def get(self) -> Value:
        """The answer; the last one where a new one takes long."""
        last = self._last
        try:
            return self.soon().result(PATIENCE_S if last else None)
        except NotYet:
            assert last  # noqa: S101 -- else we had waited
            return last.result()

    @property
    def any(self) -> "Future[Value]":
        """An answer of any age, or the first one, which is being made: so that nobody keeps a thread to wait for it."""
        return self._last or self.soon()

    def _make(self, making: "Future[Value]") -> None:
        started = self.now()
        try:
            value = self.make()
        except BaseException as error:  # noqa: BLE001 -- whatever it is, those who wait for it have to be told
            with self._lock:
                self._making = None
            making.set_exception(error)
            return
        with self._lock:
            self._making, self._last = None, making
            self._until = self.now() + max(self.least_s, (self.now() - started) / SHARE)
        making.set_result(value)
