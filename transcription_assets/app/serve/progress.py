"""The state of a recording, decided from what the store holds of its current version. Pure."""

from dataclasses import dataclass
from typing import Literal

from transcription_assets.app.serve.shapes import Silence, State
from transcription_assets.transcript import Transcript

STEPS = ("video", "audio", "transcript", "embeddings")


@dataclass(frozen=True, slots=True)
class Spoken:
    """The part of a transcript that decides on a state.

    `etag` is the version of the recording that was transcribed. `silence` is "" if there is something to search.
    """

    etag: str
    silence: Silence


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds of the current version of a recording.

    `silence` is None without a transcript of this version. `rows` says whose rows the search table holds: this
    version's, only those of an older one, or none. `failed` is the step of the last failure note, "" without one.
    """

    video: bool = False
    audio: bool = False
    silence: Silence | None = None
    passages: bool = False
    rows: Literal["", "older", "current"] = ""
    failed: str = ""

    @property
    def next_step(self) -> str:
        """The first step without a result."""
        return STEPS[(self.video, self.audio, self.silence is not None, False).index(False)]

    @property
    def has_nothing_to_publish(self) -> bool:
        """True if the last step is done although the search table has no rows of the recording."""
        return bool(self.silence) and self.passages and not self.rows


def progress(held: Held) -> tuple[State, str]:
    """Return the state and the step that failed or comes next ("" if all are done).

    A recording is done once it can be found, or if there is nothing in it to be found. A failure counts until a step
    after it has a result.
    """
    if held.rows == "current":
        return "done", ""
    if held.failed and not _is_overtaken(held):
        return "failed", held.failed
    if held.has_nothing_to_publish:
        return "done", ""
    return ("working" if held.video else "waiting"), held.next_step


def _is_overtaken(held: Held) -> bool:
    return held.failed in STEPS and STEPS.index(held.failed) < STEPS.index(held.next_step)


def spoken(transcript: Transcript, *, with_doubtful: bool) -> Spoken:
    """Reduce a transcript; `with_doubtful` tells whether the search takes words that are in doubt."""
    return Spoken(transcript.media.etag, silence(transcript, with_doubtful=with_doubtful))


def silence(transcript: Transcript, *, with_doubtful: bool) -> Silence:
    """Return why there is nothing to search in a transcript, "" if there is something."""
    if transcript.no_speech:
        return "not_understood" if transcript.speech.holes else "no_speech"
    searchable = with_doubtful or any(not segment.doubt for segment in transcript.segments)
    return "" if searchable else "not_understood"
