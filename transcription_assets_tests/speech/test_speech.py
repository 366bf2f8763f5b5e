from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech import SAMPLE_RATE, Samples, SpeechOptions, windowing
from transcription_assets.speech.assembly import by_sentence
from transcription_assets.speech.decoder import Chunk, ChunkDecoder, plain
from transcription_assets.speech.quality import is_silence, low_confidence_reason
from transcription_assets.speech.windowing import plan_windows, read_window


def _segment(**changes: float) -> Segment:
    good = {"language_probability": 0.9, "avg_logprob": -0.2, "no_speech_prob": 0.1, "compression_ratio": 1.5}
    return Segment(id=0, start=0.0, end=1.0, text="a", words=(), **good | changes)  # type: ignore[arg-type]


def test_decoder_output_becomes_plain_floats() -> None:
    word = SimpleNamespace(start=np.float64(0.1), end=np.float64(0.4), word=" hello", probability=np.float32(0.9))
    found = SimpleNamespace(
        start=np.float64(0.1),
        end=np.float64(0.4),
        text=" hello",
        words=[word],
        avg_logprob=np.float32(-0.1),
        no_speech_prob=np.float32(0.0),
        compression_ratio=np.float64(1.0),
    )
    made = plain(found)
    values = (
        made.start,
        made.end,
        made.avg_logprob,
        made.no_speech_prob,
        made.words[0].start,
        made.words[0].probability,
    )
    assert [type(value) for value in values] == [float] * len(values)


def test_a_guess_with_high_no_speech_probability_is_silence() -> None:
    assert is_silence(_segment(avg_logprob=-1.9, no_speech_prob=0.7))
    assert not is_silence(_segment(avg_logprob=-0.2, no_speech_prob=0.7))
    assert not is_silence(_segment(avg_logprob=-1.9, no_speech_prob=0.1))


def test_loops_and_guesses_have_low_confidence() -> None:
    assert low_confidence_reason(_segment(compression_ratio=2.5), 1.0) == "loop"
    assert low_confidence_reason(_segment(avg_logprob=-1.1), 1.0) == "guess"
    assert not low_confidence_reason(_segment(), 1.0)


def test_a_chunk_of_many_sentences_is_split_into_sentences() -> None:
    texts = [" It", " rained.", " We", " stayed", " in."]
    words = tuple(Word(float(number), number + 0.8, text, 0.9) for number, text in enumerate(texts))
    chunk = Segment(0, 0.0, 4.8, "".join(texts), words, -0.2, 0.1, 1.5, repaired=True)
    first, second = by_sentence(chunk)
    assert (first.text, second.text) == (" It rained.", " We stayed in.")
    assert (first.end, second.start) == (1.8, 2.0)
    assert first.repaired
    assert second.repaired


def _blocks(sound: Samples, length: int) -> Iterator[Samples]:
    for start in range(0, len(sound), length):
        yield sound[start : start + length]


@pytest.mark.parametrize("seconds", [0, 1, 29, 30, 31, 95])
def test_windows_together_equal_the_input_samples(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fake detector: one second of speech, one second of silence, and so on.
    def every_other_second(samples: Samples) -> list[Region]:
        return [Region(float(start), start + 1.0) for start in range(0, len(samples) // SAMPLE_RATE, 2)]

    monkeypatch.setattr(windowing, "voiced_regions", every_other_second)
    sound = np.arange(seconds * SAMPLE_RATE, dtype=np.float32) / 2e6
    found = list(plan_windows(_blocks(sound, 7 * SAMPLE_RATE), window_s=30.0))
    starts = (sound[round(cut.start * SAMPLE_RATE) :] for cut in found)
    read = [read_window(cut, _blocks(rest, 7 * SAMPLE_RATE)) for cut, rest in zip(found, starts, strict=True)]
    assert np.array_equal(np.concatenate(read or [sound[:0]]), sound.clip(-1.0, 1.0))
    for cut, samples in zip(found, read, strict=True):
        assert all(0 <= region.start < region.end <= cut.length for region in cut.voiced)
        assert len(samples) <= 37 * SAMPLE_RATE


def test_encoder_output_of_many_batches_is_joined_off_the_gpu() -> None:
    """The language of a bilingual chunk is detected per region, and the regions may exceed one batch."""

    class OnGpu:
        """Fake encoder output in GPU memory: it can only be read after a copy."""

        device = "cuda"

        def __init__(self, features: Samples) -> None:
            self._features = features

        def to_device(self, _device: str) -> Samples:
            return self._features

    class Extractor:
        """Fake extractor: all features are zero."""

        chunk_length, hop_length = 30, 160

        def __call__(self, samples: Samples) -> Samples:
            return np.zeros((80, len(samples) // 160 + 1), np.float32)

    def detect_language(encoded: Samples) -> list[list[tuple[str, float]]]:
        return [[("<|en|>", 1.0)]] * len(np.asarray(encoded))

    whisper = SimpleNamespace(is_multilingual=True, detect_language=detect_language)
    model = SimpleNamespace(model=whisper, encode=OnGpu, feature_extractor=Extractor())
    decoder = ChunkDecoder(model, SpeechOptions(), encode_at_once=2)
    stretches = [Chunk(np.zeros(SAMPLE_RATE, np.float32), (Region(0.0, 1.0),))] * 5
    assert decoder.tell_languages(stretches) == [[("en", 1.0)]] * 5
