"""Record of the last failure of a recording (`failures/<key>.json`), for users of the library who do not see runs.

A record applies to one version of the recording (its ETag). It is outdated when a later step succeeds, and deleted when
the last one does.
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

from transcription_assets.domain import media_keys as keys
from transcription_assets.errors import (
    NotFound,
    PermanentFailure,
    TranscriptionError,
    TransientFailure,
    failure_kind,
)
from transcription_assets.events import occurrences
from transcription_assets.pipeline import records
from transcription_assets.storage import Store

VERSION = "1"
NOTES_S = 30.0
NOTES_AT_ONCE = 16

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailureNote:
    """The step that failed and why; `transient` if a retry may help; `at` in ISO 8601, UTC."""

    etag: str
    step: str
    reason: str
    transient: bool
    at: str
    version: str = VERSION
    kind: str = ""
    """See `errors.failure_kind`; "" in records of earlier releases."""


def records_failure(
    step: str,
) -> Callable[
    [Callable[Concatenate[Store, str, Arguments], Result]], Callable[Concatenate[Store, str, Arguments], Result]
]:
    """Decorate a step so that its failures are recorded.

    Raises:
        Exception: any exception of the decorated step, after it was recorded.

    """

    def decorate(
        materialise: Callable[Concatenate[Store, str, Arguments], Result],
    ) -> Callable[Concatenate[Store, str, Arguments], Result]:
        @functools.wraps(materialise)
        def observed(store: Store, key: str, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            with recording_failures(store, [key], step):
                return materialise(store, key, *args, **kwargs)

        return observed

    return decorate


@contextmanager
def recording_failures(store: Store, media_keys: Sequence[str], step: str) -> Iterator[None]:
    """Record a failure of the block for each of these recordings.

    Raises:
        Exception: any exception of the block, after it was recorded.

    """
    try:
        yield
    except Exception as error:
        note_each(store, media_keys, step, error)
        raise


def load(store: Store, key: str) -> FailureNote | None:
    """Return the record; None if there is none that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return records.load(store, keys.failure(key), FailureNote, VERSION)


def forget(store: Store, key: str) -> None:
    """Delete the record; an error is only logged, as a record that remains is outdated by the step that succeeded."""
    try:
        store.delete(keys.failure(key))
    except TranscriptionError as error:
        log.warning("%s: the failure record cannot be deleted: %s", key, error)


def note_each(store: Store, media_keys: Sequence[str], step: str, error: Exception) -> None:
    """Record this failure for all these recordings, several at once, within `NOTES_S` seconds in all.

    If the store does not answer, each write would take its whole timeout, and the failure must be raised before.
    """
    waiting = deque(media_keys)
    until = time.monotonic() + NOTES_S

    def work() -> None:
        with suppress(IndexError):
            while True:
                note(store, waiting.popleft(), step, error)

    # Daemon threads, as the process would wait for those of a thread pool when it ends.
    threads = [threading.Thread(target=work, name="notes", daemon=True) for _ in media_keys[:NOTES_AT_ONCE]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("the store does not answer in time: the failure of %s is not recorded for all recordings", step)
        waiting.clear()


def note(store: Store, key: str, step: str, error: Exception) -> None:
    """Record this failure; an error of the store is only logged."""
    reason = str(error) if isinstance(error, TranscriptionError) else f"{type(error).__name__}: {error}"
    is_transient = isinstance(error, TransientFailure)
    try:
        etag = store.stat(key).etag
    except TranscriptionError as second:
        # Without the recording or the store there is no place for a record, and the first failure is the one to report.
        log.info("%s: the failure is not recorded: %s", key, second)
        if isinstance(second, PermanentFailure) and not isinstance(second, NotFound):  # its name is too long
            occurrences.record_failure(store, "recording", key, reason, step=step, transient=is_transient)
        return
    occurrences.record_failure(store, "recording", key, reason, version=etag, step=step, transient=is_transient)
    try:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        failed = FailureNote(etag, step, reason, is_transient, at, kind=failure_kind(error))
        store.write(keys.failure(key), json.dumps(asdict(failed), ensure_ascii=True).encode())
    except TranscriptionError as second:
        # Without the recording or the store there is no place for a record, and the first failure is the one to report.
        log.info("%s: the failure is not recorded: %s", key, second)
