"""Word errors and speed from the command line, and difficult audio, with the real model."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from transcription_assets import models, settings
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation import comparison, competitors, wer
from transcription_assets.media import read_samples
from transcription_assets.speech import (
    SAMPLE_RATE,
    AudioSource,
    Hardware,
    Samples,
    SpeechOptions,
    SpeechResult,
    Whisper,
    audio_source,
    transcribe,
)
from transcription_assets_tests import recordings
from transcription_assets_tests.demo import BEES, BREAD, FOLDER, TOLD, WIZARD
from transcription_assets_tests.speech.spelling import seekable


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Return about eleven seconds of speech."""
    path = recordings.make(tmp_path_factory.mktemp("spoken") / "a.wav", "-t", "11.5", "-i", str(WIZARD), "-ac", "1")
    return np.concatenate([*read_samples(path, ffmpeg=recordings.wheel_ffmpeg())])


def file_source(path: Path) -> AudioSource:
    """Return the audio of a file, which is decoded each time it is read."""
    return AudioSource(lambda _channel, start: read_samples(path, ffmpeg=recordings.wheel_ffmpeg(), start=start))


@pytest.fixture(scope="module")
def engine() -> Whisper:
    located = models.locate("base", "speech", settings.load().models_dir)
    return Whisper(located.path, name="base", revision="", hardware=Hardware("cpu"))


def words(heard: SpeechResult) -> str:
    return " ".join(segment.text for segment in heard.segments).lower()


@pytest.mark.models
@pytest.mark.usefixtures("tiny_model")
def test_the_comparison_lists_word_errors_per_configuration(tmp_path: Path) -> None:
    recordings.make(tmp_path / "refs" / "a.wav", "-t", "11.5", "-i", str(WIZARD), "-ac", "1")
    (tmp_path / "refs" / "a.txt").write_text("these are not the words at all", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("transcription-assets")), "eval", "wer", str(tmp_path / "refs")]
    options = ["--model", "tiny.en", "--system", "ours", "--system", "plain", "--json"]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True, timeout=200)
    document = json.loads(done.stdout)
    ours, plain = document["configurations"]
    assert (ours["system"], plain["system"]) == ("ours", "plain")
    assert ours["words"] == plain["words"] == 7
    assert ours["wer"] > 0.5
    assert 0 < ours["coverage"] <= 1
    assert plain["coverage"] is None
    assert min(ours["rtfx"], plain["rtfx"], ours["peak_mb"]) > 0


def test_a_folder_without_reference_texts_is_refused(tmp_path: Path) -> None:
    recordings.tone(tmp_path / "a.wav")
    with pytest.raises(PermanentFailure, match=r"a\.txt"):
        comparison.find_recordings([tmp_path], texts=True)
    assert [item.reference for item in comparison.find_recordings([tmp_path], texts=False)] == [None]


