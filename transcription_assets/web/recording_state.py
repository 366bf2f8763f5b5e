"""The state of a recording, derived from the artefacts of its current version. Pure."""

from dataclasses import dataclass
from typing import Literal

from transcription_assets.domain.transcript import Transcript
from transcription_assets.web.schemas import Silence, State

STEPS = ("video", "audio", "transcript", "embeddings")


@dataclass(frozen=True, slots=True)
class TranscriptState:
    """The part of a transcript that decides on a state.

    `etag` is the version of the recording that was transcribed. `silence` is "" if there is something to search.
    """

    etag: str
    silence: Silence


@dataclass(frozen=True, slots=True)
class ArtefactState:
    """The artefacts of the current version of a recording.

    `silence` is None without a transcript of this version. `rows` is the version of the rows in the search table:
    "current", only "older", or "" without rows. `failed` is the step of the last failure record, "" without one.
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


def recording_state(artefacts: ArtefactState) -> tuple[State, str]:
    """Return the state, and the step that failed or is next ("" if all are done).

    A recording is done once it is searchable, or if it has nothing to search. A failure is outdated as soon as a later
    step has a result.
    """
    if artefacts.rows == "current":
        return "done", ""
    if artefacts.failed and not _is_overtaken(artefacts):
        return "failed", artefacts.failed
    if artefacts.has_nothing_to_publish:
        return "done", ""
    return ("working" if artefacts.video else "waiting"), artefacts.next_step


def _is_overtaken(artefacts: ArtefactState) -> bool:
    return artefacts.failed in STEPS and STEPS.index(artefacts.failed) < STEPS.index(artefacts.next_step)


def spoken(transcript: Transcript, *, with_low_confidence: bool) -> TranscriptState:
    """Return the part of a transcript that decides on a state; `with_low_confidence` words count as searchable."""
    return TranscriptState(transcript.media.etag, silence(transcript, with_low_confidence=with_low_confidence))


def silence(transcript: Transcript, *, with_low_confidence: bool) -> Silence:
    """Return why a transcript has nothing to search, "" if it has something."""
    if transcript.no_speech:
        return "not_understood" if transcript.speech.gaps else "no_speech"
    searchable = with_low_confidence or any(not segment.low_confidence for segment in transcript.segments)
    return "" if searchable else "not_understood"
