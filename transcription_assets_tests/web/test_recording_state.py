"""The state of a recording for every combination of its artefacts in the store."""

from dataclasses import replace
from itertools import product

import pytest

from transcription_assets.domain.transcript import Media, Segment, Speech, SpeechModel, Transcript
from transcription_assets.web.recording_state import STEPS, ArtefactState, recording_state, spoken

FLAGS = (False, True)
SILENCES = (None, "", "no_speech", "not_understood")
ROWS = ("", "older", "current")
EVERY = [
    ArtefactState(*found)  # type: ignore[arg-type]  # the product of the fields' values
    for found in product(FLAGS, FLAGS, SILENCES, FLAGS, ROWS, ("", *STEPS, "costs"))
]

PROBED = ArtefactState(video=True)
HEARD = replace(PROBED, audio=True)
WRITTEN = replace(HEARD, silence="")
MUTE = replace(HEARD, silence="no_speech")


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (ArtefactState(), ("waiting", "video")),
        (ArtefactState(passages=True, rows="older"), ("waiting", "video")),
        (PROBED, ("working", "audio")),
        (HEARD, ("working", "transcript")),
        (WRITTEN, ("working", "embeddings")),
        (replace(WRITTEN, passages=True), ("working", "embeddings")),
        (replace(WRITTEN, passages=True, rows="older"), ("working", "embeddings")),
        (replace(WRITTEN, passages=True, rows="current"), ("done", "")),
        (MUTE, ("working", "embeddings")),
        (replace(MUTE, passages=True), ("done", "")),
        (replace(MUTE, silence="not_understood", passages=True), ("done", "")),
        (replace(MUTE, passages=True, rows="older"), ("working", "embeddings")),
        (ArtefactState(failed="video"), ("failed", "video")),
        (replace(PROBED, failed="video"), ("working", "audio")),
        (replace(PROBED, failed="audio"), ("failed", "audio")),
        (replace(WRITTEN, failed="transcript"), ("working", "embeddings")),
        (replace(WRITTEN, passages=True, failed="embeddings"), ("failed", "embeddings")),
        (replace(MUTE, passages=True, failed="embeddings"), ("failed", "embeddings")),
        (replace(WRITTEN, rows="current", failed="transcript"), ("done", "")),
    ],
)
def test_state_and_next_step_follow_from_the_artefacts(held: ArtefactState, expected: tuple[str, str]) -> None:
    assert recording_state(held) == expected


def test_recording_with_speech_is_done_only_if_published() -> None:
    for held in EVERY:
        if not held.silence:
            assert (recording_state(held)[0] == "done") == (held.rows == "current"), held


def test_silent_recording_is_done_with_embeddings_and_no_rows() -> None:
    for held in EVERY:
        state, _ = recording_state(held)
        if held.silence and held.rows != "current" and not held.failed:
            assert (state == "done") == (held.passages and not held.rows), held


def test_failure_counts_until_its_step_has_a_result() -> None:
    for held in EVERY:
        if held.rows != "current":
            open_steps = STEPS[STEPS.index(held.next_step) :]
            assert (recording_state(held)[0] == "failed") == (held.failed in {*open_steps, "costs"}), held


def test_step_is_the_failed_one_or_the_next_one() -> None:
    for held in EVERY:
        state, step = recording_state(held)
        assert step == {"done": "", "failed": held.failed}.get(state, held.next_step), held
        assert state != "waiting" or not held.video, held


def said(*reasons: str, gaps: tuple[tuple[float, float], ...] = ()) -> Transcript:
    segments = tuple(
        Segment(n, n, n + 1, "Word.", (), 0.0, 0.0, 1.0, low_confidence=reason) for n, reason in enumerate(reasons)
    )
    model = SpeechModel("none", "1", "none", "none")
    return Transcript("a", "en", 1.0, 9.0, segments, Media("a", "7"), model, speech=Speech(9.0, 0.0, 9.0, gaps))


@pytest.mark.parametrize(
    ("transcript", "with_low_confidence", "silence"),
    [
        (said(), False, "no_speech"),
        (said(gaps=((1.0, 8.0),)), False, "not_understood"),
        (said("", "loop"), False, ""),
        (said("loop", "loop"), False, "not_understood"),
        (said("loop", "loop"), True, ""),
    ],
)
def test_silence_is_derived_from_the_transcript(
    transcript: Transcript, silence: str, *, with_low_confidence: bool
) -> None:
    assert spoken(transcript, with_low_confidence=with_low_confidence).silence == silence
    assert spoken(transcript, with_low_confidence=with_low_confidence).etag == "7"
