"""Slides from pictures, with a scripted reader."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from transcription_assets.media.pictures import Picture, Pixels
from transcription_assets.slides import sampling
from transcription_assets.slides.finder import RETURN_S, Slide, SlideFinder
from transcription_assets.slides.reader import Box, Line
from transcription_assets_tests.slides import pictures
from transcription_assets_tests.slides.pictures import ScriptedReader

TEXTS = {1: ["First heading", "One item"], 2: ["Second heading"], 3: ["A third one, quite different"]}


def shown(number: int) -> Pixels:
    return pictures.slide(number, *TEXTS[number])


def found(
    shots: list[tuple[float, Pixels]], reader: ScriptedReader | None = None, end: float | None = None
) -> list[Slide]:
    return [slide for slide, _ in finder(reader).slides((Picture(at, pixels) for at, pixels in shots), end)]


def finder(reader: ScriptedReader | None = None) -> SlideFinder:
    return SlideFinder(reader or ScriptedReader(dict(TEXTS)), lambda _start, _end: ())


def every_two_s(*parts: tuple[Pixels, int]) -> list[tuple[float, Pixels]]:
    shots: list[tuple[float, Pixels]] = []
    for pixels, count in parts:
        shots += [(2.0 * (len(shots) + number), pixels) for number in range(count)]
    return shots


def test_each_slide_has_its_span() -> None:
    slides = found(every_two_s((shown(1), 5), (shown(2), 3)), end=17.0)
    assert slides == [Slide(1, 0.0, 10.0, "First heading\nOne item"), Slide(2, 10.0, 17.0, "Second heading")]


def test_a_slide_is_read_once_while_it_is_shown() -> None:
    reader = ScriptedReader(dict(TEXTS))
    found(every_two_s((shown(1), 500)), reader)
    assert (reader.found, reader.read_numbers) == (1, [1])


def test_a_speaker_between_does_not_split_a_slide() -> None:
    slides = found(every_two_s((shown(1), 3), (pictures.film_frame(1), 3), (shown(1), 3)))
    assert [(slide.start, slide.end) for slide in slides] == [(0.0, 16.0)]


def test_a_slide_that_returns_later_is_another_one() -> None:
    away = int(RETURN_S / 2) + 2
    slides = found(every_two_s((shown(1), 3), (shown(2), away), (shown(1), 3)))
    assert [slide.text for slide in slides] == ["First heading\nOne item", "Second heading", "First heading\nOne item"]
    assert [slide.number for slide in slides] == [1, 2, 3]


def test_similar_texts_are_one_slide_with_the_longer_one() -> None:
    reader = ScriptedReader({1: ["A long heading of a slide"], 2: ["A long heading of a slide."], 3: ["no"]})
    second = pictures.slide(2, "x" * 30)
    assert [slide.text for slide in found(every_two_s((shown(1), 2), (second, 2)), reader)] == [
        "A long heading of a slide"
    ]


@dataclass
class Deceived(ScriptedReader):
    """FAKE: takes the film in the lower right corner for text, but reads none there."""

    def find(self, pixels: Pixels) -> list[Box]:
        height, width = pixels.shape[:2]
        return [Box(0, 0, width, 0.3 * height), Box(0.6 * width, 0.5 * height, width, height)]

    def read(self, pixels: Pixels) -> list[Line]:
        return [replace(line, box=Box(0, 0, 640, 100)) for line in super().read(pixels)]


def with_film(number: int, seed: int) -> Pixels:
    picture = shown(number).copy()
    picture[180:350, 400:640] = pictures.film_frame(seed)[180:350, 400:640]
    return picture


def test_a_film_in_a_corner_is_not_read_again_and_again() -> None:
    reader = Deceived(dict(TEXTS))
    shots = [(2.0 * at, with_film(1 if at < 20 else 2, at)) for at in range(40)]
    slides = found(shots, reader)
    assert reader.read_numbers == [1, 2]
    assert [(slide.start, slide.end) for slide in slides] == [(0.0, 40.0), (40.0, 78.0)]


def test_film_has_no_slides_and_is_not_read() -> None:
    reader = ScriptedReader({})
    frames = [(2.0 * number, pictures.film_frame(number)) for number in range(300)]
    assert found(frames, reader) == []
    assert reader.read_numbers == []
    assert reader.found < 60


def test_the_begin_is_found_among_pictures_that_were_skipped() -> None:
    frames = [(2.0 * number, pictures.film_frame(number)) for number in range(40)]
    late = [(80.0 + 2.0 * number, shown(1)) for number in range(20)]
    (slide,) = found(frames + late)
    assert slide.start == 80.0


def test_a_change_is_timed_between_two_pictures() -> None:
    def between(start: float, end: float) -> Iterator[Picture]:
        assert (start, end) == (8.0, 18.0)
        yield from (Picture(at, shown(1 if at < 14.1 else 2)) for at in np.arange(start, end, 0.2).tolist())

    search = SlideFinder(ScriptedReader(dict(TEXTS)), between)
    shots = [Picture(0.0, shown(1)), Picture(8.0, shown(1)), Picture(18.0, shown(2))]
    slides = [slide for slide, _ in search.slides(iter(shots), 20.0)]
    assert [round(slide.start, 1) for slide in slides] == [0.0, 14.2]
    assert round(slides[0].end, 1) == 14.2


def test_a_cut_each_second_is_bounded_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_PICTURES", "MOST_READ", "MOST_SLIDES"):  # an hour reaches a tenth of them, as ten reach them all
        monkeypatch.setattr(sampling, name, getattr(sampling, name) // 10)
    texts = {number: [f"Words of number {number * 7919} {number * 104_729}"] for number in range(1, 400)}
    shots = [pictures.slide(number, f"{number * 7919} words", f"{number}") for number in range(1, 400)]
    reader = ScriptedReader(dict(texts))
    search = finder(reader)
    every_s = sampling.interval(3_600.0)
    frames = (Picture(every_s * number, shots[number % len(shots)]) for number in range(int(3_600 / every_s)))
    slides = list(search.slides(frames, 3_600.0))
    assert search.counts.pictures <= sampling.MOST_PICTURES
    assert len(reader.read_numbers) <= sampling.MOST_READ
    assert len(slides) == sampling.MOST_SLIDES
    assert search.counts.dropped > 0


def test_pictures_are_bounded_without_a_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_PICTURES", 5)
    taken = iter(every_two_s((shown(1), 4), (shown(2), 500)))
    search = finder()
    slides = [slide for slide, _ in search.slides((Picture(*shot) for shot in taken), None)]
    assert [(slide.start, slide.end) for slide in slides] == [(0.0, 8.0), (8.0, 8.0)]
    assert (search.counts.pictures, bool(search.problem)) == (5, True)
    assert len(list(taken)) == 498


def test_pictures_with_a_few_letters_are_no_slides() -> None:
    reader = ScriptedReader({1: ["EXIT"]})
    assert found(every_two_s((shown(1), 3)), reader) == []


def test_no_pictures_are_no_slides() -> None:
    assert found([], end=5.0) == []
