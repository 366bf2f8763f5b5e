"""Judging a diariser on labelled recordings: speakers, words, and voices between recordings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Segment, Span
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation import speakers
from transcription_assets.speakers.diariser import Bounds, Diarisation, silent
from transcription_assets.speech import Samples
from transcription_assets_tests import recordings
from transcription_assets_tests.strategies import segment

FFMPEG = recordings.wheel_ffmpeg()
RTTM = "SPEAKER a 1 0.0 4.0 <NA> <NA> ada <NA> <NA>\nSPEAKER a 1 4.0 4.0 <NA> <NA> bob <NA> <NA>\n"
TWO = Diarisation((Turn(0.0, 4.0, "1"), Turn(4.0, 8.0, "2")), {"1": (1.0, 0.0), "2": (0.0, 1.0)})
ONE = Diarisation((Turn(0.0, 8.0, "1"),), {"1": (1.0, 0.0)})
NONE = Diarisation()


class Scripted:
    """A diariser that answers as scripted."""

    model = "scripted@1"
    options: Mapping[str, Any] = {}

    def __init__(self, answer: Diarisation) -> None:
        self._answer = answer

    def diarise(
        self,
        blocks: Iterable[Samples],
        voiced: Sequence[Span],
        bounds: Bounds,
        progress: Callable[[float], None] = silent,
    ) -> Diarisation:
        del blocks, voiced, bounds, progress
        return self._answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recordings.tone(tmp_path / "a.wav", 8.0, rate=8_000)
    (tmp_path / "a.rttm").write_text(RTTM)
    return tmp_path


def transcribed(_path: Path) -> list[Segment]:
    """Return eight words of a second each, four of each speaker."""
    return [segment("One two three four.", 0.0, 4.0), segment("Five six seven eight.", 4.0, 8.0)]


@pytest.mark.parametrize(
    ("answer", "found", "error", "right"), [(TWO, 2, 0.0, 8), (ONE, 1, 0.5, 4), (NONE, 0, 1.0, 0)], ids=str
)
def test_words_count_with_the_right_speaker(
    folder: Path, answer: Diarisation, found: int, error: float, right: int
) -> None:
    (judged,) = speakers.evaluate(folder, Scripted(answer), FFMPEG, Bounds(), transcribed)
    assert (judged.speakers, judged.found, judged.words) == (2, found, 8)
    assert judged.error.rate == pytest.approx(error, abs=0.02)
    assert judged.right_words == right
    assert judged.duration == pytest.approx(8.0, abs=0.1)


def test_without_a_transcriber_no_words_are_counted(folder: Path) -> None:
    (judged,) = speakers.evaluate(folder, Scripted(TWO), FFMPEG, Bounds(), None)
    assert (judged.words, judged.right_words) == (0, 0)
    figures = speakers.figures([judged])
    assert (figures.right_count, figures.right_words, figures.equal_error) == (1.0, 0.0, None)


def test_same_names_are_compared_between_recordings(folder: Path) -> None:
    recordings.tone(folder / "b.wav", 8.0, rate=8_000)
    (folder / "b.rttm").write_text(RTTM)
    figures = speakers.figures([*speakers.evaluate(folder, Scripted(TWO), FFMPEG, Bounds(), None)])
    assert (figures.recordings, figures.recognised, figures.equal_error) == (2, 1.0, 0.0)


def test_a_folder_without_labels_is_an_error(tmp_path: Path) -> None:
    recordings.tone(tmp_path / "a.wav", 1.0, rate=8_000)
    with pytest.raises(PermanentFailure):
        next(speakers.evaluate(tmp_path, Scripted(TWO), FFMPEG, Bounds(), None))
