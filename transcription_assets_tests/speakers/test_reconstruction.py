"""Turns of pieces with known activity."""

import numpy as np
import pytest

from transcription_assets.domain.speakers import Turn
from transcription_assets.speakers import reconstruction
from transcription_assets.speakers.extraction import ACTIVE, FRAME_S, HOP_FRAMES, Piece, SpeakerVectors, pieces_of
from transcription_assets.speakers.segmentation_network import CLASSES

FRAME = FRAME_S + 0.001


def extraction(spoken: list[tuple[float, float, int]], windows: int) -> SpeakerVectors:
    """Return what a perfect network finds of (start, end, voice); local voices are the voices."""
    active = np.zeros((windows * HOP_FRAMES, 3), bool)
    for start, end, voice in spoken:
        active[round(start / FRAME_S) : round(end / FRAME_S), voice] = True
    classes = np.array([CLASSES.index(tuple(np.flatnonzero(row).tolist())) for row in active], np.uint8)
    pieces = tuple(
        Piece(first + start, first + end, voice, 2.0, 2.0)
        for first in range(0, len(classes), HOP_FRAMES)
        for start, end, voice in pieces_of(ACTIVE[classes[first : first + HOP_FRAMES]])
    )
    return SpeakerVectors(classes, pieces, np.zeros((len(pieces), 1), np.float32))


def turns(spoken: list[tuple[float, float, int]], windows: int = 4) -> list[Turn]:
    found = extraction(spoken, windows)
    return reconstruction.turns_of(found, np.array([piece.voice for piece in found.pieces], np.intp), 3)


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
    assert found.end == pytest.approx(2 * HOP_FRAMES * FRAME_S + reconstruction.OFFSET_S)


def test_pieces_without_a_speaker_have_no_turn() -> None:
    found = extraction([(1.0, 3.0, 0), (4.0, 6.0, 1)], 1)
    (turn,) = reconstruction.turns_of(found, np.array([-1, 0]), 1)
    assert (turn.label, turn.start) == ("0", pytest.approx(4.0, abs=2 * FRAME))
