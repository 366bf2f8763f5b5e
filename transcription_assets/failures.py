"""What can go wrong, in two classes: a retry cannot help (permanent) or may help (transient).

Every message says what is wrong, with which file, and how to mend it: it is what people read in the UI and the CLI.
"""


class TranscriptionError(Exception):
    """Anything this library raises on purpose."""


class PermanentFailure(TranscriptionError):
    """The same input will fail again: a broken recording, a wrong setting."""


class TransientFailure(TranscriptionError):
    """Trying again later may succeed: the store is away, the object was replaced while it was read."""


class NotFound(PermanentFailure):
    """The object is not in the store (any more)."""
