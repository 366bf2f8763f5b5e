"""Checks computed from a transcript."""

from transcription_assets.domain.transcript import Media, Speech, SpeechModel, Transcript
from transcription_assets.pipeline import quality_checks


def silent(speech: Speech) -> Transcript:
    model = SpeechModel("base", "1", "int8", "scripted")
    return Transcript("a.mp3", "", 0.0, 60.0, (), Media("audio/a.mp3", "1"), model, speech=speech)


def test_speech_without_words_fails_the_coverage_check() -> None:
    assert not quality_checks.speech_coverage(silent(Speech(6.0, 0.0, 6.0, gaps=((2.0, 8.0),)))).passed


def test_recording_without_speech_passes_the_coverage_check() -> None:
    assert quality_checks.speech_coverage(silent(Speech(0.0, 0.0, 0.0))).passed
