"""An optional diariser: the pipeline community-1 of pyannote.audio, installed with the extra `pyannote`.

Its weights are gated: accept their licence on the Hub, and log in or set HF_TOKEN. This module was written after the
documentation of pyannote.audio 4 and was not run by us, as the weights could not be had.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np

from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Span
from transcription_assets.errors import PermanentFailure
from transcription_assets.speakers.diariser import Bounds, Diarisation, silent
from transcription_assets.speakers.reconstruction import marked
from transcription_assets.speech import SAMPLE_RATE, Samples

PIPELINE = "pyannote/speaker-diarization-community-1"


class PyannoteDiariser:
    """A `Diariser`. It holds all samples of a recording in memory: 230 MB an hour.

    Raises:
        PermanentFailure: pyannote.audio is not installed.

    """

    def __init__(self, device: str) -> None:
        if find_spec("pyannote") is None or find_spec("pyannote.audio") is None:
            hint = "pip install 'transcription_assets[pyannote]', or set TRANSCRIPTION_DIARISER=local"
            raise PermanentFailure(f"pyannote.audio is not installed: {hint}", hint=hint)
        self._device = device

    @property
    def model(self) -> str:
        """Name of the pipeline."""
        return PIPELINE

    @property
    def options(self) -> Mapping[str, Any]:
        """None: those of the pipeline are used."""
        return {}

    def diarise(
        self,
        blocks: Iterable[Samples],
        voiced: Sequence[Span],  # noqa: ARG002 -- the pipeline has a detector of its own
        bounds: Bounds,
        progress: Callable[[float], None] = silent,
    ) -> Diarisation:
        """Return who speaks when; see `Diariser`.

        Raises:
            PermanentFailure: the pipeline cannot be loaded.
            Exception: any exception of the iterable `blocks` or of the pipeline.

        """
        import torch

        samples = np.concatenate([*blocks, np.empty(0, np.float32)])
        answer = self._pipeline(
            {"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE},
            min_speakers=bounds.least or None,
            max_speakers=bounds.most or None,
        )
        progress(len(samples) / SAMPLE_RATE)
        found = answer.speaker_diarization
        turns = sorted(
            (Turn(segment.start, segment.end, name) for segment, _, name in found.itertracks(yield_label=True)),
            key=lambda turn: turn.start,
        )
        order = {name: str(number) for number, name in enumerate(dict.fromkeys(turn.label for turn in turns), 1)}
        vectors = dict(zip(found.labels(), answer.speaker_embeddings, strict=True))
        prints: dict[str, tuple[float, ...]] = {}
        for name, label in order.items():
            vector = np.asarray(vectors[name], np.float64)
            prints[label] = tuple((vector / np.linalg.norm(vector)).tolist())
        named = [Turn(round(turn.start, 3), round(turn.end, 3), order[turn.label]) for turn in turns]
        return Diarisation(tuple(marked(named)), prints)

    @cached_property
    def _pipeline(self) -> Any:
        import torch
        from pyannote.audio import Pipeline

        pipeline = Pipeline.from_pretrained(PIPELINE)
        if pipeline is None:
            hint = "accept its licence on the Hub, and log in or set HF_TOKEN"
            raise PermanentFailure(f"{PIPELINE} cannot be loaded: {hint}", hint=hint)
        chosen = self._device
        if chosen == "auto":
            chosen = "cuda" if torch.cuda.is_available() else "cpu"
        return pipeline.to(torch.device(chosen))
