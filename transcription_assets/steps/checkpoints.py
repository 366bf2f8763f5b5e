"""The windows of a long recording that are transcribed already, in the store until all of it is."""

from dataclasses import dataclass
from hashlib import sha256

from transcription_assets import keys
from transcription_assets.failures import NotFound
from transcription_assets.speech import Place, Window, window
from transcription_assets.speech.windows import EARLIEST_SHARE, WINDOW_S
from transcription_assets.storage import Store


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """A killed run repeats the window in hand, not those before it.

    `version` names what they are good for: this very object, with this model and these options.
    """

    store: Store
    key: str
    version: str

    def get(self, place: Place, /) -> Window | None:
        """The window at this place, if it is kept and whole."""
        try:
            return window.from_json(self.store.read(self._path(place)))
        except (NotFound, ValueError, KeyError, TypeError):
            return None

    def __setitem__(self, place: Place, done: Window, /) -> None:
        """Keep it until the recording is done."""
        self.store.write(self._path(place), done.to_json())

    def clear(self, duration: float) -> None:
        """The recording is done: forget its windows, of older versions too. One shorter than a window has none."""
        if duration > WINDOW_S * EARLIEST_SHARE:
            self.store.delete(*self.store.list(keys.checkpoints(self.key)))

    def _path(self, place: Place) -> str:
        return keys.checkpoint(self.key, sha256(self.version.encode()).hexdigest()[:16], *place)
