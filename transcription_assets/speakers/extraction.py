"""Reading a channel once: who of at most three local voices speaks in each frame, and a vector for each piece of that.

The samples pass through in windows of 10 s, each of which answers for its middle 7.5 s. There, what a voice says is cut
into pieces of at most 2.5 s, and each piece has a vector: the segmentation may take two speakers of a window for one
voice, but rarely within a piece. Only the classes of the frames (1 byte each) and the vectors are kept, about 0.5 KB
for a second of speech.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.transcript import Span
from transcription_assets.speakers import features
from transcription_assets.speakers.segmentation_network import CLASSES, FRAME_HOP, FRAME_SPAN, FRAMES, VOICES, WINDOW
from transcription_assets.speakers.voice_network import DIMENSION
from transcription_assets.speech import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from torch import Tensor, nn

HOP_FRAMES = 445
HOP = HOP_FRAMES * FRAME_HOP
"""Samples between windows, a whole number of frames: 7.51 s, for which a window answers."""
EDGE_FRAMES = (FRAMES - HOP_FRAMES) // 2
EDGE = EDGE_FRAMES * FRAME_HOP
"""Samples at either end of a window for which its neighbour answers, as half of their context is missing: 1.2 s."""
WINDOWS = 4
"""Windows that pass through the segmentation at once."""
BATCHES = 4
"""Batches of windows whose pieces are collected, so that several have the same length."""
PIECES = 4
"""Most pieces that pass through the voice network at once; more are not faster and take 200 MB more."""
FRAME_S = FRAME_HOP / SAMPLE_RATE
LONGEST_S = 2.5
"""Longest piece; shorter ones have less similar vectors, longer ones more often two speakers."""
LONGEST_PAUSE_S = 0.3
"""Longest pause of a voice inside a piece, in which no other voice speaks."""
STEP_S = 0.25
"""Least speech for a vector. Lengths are multiples of this, so that inputs of one length can be computed together."""
CLEAN_S = 0.5
"""A piece with at least this much speech without other voices has its vector from that alone."""
MEL_HOP_S = features.HOP / SAMPLE_RATE

ACTIVE = np.array([[voice in held for voice in range(VOICES)] for held in CLASSES])
"""Voices of each class, shape (7, 3)."""

Vectors = NDArray[np.float32]
"""Unit vectors, shape (n, dimensions)."""
Flags = NDArray[np.bool_]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one voice of a window says in the frames [start, end), with short pauses.

    It speaks for `seconds`, of them `alone` without another voice.
    """

    start: int
    end: int
    voice: int
    seconds: float
    alone: float


@dataclass(frozen=True, slots=True)
class SpeakerVectors:
    """The class of each frame, and the pieces with their vectors, in one order."""

    classes: NDArray[np.uint8]
    pieces: tuple[Piece, ...]
    vectors: Vectors

    def active(self, piece: Piece) -> Flags:
        """Return in which of its frames the voice of a piece speaks."""
        found: Flags = ACTIVE[self.classes[piece.start : piece.end], piece.voice]
        return found


