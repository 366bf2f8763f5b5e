"""An iterator that computes the next item in a background thread."""

import threading
from collections.abc import Iterable, Iterator
from queue import Queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Iterator[T], Generic[T]):
    """Iterator over `items` in the same order; computes the next item in a background thread (at most one is buffered).

    The thread starts at once and begins the next item when the previous one is taken. An error of `items` is raised in
    place of the item. `close` ends the thread, and closes `items` if that has a `close` method.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._ready: Queue[tuple[T] | BaseException] = Queue(1)
        self._wanted = threading.Semaphore(0)
        self._stopped = threading.Event()
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._fill, args=(items,), name="ahead", daemon=True)
        self._thread.start()

    def _fill(self, items: Iterable[T]) -> None:
        end: BaseException = StopIteration()
        try:
            for item in items:
                self._ready.put((item,))
                del item  # it may be large and must not outlive its use by the consumer
                self._wanted.acquire()
                if self._stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 -- raised again in the consumer's thread
            end = error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            if not self._stopped.is_set():
                self._ready.put(end)

    def __next__(self) -> T:
        """Return the next item, waiting until it is ready.

        Raises:
            StopIteration: There are no more items, or the iterator is closed.
            BaseException: Any error that `items` raised.

        """
        if self._ended is None:
            ready = self._ready.get()
            self._wanted.release()
            if isinstance(ready, tuple):
                return ready[0]
            self._ended = ready
        raise self._ended

    def close(self) -> None:
        """Stop, and return when `items` is closed; no further item is begun."""
        self._stopped.set()
        self._wanted.release()
        self._ended = self._ended or StopIteration()
        self._thread.join()
