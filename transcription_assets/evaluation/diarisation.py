"""Measures of diarisation: error rate, number of speakers, speakers of words, equal error rate of voiceprints."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME_S = 0.01
COLLAR_S = 0.25
"""Seconds around each boundary of the reference that are not scored, on both sides."""

Labelled = tuple[float, float, str]
"""Start and end in seconds, and the speaker."""


@dataclass(frozen=True, slots=True)
class DiarisationError:
    """Seconds of scored reference speech (overlap counted once per speaker), and of the three kinds of error in it."""

    speech: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confused: float = 0.0

    @property
    def rate(self) -> float:
        """Diarisation error rate; 0.0 if there is no speech in the reference."""
        return (self.missed + self.false_alarm + self.confused) / self.speech if self.speech else 0.0

    def __add__(self, other: "DiarisationError") -> "DiarisationError":
        return DiarisationError(
            self.speech + other.speech,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confused + other.confused,
        )


def score(
    reference: Sequence[Labelled],
    found: Sequence[Labelled],
    *,
    collar_s: float = COLLAR_S,
    with_overlap: bool = True,
) -> DiarisationError:
    """Compare `found` with `reference`, with the mapping of speakers that is best for `found`, in frames of 10 ms.

    Without overlap, time in which several speakers of the reference speak is not scored.
    """
    end = max((item[1] for item in [*reference, *found]), default=0.0)
    truth, answer = _frames(reference, end), _frames(found, end)
    scored = np.ones(truth.shape[1], bool)
    for start, stop, _ in reference:
        for at in (start, stop):
            scored[_at(max(0.0, at - collar_s)) : _at(at + collar_s)] = False
    if not with_overlap:
        scored &= truth.sum(0) < 2  # noqa: PLR2004 -- two at once are overlap
    truth, answer = truth[:, scored], answer[:, scored]
    said, answered = truth.sum(0), answer.sum(0)
    right = _best_overlap(truth, answer)
    return DiarisationError(
        float(said.sum()) * FRAME_S,
        float(np.maximum(0, said - answered).sum()) * FRAME_S,
        float(np.maximum(0, answered - said).sum()) * FRAME_S,
        float(np.minimum(said, answered).sum() - right) * FRAME_S,
    )


def mapping(reference: Sequence[Labelled], found: Sequence[Labelled]) -> dict[str, str]:
    """Return the speaker of the reference for each one in `found` that has a counterpart."""
    end = max((item[1] for item in [*reference, *found]), default=0.0)
    rows, columns = _assignment(_frames(reference, end), _frames(found, end))
    names, others = _names(reference), _names(found)
    return {others[column]: names[row] for row, column in zip(rows, columns, strict=True)}


def equal_error_rate(same: Iterable[float], different: Iterable[float]) -> tuple[float, float]:
    """Return the rate at which false accepts and false rejects are equal, and the similarity of that threshold.

    Raises:
        ValueError: one of them is empty.

    """
    accepted, rejected = np.sort(np.fromiter(same, float)), np.sort(np.fromiter(different, float))
    if not len(accepted) or not len(rejected):
        raise ValueError("similarities of the same and of different voices are needed")
    thresholds = np.concatenate([accepted, rejected])
    misses = np.searchsorted(accepted, thresholds, "left") / len(accepted)
    alarms = 1.0 - np.searchsorted(rejected, thresholds, "left") / len(rejected)
    best = int(np.argmin(np.abs(misses - alarms)))
    return float(max(misses[best], alarms[best])), float(thresholds[best])


def found_at(same: Iterable[float], different: Iterable[float], false_accepts: float) -> tuple[float, float]:
    """Return the share of `same` above the threshold that accepts this share of `different`, and the threshold.

    Raises:
        ValueError: one of them is empty.

    """
    accepted, rejected = np.fromiter(same, float), np.fromiter(different, float)
    if not len(accepted) or not len(rejected):
        raise ValueError("similarities of the same and of different voices are needed")
    threshold = float(np.quantile(rejected, 1.0 - false_accepts, method="higher"))
    return float((accepted > threshold).mean()), threshold


def _names(turns: Sequence[Labelled]) -> list[str]:
    return sorted({name for _, _, name in turns})


def _at(seconds: float) -> int:
    return round(seconds / FRAME_S)


def _frames(turns: Sequence[Labelled], end: float) -> NDArray[np.bool_]:
    """Return which speaker (sorted by name) speaks in each frame, shape (speakers, frames)."""
    names = _names(turns)
    speaks = np.zeros((len(names), _at(end)), bool)
    for start, stop, name in turns:
        speaks[names.index(name), _at(start) : _at(stop)] = True
    return speaks


def _assignment(truth: NDArray[np.bool_], answer: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from scipy.optimize import linear_sum_assignment

    common = truth.astype(np.float32) @ answer.T.astype(np.float32)
    rows, columns = linear_sum_assignment(-common)
    return rows, columns


def _best_overlap(truth: NDArray[np.bool_], answer: NDArray[np.bool_]) -> int:
    rows, columns = _assignment(truth, answer)
    return sum(int((truth[row] & answer[column]).sum()) for row, column in zip(rows, columns, strict=True))
