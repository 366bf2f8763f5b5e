"""From pieces of speech with their speakers to turns of a recording. Pure functions of arrays."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from transcription_assets.domain.speakers import Turn
from transcription_assets.speakers.clustering import Labels
from transcription_assets.speakers.extraction import FRAME_S, SpeakerVectors, runs
from transcription_assets.speakers.segmentation_network import FRAME_SPAN
from transcription_assets.speech import SAMPLE_RATE

OFFSET_S = (FRAME_SPAN - FRAME_S * SAMPLE_RATE) / 2 / SAMPLE_RATE
"""Start of the first frame: the middle of what it depends on, less half a frame."""
LONGEST_PAUSE_S = 0.5
"""Longest pause inside a turn."""
SHORTEST_TURN_S = 0.15


def turns_of(found: SpeakerVectors, labels: Labels, speakers: int) -> list[Turn]:
    """Return the turns in order of start; labels are the numbers of the speakers of the pieces, from 0."""
    spoken: list[list[Turn]] = [[] for _ in range(speakers)]
    for piece, label in zip(found.pieces, labels.tolist(), strict=True):
        if label >= 0:
            spoken[label] += [
                _turn(piece.start + first, piece.start + last, label) for first, last in runs(found.active(piece))
            ]
    return marked(sorted((turn for own in spoken for turn in _joined(own)), key=_order))


def _turn(first: int, last: int, speaker: int) -> Turn:
    start = 0.0 if first == 0 else OFFSET_S + first * FRAME_S
    return Turn(start, OFFSET_S + last * FRAME_S, str(speaker))


def _joined(spoken: Sequence[Turn]) -> list[Turn]:
    """Join the turns of one speaker over short pauses, and leave out what is too short for a word."""
    joined: list[Turn] = []
    for turn in sorted(spoken, key=_order):
        if joined and turn.start - joined[-1].end <= LONGEST_PAUSE_S:
            joined[-1] = replace(joined[-1], end=max(joined[-1].end, turn.end))
        else:
            joined.append(turn)
    return [turn for turn in joined if turn.end - turn.start >= SHORTEST_TURN_S]


def _order(turn: Turn) -> tuple[float, float, str]:
    return turn.start, turn.end, turn.label


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
