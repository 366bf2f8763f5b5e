"""From local voices with their speakers to turns of a recording. Pure functions of arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.speakers import Turn
from transcription_assets.speakers.clustering import Labels
from transcription_assets.speakers.extraction import FRAME_S, HOP_FRAMES, Extraction
from transcription_assets.speakers.segmentation_network import FRAME_SPAN, FRAMES
from transcription_assets.speech import SAMPLE_RATE

OFFSET_S = (FRAME_SPAN - FRAME_S * SAMPLE_RATE) / 2 / SAMPLE_RATE
"""Start of the first frame: the middle of what it depends on, less half a frame."""
LONGEST_PAUSE_S = 0.5
"""Longest pause inside a turn."""
SHORTEST_TURN_S = 0.15

Activity = NDArray[np.bool_]
"""Which speaker speaks in each frame, shape (frames, speakers)."""


def turns_of(found: Extraction, labels: Labels, speakers: int) -> list[Turn]:
    """Return the turns in order of start; labels are the numbers of speakers, from 0."""
    runs: list[Turn] = []
    open_since = np.full(speakers, -1)
    frame = 0
    for piece in activities(found, labels, speakers):
        before = open_since >= 0
        for column in np.flatnonzero(before | piece.any(0)):
            edges = np.diff(np.concatenate([[before[column]], piece[:, column]]).astype(np.int8))
            for at in np.flatnonzero(edges):
                if edges[at] > 0:
                    open_since[column] = frame + at
                else:
                    runs.append(_turn(int(open_since[column]), frame + int(at), int(column)))
                    open_since[column] = -1
        frame += len(piece)
    runs += [_turn(int(start), frame, column) for column, start in enumerate(open_since) if start >= 0]
    return marked(_joined(runs, speakers))


def activities(found: Extraction, labels: Labels, speakers: int) -> Iterator[Activity]:
    """Yield the activity of HOP_FRAMES frames at a time; where windows overlap, their votes are added.

    The number of speakers at a frame is the mean of that of its windows, and these are the ones with the most votes.
    """
    names: list[dict[int, int]] = [{} for _ in found.classes]
    for voice, label in zip(found.voices, labels.tolist(), strict=True):
        if label >= 0:
            names[voice.window][voice.voice] = label
    votes = np.zeros((FRAMES, speakers), np.float32)
    counts, weights = np.zeros(FRAMES, np.float32), np.zeros(FRAMES, np.float32)
    shape = _shape()
    for window in range(len(found.classes)):
        active = found.active(window)
        for local, speaker in names[window].items():
            votes[:, speaker] += shape * active[:, local]
        counts += shape * active.sum(1)
        weights += shape
        last = window == len(found.classes) - 1
        done = FRAMES if last else HOP_FRAMES
        yield _most_voted(votes[:done], counts[:done], weights[:done])
        votes, counts, weights = _moved(votes), _moved(counts), _moved(weights)


def _shape() -> NDArray[np.float32]:
    """Return the weight of each frame of a window: less near its ends, where half of the context is missing."""
    distance = np.minimum(np.arange(FRAMES), np.arange(FRAMES)[::-1])
    shape: NDArray[np.float32] = np.clip(distance / (FRAMES / 4), 0.05, 1.0).astype(np.float32)
    return shape


def _moved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    moved = np.zeros_like(values)
    moved[:-HOP_FRAMES] = values[HOP_FRAMES:]
    return moved


def _most_voted(votes: NDArray[np.float32], counts: NDArray[np.float32], weights: NDArray[np.float32]) -> Activity:
    number = np.rint(counts / weights).astype(int)
    order = np.argsort(-votes, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    chosen: Activity = (ranks < number[:, None]) & (votes > 0)
    return chosen


def _turn(first: int, last: int, speaker: int) -> Turn:
    start = 0.0 if first == 0 else OFFSET_S + first * FRAME_S
    return Turn(start, OFFSET_S + last * FRAME_S, str(speaker))


def _joined(runs: Sequence[Turn], speakers: int) -> list[Turn]:
    """Join the runs of each speaker over short pauses, and leave out what is too short for a word."""
    joined: list[Turn] = []
    for label in map(str, range(speakers)):
        own: list[Turn] = []
        for run in sorted((item for item in runs if item.label == label), key=lambda item: item.start):
            if own and run.start - own[-1].end <= LONGEST_PAUSE_S:
                own[-1] = replace(own[-1], end=run.end)
            else:
                own.append(run)
        joined += [turn for turn in own if turn.end - turn.start >= SHORTEST_TURN_S]
    return sorted(joined, key=lambda item: (item.start, item.end, item.label))


def marked(turns: Sequence[Turn]) -> list[Turn]:
    """Cut turns where another one starts or ends, and mark the pieces in which several speakers speak."""
    cuts = sorted({at for turn in turns for at in (turn.start, turn.end)})
    pieces: list[Turn] = []
    active: list[Turn] = []
    first = 0
    for start, end in pairwise(cuts):
        while first < len(turns) and turns[first].start <= start:
            active.append(turns[first])
            first += 1
        active = [turn for turn in active if turn.end > start]
        pieces += [Turn(start, end, turn.label, overlap=len(active) > 1) for turn in active]
    return _without_cuts(pieces)


def _without_cuts(pieces: Sequence[Turn]) -> list[Turn]:
    """Join neighbouring pieces of one speaker that are both overlapped or both not."""
    joined: list[Turn] = []
    latest: dict[str, int] = {}
    for piece in pieces:
        at = latest.get(piece.label)
        if at is not None and joined[at].end == piece.start and joined[at].overlap == piece.overlap:
            joined[at] = replace(joined[at], end=piece.end)
        else:
            latest[piece.label] = len(joined)
            joined.append(piece)
    return joined
