"""Speech after noise, in two languages and repeated: the real model on sentences of the demo."""

import json
from collections.abc import Mapping

import numpy as np
import pytest

from transcription_assets import models, settings
from transcription_assets.evaluation import wer
from transcription_assets.media import find_ffmpeg, read_samples
from transcription_assets.speech import SAMPLE_RATE, Hardware, Samples, SpeechResult, Whisper, audio_source, transcribe
from transcription_assets.speech.vad import voiced_regions
from transcription_assets_tests.demo import BEES, BREAD, FOLDER, TOLD
from transcription_assets_tests.speech import backgrounds

TRUTH = {FOLDER / entry["file"]: entry["sentences"] for entry in json.loads(TOLD.read_text(encoding="utf-8"))}
SENTENCE = TRUTH[BEES][1]["text"]
NEXT = TRUTH[BEES][2]["text"]


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def said(path: object, first: int, last: int | None = None) -> Samples:
    """Return sentences of a demo recording."""
    sentences = TRUTH[path][first : (first if last is None else last) + 1]  # type: ignore[index]
    start, end = sentences[0]["start"] - 0.05, sentences[-1]["end"] + 0.1
    blocks = read_samples(str(path), ffmpeg=find_ffmpeg(), start=start, duration=end - start)
    return np.concatenate([*blocks])


@pytest.fixture(scope="module")
def sounds() -> Mapping[str, Samples]:
    english = said(BEES, 1, 2)
    # Of these sentences the model is sure (no-speech 0.06 of at most 0.3), so results do not depend on the CPU.
    faint = (said(BEES, 3, 4) * np.float32(10 ** (-60 / 20))).astype(np.float32)
    return {
        "after noise": backgrounds.after(60.0, "brown", backgrounds.telephone(english, 0.03)),
        "faint": np.concatenate([silence(12), faint, silence(3)]),
        "italian first": np.concatenate([said(BREAD, 7, 8), silence(0.8), said(BEES, 5)]),
        "english first": np.concatenate([said(BEES, 5), silence(0.8), said(BREAD, 9, 10)]),
        "repeated": np.concatenate([*[said(BEES, 1), silence(0.5)] * 6, said(BEES, 2)]),
    }


@pytest.fixture(scope="module")
def heard(sounds: Mapping[str, Samples]) -> Mapping[str, SpeechResult]:
    """Transcribe all sounds in one batch."""
    located = models.locate("base", "speech", settings.load().models_dir)
    engine = Whisper(located.path, name="base", revision="", hardware=Hardware("cpu"))
    found = dict(zip(sounds, transcribe(engine, map(audio_source, sounds.values())), strict=True))
    assert not [answer for answer in found.values() if not isinstance(answer, SpeechResult)], found
    return found  # type: ignore[return-value]


def text(answer: SpeechResult) -> str:
    return " ".join(segment.text for segment in answer.segments)


@pytest.mark.models
def test_no_word_after_a_minute_of_noise_is_lost(heard: Mapping[str, SpeechResult]) -> None:
    answer = heard["after noise"]
    assert wer.errors(f"{SENTENCE} {NEXT}", text(answer), "").rate < 0.15
    assert answer.segments[0].start == pytest.approx(60.0, abs=0.6)
    assert not answer.speech.hallucinations


@pytest.mark.models
def test_speech_missed_by_the_detector_is_transcribed(
    heard: Mapping[str, SpeechResult], sounds: Mapping[str, Samples]
) -> None:
    assert voiced_regions(sounds["faint"]) == []
    spoken = " ".join(item["text"] for item in TRUTH[BEES][3:5])
    assert wer.errors(spoken, text(heard["faint"]), "").rate < 0.3
    assert heard["faint"].speech.vad_seconds > 5.0


@pytest.mark.models
@pytest.mark.parametrize(
    ("order", "languages", "first"), [("italian first", ["it", "en"], 7), ("english first", ["en", "it"], 9)]
)
def test_a_second_language_is_transcribed_in_that_language(
    heard: Mapping[str, SpeechResult], order: str, languages: list[str], first: int
) -> None:
    """Whisper gives Italian a probability of 98 % for each of these chunks."""
    answer = heard[order]
    parts = {"en": TRUTH[BEES][5]["text"], "it": " ".join(item["text"] for item in TRUTH[BREAD][first : first + 2])}
    assert wer.errors(" ".join(parts[language] for language in languages), text(answer), "").rate < 0.25
    assert list(dict.fromkeys(item.language for item in answer.segments)) == languages


@pytest.mark.models
def test_a_sentence_spoken_six_times_is_not_a_loop(heard: Mapping[str, SpeechResult]) -> None:
    answer = heard["repeated"]
    assert {item.low_confidence for item in answer.segments} == {""}
    assert 5 <= text(answer).count("hives") <= 7
    assert "50,000 bees" in text(answer)
