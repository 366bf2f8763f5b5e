"""Which pictures are examined, and which are the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.slides import sampling
from transcription_assets.slides.reader import Box
from transcription_assets.slides.sampling import Schedule
from transcription_assets_tests.slides import pictures


def test_a_new_line_of_text_differs() -> None:
    before = sampling.sketch(pictures.slide(1, "One heading"))
    after = sampling.sketch(pictures.slide(1, "One heading", "and one more line"))
    assert sampling.differ(before, after)
    assert not sampling.differ(before, before + np.float32(5))


def test_movement_beside_the_text_is_the_same_slide() -> None:
    one, other = pictures.slide(1, "A heading"), pictures.slide(1, "A heading")
    other[200:300, 400:600] = 0
    mask = sampling.mask_of([Box(0, 20, 640, 80)], pictures.WIDTH, pictures.HEIGHT)
    assert sampling.differ(sampling.sketch(one), sampling.sketch(other))
    assert sampling.same_within(mask, sampling.sketch(one), sampling.sketch(other))
    assert not sampling.same_within(mask, sampling.sketch(one), sampling.sketch(pictures.slide(1, "Another text")))


def test_boxes_outside_of_the_picture_make_no_error() -> None:
    mask = sampling.mask_of([Box(-50, -50, 5000, 5000)], 640, 360)
    assert mask.all()


def test_film_is_examined_less_and_less() -> None:
    schedule, examined = Schedule(), 0
    for second in range(0, 36_000, 2):
        if schedule.is_due(second):
            examined += 1
            schedule.note(second, has_text=False)
    assert examined == pytest.approx(36_000 / sampling.SPARSEST_S, rel=0.02)


def test_text_makes_the_schedule_dense_again() -> None:
    schedule = Schedule()
    for second in range(0, 200, 2):
        schedule.note(second, has_text=False)
    assert not schedule.is_due(198 + sampling.EVERY_S)
    schedule.note(220, has_text=True)
    assert schedule.is_due(220 + sampling.EVERY_S)


@given(st.one_of(st.none(), st.floats(0, 30 * 86_400)))
def test_pictures_of_a_recording_are_bounded(duration: float | None) -> None:
    assert sampling.interval(duration) >= sampling.EVERY_S
    assert (duration or 0) / sampling.interval(duration) <= sampling.MOST_PICTURES + 1


@given(st.floats(0, 30 * 86_400))
def test_slides_and_readings_are_bounded(at: float) -> None:
    assert not sampling.may_have(sampling.MOST_SLIDES, at)
    assert not sampling.may_read(sampling.MOST_READ, at)
    assert sampling.may_have(sampling.FIRST - 1, at)