def test_invalid_input_is_refused_before_any_work(tmp_path: Path) -> None:
    recordings.tone(tmp_path / "good.wav")
    (tmp_path / "good.txt").write_bytes(b"\xef\xbb\xbfnothing at all")
    (tmp_path / "broken.wav").write_text("no sound")
    [good] = comparison.find_recordings([tmp_path], texts=True)
    assert good.reference == "nothing at all", "files without a text are ignored"
    with pytest.raises(PermanentFailure, match=r"broken\.wav: "):
        comparison.find_recordings([tmp_path], texts=False)
    (tmp_path / "good.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PermanentFailure, match=r"good\.txt"):
        comparison.find_recordings([tmp_path], texts=True)


def test_unknown_or_missing_systems_are_refused_before_any_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    competitors.require(["ours", "plain"])
    with pytest.raises(PermanentFailure, match="nobody") as caught:
        competitors.require(["ours", "nobody"])
    assert "ours, plain" in caught.value.hint
    monkeypatch.setattr(competitors, "available", lambda: ["ours"])
    with pytest.raises(PermanentFailure) as caught:
        competitors.require(["ours", "whisperx"])
    assert "pip install whisperx" in caught.value.hint


def test_our_systems_are_always_available() -> None:
    assert {"ours", "plain", "sequential", "batched"} <= set(competitors.available())


@pytest.mark.models
def test_difficult_audio_gives_a_result_without_hallucinations(engine: Whisper, spoken: Samples) -> None:
    silence = np.zeros(120 * SAMPLE_RATE, np.float32)
    spoken = spoken[: 5 * SAMPLE_RATE]
    sounds = {
        "speech": spoken,
        "clipped": np.clip(spoken * 8, -1, 1),
        "quiet": spoken * np.float32(0.05),
        "telephone": np.repeat(spoken[::2], 2)[: len(spoken)],
        "a few words in long silence": np.concatenate([silence, spoken, silence]),
        "not a number": np.where(np.arange(len(spoken)) % 5000 == 0, np.nan, spoken).astype(np.float32),
        "a blink": spoken[: SAMPLE_RATE // 3],
        "silence": silence,
        "noise": np.random.default_rng(7).normal(0, 0.1, 20 * SAMPLE_RATE).astype(np.float32),
    }
    answers = dict(zip(sounds, transcribe(engine, map(audio_source, sounds.values())), strict=True))
    heard = {name: answer for name, answer in answers.items() if isinstance(answer, SpeechResult)}
    assert heard.keys() == sounds.keys(), answers
    for name in ("speech", "clipped", "quiet", "telephone", "not a number", "a few words in long silence"):
        assert "wizard" in words(heard[name]) or heard[name].speech.coverage > 0.5, name
    assert words(heard["silence"]) == words(heard["noise"]) == ""
    lonely = heard["a few words in long silence"]
    assert all(119 < segment.start < 127 for segment in lonely.segments)
    for answer in heard.values():
        assert not answer.speech.hallucinations


@pytest.mark.models
def test_alternating_languages_are_transcribed_by_sentence(engine: Whisper) -> None:
    """Decoding a bilingual chunk in one language would lose every other sentence."""
    truth = {FOLDER / entry["file"]: entry for entry in json.loads(TOLD.read_text(encoding="utf-8"))}
    ffmpeg = recordings.wheel_ffmpeg()
    parts, said, pause = [], [], np.zeros(SAMPLE_RATE // 2, np.float32)
    for english, italian in zip(truth[BEES]["sentences"][:2], truth[BREAD]["sentences"], strict=False):
        for path, sentence in ((BEES, english), (BREAD, italian)):
            start, end = sentence["start"] - 0.05, sentence["end"] + 0.1
            parts += [*read_samples(path, ffmpeg=ffmpeg, start=max(start, 0.0), duration=end - start), pause]
            said.append(sentence["text"])
    [heard] = transcribe(engine, [audio_source(np.concatenate(parts))])
    assert isinstance(heard, SpeechResult)
    assert heard.languages.keys() == {"en", "it"}
    assert wer.errors(" ".join(said), words(heard), "").rate < 0.25
    assert [item.language for item in heard.segments][:4] == ["en", "it", "en", "it"]


@pytest.mark.models
def test_a_96_khz_recording_gives_the_same_words(engine: Whisper, tmp_path: Path) -> None:
    said = recordings.make(tmp_path / "a.flac", "-t", "11.5", "-i", str(WIZARD), "-ar", "96000", "-sample_fmt", "s32")
    [heard] = transcribe(engine, [file_source(said)])
    assert isinstance(heard, SpeechResult)
    assert heard.duration == pytest.approx(11.5, abs=0.1)
    assert "wizard" in words(heard)


@pytest.mark.models
def test_one_sentence_in_half_an_hour_of_silence_is_found(engine: Whisper, spoken: Samples) -> None:
    """Silence takes only the time of voice detection."""
    before, after = (np.zeros(minutes * 60 * SAMPLE_RATE, np.float32) for minutes in (21, 9))
    samples = np.concatenate([before, spoken[: 5 * SAMPLE_RATE], after])
    [heard] = transcribe(engine, [seekable(samples)])
    assert isinstance(heard, SpeechResult)
    assert heard.duration == pytest.approx(1805.0, abs=0.01)
    assert "wizard" in words(heard)
    assert all(1259 < segment.start <= segment.end < 1266 for segment in heard.segments)
    assert 2.0 < heard.speech.vad_seconds < 7.0
    assert not heard.speech.hallucinations


@pytest.mark.models
def test_the_translate_task_gives_english_text(tmp_path: Path) -> None:
    located = models.locate("base", "speech", settings.load().models_dir)
    options = SpeechOptions(task="translate")
    interpreter = Whisper(located.path, name="base", revision="", hardware=Hardware("cpu"), options=options)
    said = recordings.make(tmp_path / "a.wav", "-ss", "9.8", "-t", "8", "-i", str(BREAD), "-ac", "1")
    [heard] = transcribe(interpreter, [file_source(said)])
    assert isinstance(heard, SpeechResult)
    assert heard.language == "it", "the language is that of the speech"
    assert {"flour", "salt", "bread"} & set(words(heard).replace(",", " ").replace(".", " ").split())
    assert "farina" not in words(heard)


@pytest.mark.models
def test_a_monolingual_model_marks_foreign_speech(tmp_path: Path, tiny_model: models.Located) -> None:
    """An English model turns Italian into wrong words, which the search would find."""
    ear = Whisper(tiny_model.path, name="tiny.en", revision="", hardware=Hardware("cpu"))
    paths = [
        recordings.make(tmp_path / f"{number}.wav", "-t", "6", "-i", str(path), "-ac", "1")
        for number, path in enumerate((BREAD, WIZARD))
    ]
    italian, english = transcribe(ear, map(file_source, paths))
    assert isinstance(italian, SpeechResult)
    assert isinstance(english, SpeechResult)
    assert all(item.low_confidence for item in italian.segments)
    assert italian.segments or italian.speech.gaps
    assert english.segments
    assert not any(item.low_confidence for item in english.segments)
    assert {item.language_probability for item in english.segments} == {0.0}, (
        "an English model does not detect languages"
    )
    assert not english.speech.gaps


@pytest.mark.models
def test_an_unknown_language_is_refused() -> None:
    located = models.locate("base", "speech", settings.load().models_dir)
    wrong = Whisper(located.path, name="base", revision="", options=SpeechOptions(language="xx"))
    with pytest.raises(PermanentFailure, match="'xx'"):
        wrong.load()


@pytest.mark.models
def test_a_monolingual_model_refuses_to_translate(tiny_model: models.Located) -> None:
    wrong = Whisper(tiny_model.path, name="tiny.en", revision="", options=SpeechOptions(task="translate"))
    with pytest.raises(PermanentFailure, match="knows English only"):
        wrong.load()
