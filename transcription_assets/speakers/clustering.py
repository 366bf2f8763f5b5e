"""Clustering of the vectors of local voices into the speakers of a recording. Pure functions of arrays.

Similar vectors are merged bottom-up until the closest clusters are less similar than a threshold. Small clusters
(a laugh, a cough, two people at once) are dissolved, and their vectors join the most similar speaker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcription_assets.speakers.diariser import Bounds
from transcription_assets.speakers.extraction import Extraction, Vectors

Labels = NDArray[np.intp]
"""Number of the speaker of each vector, from 0; -1 if none was found."""

REPRESENTATIVES = 1500
"""Most vectors that are compared with each other, which takes 0.1 s and 20 MB; the rest is assigned."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Thresholds, found by evaluation (docs/benchmarks/speakers.md)."""

    similarity: float = 0.47
    """Mean cosine of two clusters above which they are one speaker."""
    reliable_s: float = 1.5
    """Speech of a voice without others, in seconds, above which its vector takes part in clustering."""
    smallest_s: float = 2.0
    """Least speech of a speaker in seconds, ..."""
    smallest_share: float = 0.02
    """... and least share of all speech."""


def cluster(found: Extraction, bounds: Bounds, options: ClusterOptions) -> Labels:
    """Return the speaker of each voice of `found`; two voices of one window are two speakers if there are as many."""
    alone = np.array([voice.alone for voice in found.voices])
    if not len(alone):
        return np.empty(0, np.intp)
    reliable = np.flatnonzero(alone >= options.reliable_s)
    if not len(reliable):
        reliable = np.flatnonzero(alone >= alone.max())
    chosen = reliable[representatives(alone[reliable], REPRESENTATIVES)]
    merged = merge(found.vectors[chosen], options.similarity, bounds)
    limit = max(options.smallest_s, options.smallest_share * float(alone[chosen].sum()))
    kept = large(merged, alone[chosen], limit, bounds.least)
    return assign(found, centroids(found.vectors[chosen], kept, alone[chosen]))


def representatives(weights: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return the indices of at most `most` vectors, spread over the recording, the heaviest of each part."""
    parts = np.array_split(np.arange(len(weights)), min(most, len(weights)))
    return np.array([part[weights[part].argmax()] for part in parts], np.intp)


def merge(vectors: Vectors, similarity: float, bounds: Bounds) -> Labels:
    """Return the cluster of each unit vector (average linkage), as many as `similarity` and `bounds` demand."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(vectors) == 1:
        return np.zeros(1, np.intp)
    tree = linkage(vectors.astype(np.float64), "average", metric="cosine")
    found = fcluster(tree, 1.0 - similarity, "distance")
    number = int(found.max())
    wanted = max(bounds.least, min(number, bounds.most or number))
    if wanted != number:
        found = fcluster(tree, wanted, "maxclust")
    labels: Labels = found.astype(np.intp) - 1
    return labels


def large(labels: Labels, weights: NDArray[np.float64], limit: float, least: int) -> Labels:
    """Return the labels with -1 for clusters of a weight below `limit`; the `least` heaviest (and one) stay."""
    sums = np.bincount(labels, weights)
    order = np.argsort(-sums, kind="stable")
    stay = [int(label) for rank, label in enumerate(order) if rank < max(1, least) or sums[label] >= limit]
    names = {label: number for number, label in enumerate(stay)}
    return np.array([names.get(int(label), -1) for label in labels], np.intp)


def centroids(vectors: Vectors, labels: Labels, weights: NDArray[np.float64]) -> Vectors:
    """Return the unit mean of each cluster's vectors, weighted."""
    means = [
        (vectors[labels == label] * weights[labels == label, None]).sum(0) for label in range(int(labels.max()) + 1)
    ]
    stacked = np.stack(means).astype(np.float32)
    unit: Vectors = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return unit


def assign(found: Extraction, speakers: Vectors) -> Labels:
    """Return the most similar speaker of each voice; the voices of one window get different speakers (-1 if none)."""
    from scipy.optimize import linear_sum_assignment

    scores = found.vectors @ speakers.T
    labels: Labels = scores.argmax(1)
    for group in _groups([voice.window for voice in found.voices]):
        if len(group) > 1:
            rows, columns = linear_sum_assignment(-scores[group])
            labels[group] = -1
            labels[[group[row] for row in rows]] = columns
    return labels


def _groups(windows: Sequence[int]) -> list[list[int]]:
    by_window: dict[int, list[int]] = {}
    for number, window in enumerate(windows):
        by_window.setdefault(window, []).append(number)
    return list(by_window.values())
