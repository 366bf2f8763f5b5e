"""The extracted sound of the recordings of a batch: the next one is fetched and decoded while one is heard."""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from transcription_assets import keys, media
from transcription_assets.ahead import Ahead
from transcription_assets.failures import TranscriptionError
from transcription_assets.speech import Samples
from transcription_assets.storage import Store

BLOCKS_AHEAD = 60
"""Blocks of 10 s: the first window of the next recording is there when it is asked for, in 38 MB."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sound:
    """The samples of one recording, mono 16 kHz, in blocks of 10 s, and what has to be tidied up after them."""

    key: str
    blocks: Iterable[Samples]
    open: ExitStack


class Sounds:
    """A context: `of` gives each sound in the order of `batch`; other keys are opened when asked for.

    `is_needed` tells, in a thread of its own, whether a recording is going to be heard at all.
    """

    def __init__(self, store: Store, ffmpeg: str, batch: Sequence[str], is_needed: Callable[[str], bool]) -> None:
        self._store = store
        self._ffmpeg = ffmpeg
        self._batch = list(batch)
        self._is_needed = is_needed
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="next-sound")
        self._next: Future[Sound | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (waiting := self._taken()) is not None:
            waiting.open.close()
        self._pool.shutdown()

    @contextmanager
    def of(self, key: str) -> Iterator[Iterable[Samples]]:
        """The samples of this recording; from now on the one behind it is made ready."""
        sound = self._taken()
        if sound is not None and sound.key != key:
            sound.open.close()
            sound = None
        if sound is None:
            sound = opened(self._store, key, self._ffmpeg)
        with sound.open:
            if key in self._batch:
                rest = self._batch[self._batch.index(key) + 1 :]
                self._next = self._pool.submit(self._first_needed, rest)
            yield sound.blocks

    def _first_needed(self, batch: Sequence[str]) -> Sound | None:
        """What goes wrong here goes wrong again when it is this recording's turn, and is told then."""
        for key in batch:
            try:
                if self._is_needed(key):
                    return opened(self._store, key, self._ffmpeg)
            except TranscriptionError as error:
                log.debug("not made ready: %s", error)
                return None
        return None

    def _taken(self) -> Sound | None:
        waiting, self._next = self._next, None
        return waiting.result() if waiting else None


@contextmanager
def alone(store: Store, key: str, ffmpeg: str) -> Iterator[Iterable[Samples]]:
    """The samples of a recording that nothing comes after."""
    sound = opened(store, key, ffmpeg)
    with sound.open:
        yield sound.blocks


def opened(store: Store, key: str, ffmpeg: str) -> Sound:
    """The extracted sound, being decoded in the background from now on.

    From a bucket it is copied first: a link into it could expire during a long recording.
    """
    with ExitStack() as stack:
        if store.is_local:
            flac = store.readable_url(keys.flac(key))
        else:
            flac = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "speech.flac")
            store.fetch(keys.flac(key), Path(flac))
        blocks = Ahead(media.read_samples(flac, ffmpeg=ffmpeg), BLOCKS_AHEAD)
        stack.callback(blocks.close)
        return Sound(key, blocks, stack.pop_all())
