"""Windows, pieces and their vectors; the networks are replaced."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets import models
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import Located
from transcription_assets.speakers.diariser import Bounds
from transcription_assets.speakers.extraction import (
    EDGE,
    FRAME_S,
    HOP,
    HOP_FRAMES,
    LONGEST_S,
    Extractor,
    pieces_of,
    windows_of,
)
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
    middles = np.concatenate([window[EDGE : EDGE + HOP] for window in found])
    assert np.array_equal(middles[: len(samples)], samples)
    assert not middles[len(samples) :].any()
    assert len(found) == -(-len(samples) // HOP)


@given(st.integers(0, 40), st.integers(1, 40))
def test_windows_are_as_many_as_the_length_demands(tenths: int, size: int) -> None:
    samples = np.ones(tenths * HOP // 10, np.float32)
    assert len(list(windows_of(blocks(samples, size * HOP // 10)))) == -(-len(samples) // HOP)


def test_no_samples_have_no_windows() -> None:
    assert list(windows_of([])) == []


def test_each_piece_has_one_unit_vector() -> None:
    done: list[float] = []
    found = Extractor(LoudIsFirst(), Mean()).extract([noise(250.0)], [(0.0, 250.0)], done.append)
    assert {piece.voice for piece in found.pieces} == {0}
    assert found.vectors.shape == (len(found.pieces), 192)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0)
    assert done[-1] >= 250.0
    assert all(found.active(piece).all() for piece in found.pieces)


def test_a_vector_belongs_to_its_piece() -> None:
    class Level(torch.nn.Module):
        """A fake voice network: the axis of the number of frames."""

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            axis = torch.full((len(features),), features.shape[1] // 25)
            return torch.nn.functional.one_hot(axis, 192).float()

    class Every(torch.nn.Module):
        """A fake segmentation: one voice in four runs of different lengths."""

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            classes = torch.zeros(len(samples), FRAMES, dtype=torch.long)
            for start, length in ((80, 40), (150, 65), (240, 95), (370, 125)):
                classes[:, start : start + length] = 1
            return classes

    found = Extractor(Every(), Level()).extract([noise(300.0)], [(0.0, 300.0)], lambda _seconds: None)
    assert len(found.pieces) == 4 * 40
    steps = np.array([int(piece.seconds / 0.25) for piece in found.pieces])
    assert np.abs(found.vectors.argmax(1) - steps).max() <= 1
    assert len({*found.vectors.argmax(1).tolist()}) == 4


def test_silence_and_no_samples_have_no_pieces() -> None:
    for samples in ([], [np.zeros(400_000, np.float32)], [np.zeros(10, np.float32)]):
        found = Extractor(LoudIsFirst(), Mean()).extract(samples, [(0.0, 25.0)], lambda _seconds: None)
        assert (found.pieces, len(found.vectors)) == ((), 0)


def test_windows_without_voiced_spans_are_skipped() -> None:
    found = Extractor(LoudIsFirst(), Mean()).extract([noise(60.0)], [(41.0, 43.0)], lambda _seconds: None)
    heard = {piece.start // HOP_FRAMES for piece in found.pieces}
    assert heard == {int(41.0 / (HOP / SAMPLE_RATE))}


@given(st.lists(st.tuples(st.integers(0, 444), st.integers(1, 300), st.integers(0, 2)), max_size=12))
def test_pieces_hold_all_speech_once_and_are_short(spoken: list[tuple[int, int, int]]) -> None:
    active = np.zeros((HOP_FRAMES, 3), bool)
    for start, length, voice in spoken:
        active[start : start + length, voice] = True
    held = np.zeros(active.shape, int)
    for start, end, voice in pieces_of(active):
        assert 0 < end - start <= round(LONGEST_S / FRAME_S)
        assert active[start:end, voice].any()
        held[start:end, voice] += 1
    assert (held[active] == 1).all()
    assert held.max() <= 1


def test_a_long_piece_is_cut_at_its_longest_pause() -> None:
    active = np.zeros((HOP_FRAMES, 3), bool)
    active[100:300, 1] = True
    active[160:165, 1] = active[190:200, 1] = False
    assert pieces_of(active) == [(100, 195, 1), (195, 300, 1)]


def test_another_voice_in_a_pause_ends_a_piece() -> None:
    active = np.zeros((HOP_FRAMES, 3), bool)
    active[100:130, 0] = active[142:170, 0] = active[131:141, 2] = True
    assert pieces_of(active) == [(100, 130, 0), (142, 170, 0), (131, 141, 2)]


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
