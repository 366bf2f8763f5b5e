"""Metrics of answers: hit@1, hit@5, mean reciprocal rank, time error, detection of unanswerable questions. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from transcription_assets.evaluation.labelled_set import Question
from transcription_assets.search.query import Hit

TOLERANCE_S = 10.0
"""A hit is correct if it starts at most this many seconds from the true moment."""
CLOSE_S = 5.0
"""Stricter tolerance: the sentence itself, or a neighbouring one."""
DEPTH = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with the rank of its true moment (0 = not in the answer) and the time error of the first hit.

    `off_s` is None if the first hit is in another recording; `is_weak` says whether there is no hit or the first is
    weak.
    """

    question: Question
    rank: int
    off_s: float | None
    is_weak: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """Metrics over questions: shares, and the median time error (seconds) of first hits in the right recording.

    `admitted` is the share of unanswerable questions whose answer is weak, `doubted` the share of correct first hits
    that are marked weak; each is 0.0 if there are none.
    """

    questions: int
    hit_1: float
    hit_5: float
    mrr: float
    off_s: float
    admitted: float
    doubted: float


def judge(question: Question, hits: Sequence[Hit], tolerance_s: float = TOLERANCE_S) -> Judged:
    """Compare the hits with the true moments of the question."""
    ranks = [rank for rank, hit in enumerate(hits[:DEPTH], 1) if _is_there(question, hit, tolerance_s)]
    first = hits[0] if hits else None
    off_s = _off(question, first) if first and first.media_key == question.media_key else None
    return Judged(question, ranks[0] if ranks else 0, off_s, first is None or first.weak)


def figures(judged: Sequence[Judged]) -> Figures:
    """Compute the metrics of judged questions."""
    asked = [item for item in judged if item.question.media_key]
    nowhere = [item for item in judged if not item.question.media_key]
    right = [item for item in asked if item.rank == 1]
    return Figures(
        questions=len(judged),
        hit_1=_share([item.rank == 1 for item in asked]),
        hit_5=_share([1 <= item.rank <= 5 for item in asked]),  # noqa: PLR2004 -- hit@5
        mrr=_share([1 / item.rank if item.rank else 0.0 for item in asked]),
        off_s=round(statistics.median([item.off_s for item in asked if item.off_s is not None] or [0.0]), 2),
        admitted=_share([item.is_weak for item in nowhere]),
        doubted=_share([item.is_weak for item in right]),
    )


def _is_there(question: Question, hit: Hit, tolerance_s: float) -> bool:
    return hit.media_key == question.media_key and _off(question, hit) <= tolerance_s


def _off(question: Question, hit: Hit) -> float:
    return min(abs(hit.start - start) for start in question.starts)


def _share(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 4) if values else 0.0
