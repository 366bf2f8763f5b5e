"""What went wrong with a recording last (`failures/<key>.json`): for people who look at the library, not at runs.

A note is of one version of the recording (its ETag). It is overtaken when a later step succeeds, and deleted when the
last one does.
"""

import functools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Concatenate, ParamSpec, TypeVar

from transcription_assets import keys
from transcription_assets.failures import TranscriptionError, TransientFailure
from transcription_assets.steps import record
from transcription_assets.storage import Store

VERSION = "1"
NOTES_S = 30.0
NOTES_AT_ONCE = 16

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failed:
    """The step that failed and why; `transient` where a retry may help; `at` in ISO 8601, UTC."""

    etag: str
    step: str
    reason: str
    transient: bool
    at: str
    version: str = VERSION


def noted(
    step: str,
) -> Callable[
    [Callable[Concatenate[Store, str, Arguments], Result]], Callable[Concatenate[Store, str, Arguments], Result]
]:
    """Leave a note of every failure of this step; the failure itself goes on its way."""

    def decorate(
        materialise: Callable[Concatenate[Store, str, Arguments], Result],
    ) -> Callable[Concatenate[Store, str, Arguments], Result]:
        @functools.wraps(materialise)
        def observed(store: Store, key: str, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            with noting(store, [key], step):
                return materialise(store, key, *args, **kwargs)

        return observed

    return decorate


@contextmanager
def noting(store: Store, media_keys: Sequence[str], step: str) -> Iterator[None]:
    """What fails here fails for all these recordings: each of them gets a note; the failure goes on its way."""
    try:
        yield
    except Exception as error:
        note_each(store, media_keys, step, error)
        raise


def load(store: Store, key: str) -> Failed | None:
    """The note, if there is one that this release understands."""
    return record.load(store, keys.failure(key), Failed, VERSION)


def forget(store: Store, key: str) -> None:
    """Remove the note: the recording has what it needs. A note that stays is overtaken, so that is no failure."""
    try:
        store.delete(keys.failure(key))
    except TranscriptionError as error:
        log.warning("%s: the note of its last failure cannot be removed: %s", key, error)


def note_each(store: Store, media_keys: Sequence[str], step: str, error: Exception) -> None:
    """Leave a note of this failure for all these recordings, several at once, for at most `NOTES_S` in all.

    Where the store is silent each note would take the whole patience, and the failure has to be told first.
    """
    waiting = deque(media_keys)
    until = time.monotonic() + NOTES_S

    def work() -> None:
        with suppress(IndexError):
            while True:
                note(store, waiting.popleft(), step, error)

    # Daemons: a thread pool would be waited for when the process ends.
    threads = [threading.Thread(target=work, name="notes", daemon=True) for _ in media_keys[:NOTES_AT_ONCE]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("the store takes too long: the failure of %s is not noted for every recording", step)
        waiting.clear()


def note(store: Store, key: str, step: str, error: Exception) -> None:
    """Leave a note of this failure."""
    reason = str(error) if isinstance(error, TranscriptionError) else f"{type(error).__name__}: {error}"
    try:
        etag = store.stat(key).etag
        at = datetime.now(UTC).isoformat(timespec="seconds")
        failed = Failed(etag, step, reason, isinstance(error, TransientFailure), at)
        store.write(keys.failure(key), json.dumps(asdict(failed), ensure_ascii=True).encode())
    except TranscriptionError as second:
        # No recording, or no store: there is nothing to hang a note on, and the first failure is the one to tell.
        log.info("%s: its failure is not noted: %s", key, second)
