"""Lines and characters from scripted outputs of the networks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.slides.boxes import MOST_LINES, decode, places_of


def empty() -> np.ndarray:  # type: ignore[type-arg]
    return np.zeros((180, 320), np.float32)


def test_a_line_is_grown_and_scaled() -> None:
    probabilities = empty()
    probabilities[50:60, 100:200] = 0.9
    (place,) = places_of(probabilities, 2.0)
    assert (place.x, place.y, place.slope) == (300.0, 110.0, 0.0)
    assert place.box.left < 200
    assert place.box.right > 400
    assert 20 < place.height < 60


def test_a_sloping_line_keeps_its_height() -> None:
    probabilities = empty()
    columns = np.arange(60, 260)
    for column in columns:
        row = round(90 + (column - 160) * np.tan(np.radians(8)))
        probabilities[row - 4 : row + 5, column] = 0.9
    (place,) = places_of(probabilities, 1.0)
    assert np.degrees(place.slope) == pytest.approx(8, abs=1)
    assert place.height < 30
    assert place.box.height > place.height


def test_specks_faint_areas_and_surfaces_are_no_lines() -> None:
    probabilities = empty()
    probabilities[10:12, 10:100] = 0.9
    probabilities[50:60, 10:100] = 0.4
    probabilities[80:179, 10:300] = 0.9
    assert places_of(probabilities, 1.0) == []


def test_noise_gives_a_bounded_number_of_lines() -> None:
    noise = np.kron(np.random.default_rng(1).random((60, 80), np.float32), np.ones((4, 4), np.float32))
    assert len(places_of(noise, 1.0)) <= MOST_LINES


@pytest.mark.parametrize(
    ("indexes", "text"), [([1, 1, 0, 1, 2], "aab"), ([0, 0], ""), ([], ""), ([2, 2, 2], "b"), ([3, 0, 3], "  ")]
)
def test_repetitions_without_a_blank_are_one_character(indexes: list[int], text: str) -> None:
    probabilities = np.full((len(indexes), 4), 0.1, np.float32)
    probabilities[range(len(indexes)), indexes] = 0.7
    found, confidence = decode(probabilities, ["", "a", "b", " "])
    assert found == text
    assert confidence == pytest.approx(0.7 if text else 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 64), st.integers(1, 64))
def test_any_map_gives_places_or_none(seed: int, height: int, width: int) -> None:
    probabilities = np.random.default_rng(seed).random((height, width), np.float32)
    for place in places_of(probabilities, 1.5):
        assert np.isfinite([*place, *place.corners]).all()
