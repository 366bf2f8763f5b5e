"""Checkpoints: finished windows of a long recording, in the store until its transcript is written."""

from dataclasses import dataclass
from hashlib import sha256

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound
from transcription_assets.speech import DecodedWindow, WindowId, decoded_window
from transcription_assets.speech.windowing import EARLIEST_SHARE, WINDOW_S
from transcription_assets.storage import Store


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Checkpoints of one recording, so that a run that resumes after a kill repeats only the unfinished window.

    `version` identifies the object, the model and the options for which they are valid.
    """

    store: Store
    key: str
    version: str

    def get(self, place: WindowId, /) -> DecodedWindow | None:
        """Return the checkpoint; None if there is none or it is damaged.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        try:
            return decoded_window.from_json(self.store.read(self._path(place)))
        except (NotFound, ValueError):
            return None

    def __setitem__(self, place: WindowId, done: DecodedWindow, /) -> None:
        """Write the checkpoint.

        Raises:
            TranscriptionError: the store denies access, is full or does not answer.

        """
        self.store.write(self._path(place), done.to_json())

    def clear(self, duration: float) -> None:
        """Delete all checkpoints of the recording, also of older versions.

        `duration` is its length in seconds; a recording shorter than a window has no checkpoints.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        if duration > WINDOW_S * EARLIEST_SHARE:
            self.store.delete(*self.store.list(media_keys.checkpoints(self.key)))

    def _path(self, place: WindowId) -> str:
        return media_keys.checkpoint(self.key, sha256(self.version.encode()).hexdigest()[:16], *place)
