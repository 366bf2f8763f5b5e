"""Turns of local voices with known activity."""

import numpy as np
import pytest

from transcription_assets.domain.speakers import Turn
from transcription_assets.speakers import reconstruction
from transcription_assets.speakers.extraction import FRAME_S, HOP_FRAMES, Extraction, LocalVoice
from transcription_assets.speakers.segmentation_network import CLASSES, FRAMES

FRAME = FRAME_S + 0.001


def extraction(spoken: list[tuple[float, float, int]], windows: int) -> Extraction:
    """Return what a perfect network finds of (start, end, voice); local voices are the voices."""
    length = (windows - 1) * HOP_FRAMES + FRAMES
    active = np.zeros((length, 3), bool)
    for start, end, voice in spoken:
        active[round(start / FRAME_S) : round(end / FRAME_S), voice] = True
    codes = [CLASSES.index(tuple(np.flatnonzero(row).tolist())) for row in active]
    classes = np.array([codes[at * HOP_FRAMES :][:FRAMES] for at in range(windows)], np.uint8)
    voices = tuple(LocalVoice(at, voice, 5.0, 5.0) for at in range(windows) for voice in range(3))
    return Extraction(classes, voices, np.zeros((len(voices), 1), np.float32))


def turns(spoken: list[tuple[float, float, int]], windows: int = 4) -> list[Turn]:
    found = extraction(spoken, windows)
    return reconstruction.turns_of(found, np.array([voice.voice for voice in found.voices]), 3)


def assert_times(found: list[Turn], expected: list[tuple[float, float, str]]) -> None:
    assert [turn.label for turn in found] == [label for _, _, label in expected]
    for turn, (start, end, _) in zip(found, expected, strict=True):
        assert turn.start == pytest.approx(start, abs=2 * FRAME + reconstruction.OFFSET_S)
        assert turn.end == pytest.approx(end, abs=2 * FRAME + reconstruction.OFFSET_S)


def test_turns_cross_the_borders_of_windows() -> None:
    assert_times(turns([(1.0, 12.0, 0), (13.0, 24.0, 1)]), [(1.0, 12.0, "0"), (13.0, 24.0, "1")])


def test_short_pauses_do_not_end_a_turn() -> None:
    assert_times(turns([(1.0, 3.0, 0), (3.3, 5.0, 0), (7.0, 8.0, 0)]), [(1.0, 5.0, "0"), (7.0, 8.0, "0")])


def test_overlap_is_marked_and_cut_out() -> None:
    found = turns([(1.0, 6.0, 0), (4.0, 9.0, 1)])
    assert_times(found, [(1.0, 4.0, "0"), (4.0, 6.0, "0"), (4.0, 6.0, "1"), (6.0, 9.0, "1")])
    assert [turn.overlap for turn in found] == [False, True, True, False]


def test_turns_too_short_for_a_word_are_left_out() -> None:
    assert turns([(1.0, 1.1, 0)]) == []


def test_silence_has_no_turns() -> None:
    assert turns([]) == []


def test_a_turn_ends_with_the_recording() -> None:
    (found,) = turns([(1.0, 60.0, 0)], windows=2)
    assert found.end == pytest.approx((HOP_FRAMES + FRAMES) * FRAME_S + reconstruction.OFFSET_S)
