"""What can go wrong, in two classes: a retry cannot help (permanent) or may help (transient).

Every message says what is wrong, with which file, and how to mend it: it is what people read in the UI and the CLI.
"""

from typing import ClassVar


class TranscriptionError(Exception):
    """Anything this library raises on purpose.

    `key` is the recording that it is about, `step` the step that failed, `hint` what a person can do; each is empty
    where the code that raises does not know it.
    """

    transient: ClassVar[bool] = False
    """Whether trying again later may succeed."""

    def __init__(self, message: str = "", *, key: str = "", step: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.step = step
        self.hint = hint


class PermanentFailure(TranscriptionError):
    """The same input will fail again: a broken recording, a wrong setting."""


class TransientFailure(TranscriptionError):
    """Trying again later may succeed: the store is away, the object was replaced while it was read."""

    transient: ClassVar[bool] = True


class NotFound(PermanentFailure):
    """The object is not in the store (any more)."""


class NotRegular(NotFound):
    """Something has this name in the store, but it is no regular file: a folder, a pipe, a device."""


class TooLarge(PermanentFailure):
    """A file that people write by hand is far larger than such files are."""


class Refused(PermanentFailure):
    """The store, the file system or a service does not allow it: permissions or credentials are missing."""


class Occupied(PermanentFailure):
    """A folder has the name that a file should have."""


class StoreFull(TransientFailure):
    """There is no space left, or a quota or size limit is reached."""


class StoreAway(TransientFailure):
    """The store does not answer, or cannot be reached."""
