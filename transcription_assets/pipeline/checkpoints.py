"""Checkpoints: decoded windows in the store, from which a transcript is built; deleted once it is written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound
from transcription_assets.speech import DecodedWindow, windows
from transcription_assets.storage import Store

WindowId = tuple[int, int]
"""Channel and number of a window, from 0."""
_CHECKPOINT = re.compile(r"/(\d+)-(\d+)\.json$")


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Checkpoints of one recording, so that a run that resumes after a kill repeats only the unfinished windows.

    `version` identifies the object, the model, the options and the windows for which they are valid.
    """

    store: Store
    key: str
    version: str

    def get(self, window: WindowId) -> DecodedWindow | None:
        """Return the checkpoint; None if there is none or it is damaged.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        try:
            return windows.from_json(self.store.read(self._path(window)))
        except (NotFound, ValueError):
            return None

    def put(self, window: WindowId, done: DecodedWindow) -> None:
        """Write the checkpoint.

        Raises:
            TranscriptionError: the store denies access, is full or does not answer.

        """
        self.store.write(self._path(window), done.to_json())

    def present(self) -> set[WindowId]:
        """Return the windows that have a checkpoint; a damaged one counts.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        folder = self._path((0, 0)).rpartition("/")[0]
        return windows_in(self.store.list(f"{folder}/"))

    def discard(self, window: WindowId) -> None:
        """Delete one checkpoint.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        self.store.delete(self._path(window))

    def clear(self) -> None:
        """Delete all checkpoints of the recording, also those of older versions.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        self.store.delete_below(media_keys.checkpoints(self.key))

    def _path(self, window: WindowId) -> str:
        return media_keys.checkpoint(self.key, sha256(self.version.encode()).hexdigest()[:16], *window)


def windows_in(paths: Iterable[str]) -> set[WindowId]:
    """Return the windows of these checkpoints; other paths are ignored."""
    found = (_CHECKPOINT.search(path) for path in paths)
    return {(int(name[1]), int(name[2])) for name in found if name}
