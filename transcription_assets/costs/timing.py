"""The time that models take to load in this process. They load on first use, so the step timing has to subtract it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Accumulates running time in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the time spent inside, also if it ends in an error."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started


weights = Stopwatch()
"""Loading time of all models of this process."""
