"""Windows, and what is kept of them; the networks are replaced."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from transcription_assets import models
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import Located
from transcription_assets.speakers.diariser import Bounds
from transcription_assets.speakers.extraction import HOP, Extractor, windows_of
from transcription_assets.speakers.local import LocalDiariser
from transcription_assets.speakers.segmentation_network import FRAMES, WINDOW
from transcription_assets.speech import SAMPLE_RATE, Samples, vad


class LoudIsFirst(torch.nn.Module):
    """A fake segmentation: all frames of a window with any sound are of the first voice."""

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return samples.abs().amax(1, keepdim=True).gt(0.01).long().expand(-1, FRAMES)


class Mean(torch.nn.Module):
    """A fake voice network with the vectors' length."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(features), 192)


def noise(seconds: float) -> Samples:
    return np.random.default_rng(1).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def blocks(samples: Samples, size: int) -> Iterator[Samples]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


@pytest.mark.parametrize("size", [1000, 100_000, 10_000_000])
def test_windows_cover_all_samples_for_any_block_size(size: int) -> None:
    samples = noise(27.3)
    found = list(windows_of(blocks(samples, size)))
    assert all(len(window) == WINDOW for window in found)
    for number, window in enumerate(found):
        expected = samples[number * HOP :][:WINDOW]
        assert np.array_equal(window[: len(expected)], expected)
    assert (len(found) - 1) * HOP + WINDOW >= len(samples)


def test_no_samples_have_no_windows() -> None:
    assert list(windows_of([])) == []


def test_each_voice_of_a_window_has_one_unit_vector() -> None:
    done: list[float] = []
    found = Extractor(LoudIsFirst(), Mean()).extract([noise(25.0)], [(0.0, 25.0)], done.append)
    assert [voice.voice for voice in found.voices] == [0] * len(found.classes)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0)
    assert done[-1] >= 20.0


def test_windows_without_voiced_spans_are_skipped() -> None:
    found = Extractor(LoudIsFirst(), Mean()).extract([noise(60.0)], [(41.0, 43.0)], lambda _seconds: None)
    heard = {voice.window * HOP / SAMPLE_RATE for voice in found.voices}
    assert heard
    assert all(start < 43.0 and start + 10.0 > 41.0 for start in heard)


def test_missing_weights_are_a_permanent_failure(tmp_path: object) -> None:
    diariser = LocalDiariser(Located(tmp_path, "x", "1"))  # type: ignore[arg-type]
    with pytest.raises(PermanentFailure, match="models pull"):
        diariser.diarise([noise(2.0)], [(0.0, 2.0)], Bounds())


@pytest.fixture(scope="module")
def real() -> LocalDiariser:
    return LocalDiariser(models.pull("campplus-segmentation", "voice", models.default_folder()))


@pytest.mark.models
@pytest.mark.parametrize("kind", ["silence", "noise", "a chord"])
def test_sound_without_speech_has_no_speakers(kind: str, real: LocalDiariser) -> None:
    time = np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6))
    samples = {"silence": np.zeros_like(time), "noise": noise(20.0), "a chord": 0.1 * chord}[kind]
    sound = samples.astype(np.float32)
    voiced = [(region.start, region.end) for region in vad.voiced_regions(sound)]
    assert real.diarise([sound], voiced, Bounds()).voiceprints == {}
