"""Translation of the exceptions of LanceDB into failures of this library; `storage.errors` parses their texts."""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from obstore.exceptions import BaseError

from transcription_assets.errors import NotFound, PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.storage.errors import classify, error_number, error_text, http_status


class FilesGone(PermanentFailure):
    """Files of the opened table are missing; a new table may have replaced it."""


class Placed(Protocol):
    """An object with the URI of its tables."""

    @property
    def uri(self) -> str:
        """Folder or `s3://…` of the tables."""
        ...


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Owner = TypeVar("Owner", bound=Placed)

RAISED = (OSError, RuntimeError, ValueError, BaseError)
"""Exceptions that LanceDB and obstore raise."""
REBUILD = (
    "if the table is damaged, move the folder lancedb/ out of the store and materialise `embeddings` for all"
    " partitions, or run `transcription-assets index rebuild`: nothing is transcribed again"
)

_LOST_A_RACE = re.compile(
    r"conflict|contention|incompatible transaction|preempted|too many concurrent writers", re.IGNORECASE
)


def is_lost_race(error: Exception) -> bool:
    """Return whether others committed first, so that the same write may succeed on the newest version."""
    status = http_status(error)
    if status is not None or error_number(error) is not None:
        return status in {HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}
    return _LOST_A_RACE.search(error_text(error)) is not None


def are_files_gone(error: Exception) -> bool:
    """Return whether files of the table are missing, as they are when others removed the version that was opened."""
    failure = classify(error, "")
    return isinstance(failure, NotFound) or (failure is None and "not found" in error_text(error).lower())


def translate_method_errors(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """Translate the exceptions of LanceDB in a method, after LanceDB's own retries.

    Raises:
        TranscriptionError: raised by the decorated method, as by `translate_lancedb_errors`.

    """

    @functools.wraps(method)
    def wrapped(index: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with translate_lancedb_errors(index.uri):
            return method(index, *args, **kwargs)

    return wrapped


@contextmanager
def translate_lancedb_errors(uri: str) -> Iterator[None]:
    """Translate the exceptions of LanceDB in a block; a generator has to enter it inside its own body.

    Raises:
        FilesGone: files of the table are missing.
        TransientFailure: others write at the same time, or the store does not answer.
        PermanentFailure: the table cannot be used for another reason.

    """
    try:
        yield
    except TranscriptionError:
        raise
    except RAISED as error:
        # Not chained: the store's answer can quote the token that it refused.
        raise _failure(error, f"the search table at {uri} cannot be used") from None


def _failure(error: Exception, what: str) -> TranscriptionError:
    if is_lost_race(error):
        return TransientFailure(f"{what}: concurrent writes ({error_text(error)}); try again", hint="try again")
    failure = classify(error, what)
    if are_files_gone(error):
        return FilesGone(f"{what}: {error_text(error)}. {REBUILD[0].upper()}{REBUILD[1:]}.", hint=REBUILD)
    if failure is not None:
        return failure
    return PermanentFailure(f"{what}: {error_text(error)}. {REBUILD[0].upper()}{REBUILD[1:]}.", hint=REBUILD)