def windows_of(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Yield windows of 10 s; from EDGE on, each has the HOP samples that follow those of the window before.

    Before the first sample and after the last one there are zeros.
    """
    held: list[Samples] = [np.zeros(EDGE, np.float32)]
    pending = EDGE
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
    rest = np.concatenate(held)
    while len(rest) > EDGE and rest.any():
        yield np.pad(rest, (0, max(0, WINDOW - len(rest))))[:WINDOW]
        rest = rest[HOP:]


class Extractor:
    """Runs the two networks over a channel."""

    def __init__(self, segmentation: "nn.Module", voice: "nn.Module") -> None:
        self._segmentation = segmentation
        self._voice = voice

    def extract(
        self, blocks: Iterable[Samples], voiced: Sequence[Span], progress: Callable[[float], None]
    ) -> SpeakerVectors:
        """Return what is found in the samples (mono, 16 kHz); `progress` is called with the seconds read.

        Windows without a voiced span (in seconds, in order) are not looked at.

        Raises:
            Exception: any exception of the iterable `blocks`.

        """
        classes: list[NDArray[np.uint8]] = []
        pieces: list[Piece] = []
        vectors: list[Vectors] = []
        inputs: list[Tensor] = []
        for number, windows in enumerate(_batches(windows_of(blocks), WINDOWS), 1):
            answers = self._classes(windows, _voiced(voiced, len(classes), len(windows)))
            for samples, found in zip(windows, answers, strict=True):
                for piece, speech in _inputs(len(classes) * HOP_FRAMES, samples, found):
                    pieces.append(piece)
                    inputs.append(speech)
                classes.append(found)
            if number % BATCHES == 0:
                vectors.append(self._vectors(inputs))
                inputs.clear()
            progress(len(classes) * HOP / SAMPLE_RATE)
        vectors.append(self._vectors(inputs))
        return SpeakerVectors(np.array(classes, np.uint8).reshape(-1), tuple(pieces), np.concatenate(vectors))

    def _classes(self, windows: Sequence[Samples], wanted: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the classes of the frames for which each window answers, shape (windows, HOP_FRAMES)."""
        import torch

        found = np.zeros((len(windows), HOP_FRAMES), np.uint8)
        if len(wanted):
            with torch.inference_mode():
                answer = self._segmentation(torch.from_numpy(np.stack([windows[number] for number in wanted])))
            found[wanted] = answer.numpy()[:, EDGE_FRAMES : EDGE_FRAMES + HOP_FRAMES]
        return found

    def _vectors(self, inputs: Sequence["Tensor"]) -> Vectors:
        """Return the vector of each input (frames, 80); inputs of the same length are computed together."""
        import torch

        by_length: dict[int, list[int]] = defaultdict(list)
        for number, speech in enumerate(inputs):
            by_length[len(speech)].append(number)
        found = np.empty((len(inputs), DIMENSION), np.float32)
        with torch.inference_mode():
            for numbers in (part for same in by_length.values() for part in _batches(iter(same), PIECES)):
                answer = self._voice(torch.stack([inputs[number] for number in numbers]))
                found[numbers] = torch.nn.functional.normalize(answer, dim=1).numpy()
        return found


def _voiced(voiced: Sequence[Span], first: int, count: int) -> NDArray[np.intp]:
    """Return which of `count` windows from the window `first` on answer for a voiced span."""
    spans = np.array(voiced, np.float64).reshape(-1, 2)
    starts = (first + np.arange(count)) * HOP / SAMPLE_RATE
    begun = np.searchsorted(spans[:, 0], starts + HOP / SAMPLE_RATE)
    ended = np.searchsorted(spans[:, 1], starts, "right")
    return np.flatnonzero(begun > ended)


def _batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while batch := list(islice(items, size)):
        yield batch


def pieces_of(active: Flags) -> list[tuple[int, int, int]]:
    """Return (first frame, last frame + 1, voice) of each piece; `active` has the voices of a window (frames, 3)."""
    longest, pause = round(LONGEST_S / FRAME_S), round(LONGEST_PAUSE_S / FRAME_S)
    found: list[tuple[int, int, int]] = []
    for voice in np.flatnonzero(active.any(0)).tolist():
        others = active.sum(1) > active[:, voice]
        joined: list[tuple[int, int]] = []
        for start, end in runs(active[:, voice]):
            if joined and start - joined[-1][1] <= pause and not others[joined[-1][1] : start].any():
                joined[-1] = joined[-1][0], end
            else:
                joined.append((start, end))
        found += [(*part, voice) for run in joined for part in _cut(active[:, voice], *run, longest)]
    return found


def _cut(speaks: Flags, start: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Cut [start, end) into pieces of at most `longest` frames, at the longest pauses if there are any."""
    if end - start <= longest:
        return [(start, end)]
    margin = longest // 4
    pauses = [(last - first, (first + last) // 2) for first, last in runs(~speaks[start + margin : end - margin])]
    if pauses:
        at = start + margin + max(pauses)[1]
    else:
        parts = -(-(end - start) // longest)
        at = start + round((end - start) / parts * (parts // 2))
    return _cut(speaks, start, at, longest) + _cut(speaks, at, end, longest)


def runs(flags: Flags) -> list[tuple[int, int]]:
    """Return the [start, end) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _inputs(first: int, samples: Samples, classes: NDArray[np.uint8]) -> Iterator[tuple[Piece, "Tensor"]]:
    """Yield each piece of a window with enough speech, and the features of its speech (alone, if that is enough).

    `classes` are those of the frames for which the window answers; `first` is the number of the first one.
    """
    import torch

    active = ACTIVE[classes]
    if not active.any():
        return
    mels = features.log_mels(torch.from_numpy(np.ascontiguousarray(samples)))
    # The middle of each mel frame decides which frame of the segmentation it belongs to.
    middles = np.arange(len(mels)) * features.HOP + features.FRAME // 2
    frame_of = (middles - EDGE - FRAME_SPAN // 2 + FRAME_HOP // 2) // FRAME_HOP
    alone = active.sum(1) == 1
    for start, end, voice in pieces_of(active):
        own = np.zeros(len(active), bool)
        own[start:end] = active[start:end, voice]
        clean = own & alone
        seconds, alone_s = float(own.sum()) * FRAME_S, float(clean.sum()) * FRAME_S
        wanted = clean if alone_s >= CLEAN_S else own
        inside = np.flatnonzero((frame_of >= start) & (frame_of < end))
        chosen = inside[wanted[frame_of[inside]]]
        steps = int(len(chosen) * MEL_HOP_S / STEP_S)
        if steps:
            speech = mels[torch.from_numpy(_middle(chosen, round(steps * STEP_S / MEL_HOP_S)))]
            piece = Piece(first + start, first + end, voice, round(seconds, 3), round(alone_s, 3))
            yield piece, speech - speech.mean(0)


def _middle(frames: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    start = (len(frames) - count) // 2
    return frames[start : start + count]
