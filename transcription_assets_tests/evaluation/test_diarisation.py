"""Measures of diarisation, on turns whose errors are known."""

from pathlib import Path

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation.diarisation import equal_error_rate, found_at, mapping, score
from transcription_assets.evaluation.speakers import read_rttm

REFERENCE = [(0.0, 10.0, "ada"), (10.0, 20.0, "bob")]


def test_other_names_are_no_error() -> None:
    assert score(REFERENCE, [(0.0, 10.0, "2"), (10.0, 20.0, "1")]).rate == 0.0


def test_a_single_speaker_for_two_confuses_half() -> None:
    found = score(REFERENCE, [(0.0, 20.0, "1")], collar_s=0.0)
    assert (found.confused, found.missed, found.false_alarm) == (pytest.approx(10.0), 0.0, 0.0)
    assert found.rate == pytest.approx(0.5)


def test_missed_speech_and_false_alarms_are_counted() -> None:
    found = score(REFERENCE, [(2.0, 10.0, "1"), (10.0, 23.0, "2")], collar_s=0.0)
    assert (found.missed, found.false_alarm) == (pytest.approx(2.0), pytest.approx(3.0))


def test_the_collar_forgives_small_shifts() -> None:
    shifted = [(0.2, 10.2, "1"), (10.2, 20.2, "2")]
    assert score(REFERENCE, shifted).rate == 0.0
    assert score(REFERENCE, shifted, collar_s=0.0).rate > 0.0


def test_overlap_counts_for_each_speaker_or_not_at_all() -> None:
    both = [(0.0, 10.0, "ada"), (5.0, 10.0, "bob")]
    found = [(0.0, 10.0, "1")]
    assert score(both, found, collar_s=0.0).missed == pytest.approx(5.0)
    assert score(both, found, collar_s=0.0, with_overlap=False).rate == 0.0


def test_without_any_speech_found_all_is_missed() -> None:
    assert score(REFERENCE, []).rate == pytest.approx(1.0)
    assert score([], []).rate == 0.0


def test_the_mapping_names_found_speakers() -> None:
    assert mapping(REFERENCE, [(0.0, 9.0, "1"), (11.0, 20.0, "2"), (20.0, 21.0, "3")]) == {"1": "ada", "2": "bob"}


def test_equal_error_rate_of_known_similarities() -> None:
    assert equal_error_rate([0.9, 0.8, 0.7], [0.1, 0.2, 0.3])[0] == 0.0
    assert equal_error_rate([0.9, 0.8, 0.2], [0.1, 0.3, 0.85])[0] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="needed"):
        equal_error_rate([], [0.1])


def test_voices_found_again_at_a_false_accept_rate() -> None:
    different = [number / 100 for number in range(100)]
    share, threshold = found_at([0.5, 0.995, 0.999, 1.0], different, 0.01)
    assert (share, threshold) == (0.75, 0.99)


def test_rttm_lines_are_read_and_damaged_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text("SPEAKER a 1 1.5 2.0 <NA> <NA> ada <NA> <NA>\n;; a comment\n", encoding="utf-8")
    assert read_rttm(path) == [(1.5, 3.5, "ada")]
    path.write_text("SPEAKER a 1 x\n", encoding="utf-8")
    with pytest.raises(PermanentFailure, match=r"a\.rttm, line 1"):
        read_rttm(path)
