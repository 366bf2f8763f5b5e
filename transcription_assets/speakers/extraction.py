"""Reading a channel once: who of at most three local voices speaks in each frame, and a vector for each of them.

The samples pass through in windows of 10 s that overlap by half. Only the classes of the frames (1 byte each) and the
vectors are kept, about 0.3 KB for a second of audio, so that the memory does not depend on the samples' length.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.transcript import Span
from transcription_assets.speakers import features
from transcription_assets.speakers.segmentation_network import CLASSES, FRAME_HOP, FRAME_SPAN, FRAMES, VOICES, WINDOW
from transcription_assets.speech import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from torch import Tensor, nn

HOP_FRAMES = 297
HOP = HOP_FRAMES * FRAME_HOP
"""Samples between windows: 5.01 s, a whole number of frames, so that the frames of two windows coincide."""
BATCH = 8
"""Windows that pass through the network at once."""
FRAME_S = FRAME_HOP / SAMPLE_RATE
LONGEST_S = 4.0
"""Most speech for one vector; more costs time and adds little."""
SHORTEST_S = 0.5
"""Least speech for a vector."""
STEP_S = 0.5
"""Lengths are multiples of this, so that inputs of one length can be computed together."""
MEL_HOP_S = features.HOP / SAMPLE_RATE

ACTIVE = np.array([[voice in held for voice in range(VOICES)] for held in CLASSES])
"""Voices of each class, shape (7, 3)."""

Vectors = NDArray[np.float32]
"""Unit vectors, shape (n, dimensions)."""


@dataclass(frozen=True, slots=True)
class LocalVoice:
    """A voice of one window: `seconds` of speech, of it `alone` without another voice. Each has one vector."""

    window: int
    voice: int
    seconds: float
    alone: float


@dataclass(frozen=True, slots=True)
class Extraction:
    """Classes of the frames of each window, shape (windows, 589), and the voices with their vectors, in one order."""

    classes: NDArray[np.uint8]
    voices: tuple[LocalVoice, ...]
    vectors: Vectors

    def active(self, window: int) -> NDArray[np.bool_]:
        """Return which voices speak in each frame of a window, shape (589, 3)."""
        found: NDArray[np.bool_] = ACTIVE[self.classes[window]]
        return found


def windows_of(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Yield windows of 10 s (the last one padded with zeros) that start HOP samples apart and cover all samples."""
    held: list[Samples] = []
    pending = 0
    for block in blocks:
        held.append(block)
        pending += len(block)
        if pending < WINDOW:
            continue
        samples = np.concatenate(held)
        start = 0
        while len(samples) - start >= WINDOW:
            yield samples[start : start + WINDOW]
            start += HOP
        held = [samples[start:].copy()]
        pending = len(held[0])
    if pending and (rest := np.concatenate(held)).any():
        yield np.pad(rest, (0, WINDOW - len(rest)))


class Extractor:
    """Runs the two networks over a channel."""

    def __init__(self, segmentation: "nn.Module", voice: "nn.Module") -> None:
        self._segmentation = segmentation
        self._voice = voice

    def extract(
        self, blocks: Iterable[Samples], voiced: Sequence[Span], progress: Callable[[float], None]
    ) -> Extraction:
        """Return what is found in the samples (mono, 16 kHz); `progress` is called with the seconds read.

        Windows without a voiced span (in seconds, in order) are not looked at.

        Raises:
            Exception: any exception of the iterable `blocks`.

        """
        classes: list[NDArray[np.uint8]] = []
        voices: list[LocalVoice] = []
        vectors: list[Vectors] = []
        for batch in _batches(windows_of(blocks), BATCH):
            found = self._classes(batch, _has_speech(voiced, len(classes), len(batch)))
            inputs = []
            for number, samples in enumerate(batch):
                for voice, speech in _inputs(len(classes) + number, samples, found[number]):
                    voices.append(voice)
                    inputs.append(speech)
            vectors.append(self._vectors(inputs))
            classes += list(found)
            progress(len(classes) * HOP / SAMPLE_RATE)
        return Extraction(
            np.array(classes, np.uint8).reshape(-1, FRAMES),
            tuple(voices),
            np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32),
        )

    def _classes(self, windows: Sequence[Samples], wanted: NDArray[np.intp]) -> NDArray[np.uint8]:
        import torch

        found = np.zeros((len(windows), FRAMES), np.uint8)
        if len(wanted):
            with torch.inference_mode():
                answer = self._segmentation(torch.from_numpy(np.stack([windows[number] for number in wanted])))
            found[wanted] = answer.numpy()
        return found

    def _vectors(self, inputs: Sequence["Tensor"]) -> Vectors:
        """Return the vector of each input (frames, 80); inputs of the same length are computed together."""
        import torch

        by_length: dict[int, list[int]] = defaultdict(list)
        for number, speech in enumerate(inputs):
            by_length[len(speech)].append(number)
        found = np.empty((len(inputs), 192), np.float32)
        with torch.inference_mode():
            for numbers in by_length.values():
                answer = self._voice(torch.stack([inputs[number] for number in numbers]))
                found[numbers] = torch.nn.functional.normalize(answer, dim=1).numpy()
        return found


def _has_speech(voiced: Sequence[Span], first: int, count: int) -> NDArray[np.intp]:
    """Return which of `count` windows from the window `first` on have a voiced span."""
    spans = np.array(voiced, np.float64).reshape(-1, 2)
    starts = (first + np.arange(count)) * HOP / SAMPLE_RATE
    begun = np.searchsorted(spans[:, 0], starts + WINDOW / SAMPLE_RATE)
    ended = np.searchsorted(spans[:, 1], starts, "right")
    return np.flatnonzero(begun > ended)


def _batches(windows: Iterator[Samples], size: int) -> Iterator[list[Samples]]:
    batch: list[Samples] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _inputs(window: int, samples: Samples, classes: NDArray[np.uint8]) -> Iterator[tuple[LocalVoice, "Tensor"]]:
    """Yield each voice of a window with enough speech, and the features of its speech (alone, if that is enough)."""
    import torch

    active = ACTIVE[classes]
    if not active.any():
        return
    mels = features.log_mels(torch.from_numpy(np.ascontiguousarray(samples)))
    # The middle of each mel frame decides which frame of the segmentation it belongs to.
    middles = np.arange(len(mels)) * features.HOP + features.FRAME // 2
    frame_of = np.clip((middles - FRAME_SPAN // 2 + FRAME_HOP // 2) // FRAME_HOP, 0, FRAMES - 1)
    alone = active.sum(1) == 1
    for voice in range(VOICES):
        own = active[:, voice]
        clean = own & alone
        seconds, alone_s = float(own.sum()) * FRAME_S, float(clean.sum()) * FRAME_S
        chosen = np.flatnonzero((clean if alone_s >= SHORTEST_S else own)[frame_of])
        steps = int(min(len(chosen) * MEL_HOP_S, LONGEST_S) / STEP_S)
        if steps:
            picked = _middle(chosen, round(steps * STEP_S / MEL_HOP_S))
            speech = mels[torch.from_numpy(picked)]
            yield LocalVoice(window, voice, round(seconds, 3), round(alone_s, 3)), speech - speech.mean(0)


def _middle(frames: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    start = (len(frames) - count) // 2
    return frames[start : start + count]
