"""FAKE diariser for tests of names: each recording, known by its length, has its own voice, then Ben's."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Span
from transcription_assets.speakers.diariser import Bounds, Diarisation, silent
from transcription_assets.speech import Samples, windowing
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain

MODEL = "campplus-segmentation@test"
ADAS, ADAS_ELSEWHERE, BENS = (0.8, 0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0)
CLAUDES = (-0.28, 0.96, 0.0)


@dataclass
class Voices:
    """Speakers 1 and 2 speak for half of the recording each; `swapped` numbers them the other way round."""

    first: dict[int, tuple[float, ...]]
    swapped: bool = False
    model: str = MODEL
    options: Mapping[str, Any] = field(default_factory=dict)

    def diarise(
        self,
        blocks: Iterable[Samples],
        voiced: Sequence[Span],
        bounds: Bounds,
        progress: Callable[[float], None] = silent,
    ) -> Diarisation:
        seconds = round(sum(map(len, blocks)) / 16_000)
        assert voiced
        assert bounds == Bounds()
        progress(float(seconds))
        one, two = "21" if self.swapped else "12"
        turns = (Turn(0.0, seconds / 2, one), Turn(seconds / 2, float(seconds), two))
        return Diarisation(turns, {one: self.first[seconds], two: BENS})


def all_is_speech(patch: pytest.MonkeyPatch) -> None:
    """Replace voice activity detection: all of a recording is speech."""

    def everything(samples: NDArray[np.float32]) -> list[Region]:
        return [Region(0.0, len(samples) / 16_000)]

    patch.setattr(windowing, "voiced_regions", everything)


def conversations(folder: Path, first: Mapping[int, tuple[float, ...]]) -> Path:
    """Process `audio/N.wav` of N seconds for each N in `first`; return the folder of the store, for tests to copy."""
    for seconds in first:
        recordings.tone(folder / f"audio/{seconds}.wav", seconds, rate=8_000)
    with pytest.MonkeyPatch.context() as patch:
        all_is_speech(patch)
        Chain(Store.open(str(folder)), diariser=Voices({**first})).run(*(f"audio/{seconds}.wav" for seconds in first))
    return folder
