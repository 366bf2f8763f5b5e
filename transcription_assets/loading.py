"""How long weights took to load in this process: they load where first used, inside somebody else's time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the seconds in which it ran."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time inside, also where that ends in an error."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started


weights = Stopwatch()
"""All models of this process."""
