"""Asset checks follow from the transcript alone."""

from transcription_assets.defs import checks
from transcription_assets.domain.transcript import Media, Speech, SpeechModel, Transcript


def silent(speech: Speech) -> Transcript:
    model = SpeechModel("base", "1", "int8", "scripted")
    return Transcript("a.mp3", "", 0.0, 60.0, (), Media("audio/a.mp3", "1"), model, speech=speech)


def test_a_stretch_that_was_not_understood_fails_coverage() -> None:
    assert not checks.speech_coverage(silent(Speech(6.0, 0.0, 6.0, gaps=((2.0, 8.0),)))).passed


def test_a_recording_in_which_nobody_speaks_passes_coverage() -> None:
    assert checks.speech_coverage(silent(Speech(0.0, 0.0, 0.0))).passed
