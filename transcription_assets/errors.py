"""The error hierarchy: permanent failures, which a retry cannot fix, and transient failures, which it may.

Every message says what failed, for which file, and what to do; the UI and the CLI show it.
"""

from collections.abc import Mapping
from typing import ClassVar


class TranscriptionError(Exception):
    """Base class of all errors that this library raises deliberately.

    `key` is the media key of the recording, `step` the step that failed, `hint` what a person can do; each is empty if
    it is unknown where the error is raised.
    """

    transient: ClassVar[bool] = False
    """True if a later retry may succeed."""

    def __init__(self, message: str = "", *, key: str = "", step: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.step = step
        self.hint = hint


class PermanentFailure(TranscriptionError):
    """The same input will fail again, for example a broken recording or an invalid setting."""


class TransientFailure(TranscriptionError):
    """A later retry may succeed, for example if the store is unreachable or the object was replaced during reading."""

    transient: ClassVar[bool] = True


class NotFound(PermanentFailure):
    """The object does not exist in the store."""


class NotRegular(NotFound):
    """The name in the store belongs to something other than a regular file: a folder, a pipe, a device."""


class TooLarge(PermanentFailure):
    """A file that people write by hand exceeds its size limit."""


class UndecodableSpeech(PermanentFailure):
    """The extracted audio cannot be decoded to its known length."""


class Refused(PermanentFailure):
    """The store, the file system or a service denies access: permissions or credentials are missing."""


class Occupied(PermanentFailure):
    """A folder has the name of a file that should be written, or a file that of a folder."""


class StoreFull(TransientFailure):
    """No space is left, or a quota or size limit is reached."""


class StoreAway(TransientFailure):
    """The store does not answer or cannot be reached."""


KINDS: Mapping[str, bool] = {
    error.__name__: error.transient
    for error in (
        PermanentFailure,
        TransientFailure,
        NotFound,
        NotRegular,
        TooLarge,
        UndecodableSpeech,
        Refused,
        Occupied,
        StoreFull,
        StoreAway,
    )
} | {"Unexpected": False}
"""Common kinds of failures, and whether a retry may help; modules have others of their own."""


def failure_kind(error: BaseException) -> str:
    """Return the kind of a failure for statistics: the class of a TranscriptionError, `Unexpected` for any other."""
    return type(error).__name__ if isinstance(error, TranscriptionError) else "Unexpected"
