"""The default diariser: segmentation of windows, a vector for each piece of speech, clustering. CPU only.

Long recordings cost memory only for what is kept of each window, see `extraction`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Span
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import Located
from transcription_assets.speakers import clustering, reconstruction, segmentation_network, voice_network
from transcription_assets.speakers.clustering import ClusterOptions
from transcription_assets.speakers.diariser import Bounds, Diarisation, silent
from transcription_assets.speakers.extraction import Extractor, SpeakerVectors, Vectors
from transcription_assets.speech import Samples

SEGMENTATION = "segmentation.pt"
VOICE = "voice.pt"
DIGITS = 5
"""Decimal places of a voiceprint in the record."""


class LocalDiariser:
    """A `Diariser` with the weights of the catalogue; they are loaded at the first recording."""

    def __init__(self, located: Located, options: ClusterOptions | None = None) -> None:
        self._located = located
        self._options = options or ClusterOptions()

    @property
    def model(self) -> str:
        """Name and revision of the weights."""
        return f"{self._located.name}@{self._located.revision}"

    @property
    def options(self) -> Mapping[str, Any]:
        """The thresholds of clustering."""
        return asdict(self._options)

    def diarise(
        self,
        blocks: Iterable[Samples],
        voiced: Sequence[Span],
        bounds: Bounds,
        progress: Callable[[float], None] = silent,
    ) -> Diarisation:
        """Return who speaks when; see `Diariser`.

        Raises:
            PermanentFailure: the weights cannot be loaded.
            Exception: any exception of the iterable `blocks`.

        """
        return diarisation(self._extractor.extract(blocks, voiced, progress), bounds, self._options)

    @cached_property
    def _extractor(self) -> Extractor:
        try:
            segmentation = segmentation_network.load(self._located.path / SEGMENTATION)
            voice = voice_network.load(self._located.path / VOICE)
        except Exception as error:  # torch raises errors of many classes for a damaged file
            hint = "run `transcription-assets models pull`"
            raise PermanentFailure(
                f"the weights in {self._located.path} cannot be loaded ({error}); {hint}", hint=hint
            ) from error
        return Extractor(segmentation, voice)


def diarisation(found: SpeakerVectors, bounds: Bounds, options: ClusterOptions) -> Diarisation:
    """Return the turns of the speakers of the pieces that were found, numbered by their first words."""
    labels = clustering.cluster(found, bounds, options)
    speakers = int(labels.max()) + 1 if len(labels) else 0
    turns = reconstruction.turns_of(found, labels, speakers)
    order = {label: str(number) for number, label in enumerate(dict.fromkeys(turn.label for turn in turns), 1)}
    renamed = tuple(Turn(round(turn.start, 3), round(turn.end, 3), order[turn.label], turn.overlap) for turn in turns)
    prints = {new: _voiceprint(found, labels == int(old)) for old, new in order.items()}
    return Diarisation(renamed, prints)


def _voiceprint(found: SpeakerVectors, own: "np.ndarray[Any, np.dtype[np.bool_]]") -> tuple[float, ...]:
    """Return the mean of a speaker's vectors, weighted by their speech without others."""
    weights = np.array([piece.alone + 0.01 for piece in found.pieces], np.float32)[own]
    mean: Vectors = (found.vectors[own] * weights[:, None]).sum(0)
    return tuple(round(float(value), DIGITS) for value in mean / np.linalg.norm(mean))
