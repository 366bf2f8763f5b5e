"""Items that are made ready in the background while the one before is worked on."""

import threading
from collections.abc import Iterable, Iterator
from queue import Queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Iterator[T], Generic[T]):
    """The same items in the same order, and the same error in its place; never more than one of them waits.

    The work starts at once, in a thread of its own, and the next item is begun when the one before is taken. `close`
    ends it, and closes `items` where that can be closed.
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
                del item  # it is somebody else's now, and may be large
                self._wanted.acquire()
                if self._stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it belongs to whoever takes the items
            end = error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            if not self._stopped.is_set():
                self._ready.put(end)

    def __next__(self) -> T:
        """The next item, as soon as it is ready."""
        if self._ended is None:
            ready = self._ready.get()
            self._wanted.release()
            if isinstance(ready, tuple):
                return ready[0]
            self._ended = ready
        raise self._ended

    def close(self) -> None:
        """Nothing more is begun; come back when the source is closed."""
        self._stopped.set()
        self._wanted.release()
        self._ended = self._ended or StopIteration()
        self._thread.join()
