"""Clustering of the vectors of pieces of speech into the speakers of a recording. Pure functions of arrays.

Bottom-up: the two clusters whose mean vectors are most similar, compared with what is asked of them, become one. The
vector of a second of speech is noisy, that of ten seconds is not; so the more speech two clusters have, the more
similar they have to be. Small clusters (a laugh, a cough, two people at once) are dissolved, and their pieces join the
most similar speaker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcription_assets.speakers.diariser import Bounds
from transcription_assets.speakers.extraction import FRAME_S, Piece, SpeakerVectors, Vectors

Labels = NDArray[np.intp]
"""Number of the speaker of each vector, from 0; -1 if none was found."""
Seconds = NDArray[np.float64]

REPRESENTATIVES = 1500
"""Most vectors that are compared with each other, which takes 0.5 s and 40 MB; the rest is assigned."""
NEVER = -np.inf
SMALLEST = 1e-9
"""Least length that a mean is divided by."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Thresholds, found by evaluation (docs/benchmarks/speakers.md)."""

    similarity: float = 0.2
    """Cosine of two clusters above which they are one speaker, if the smaller one has hardly any speech, ..."""
    similarity_per_s: float = 0.07
    """... for each second that it has ..."""
    most_similarity: float = 0.55
    """... up to this."""
    reliable_s: float = 0.5
    """Speech of a piece without other voices, in seconds, above which its vector takes part in clustering."""
    smallest_s: float = 1.0
    """Least speech of a speaker in seconds."""
    shared_s: float = 0.5
    """Time for which two voices speak at once, above which they are different speakers."""

    def required(self, seconds: Seconds) -> Seconds:
        """Return the cosine above which two clusters are one; `seconds` is the speech of the smaller one."""
        return np.minimum(self.most_similarity, self.similarity + self.similarity_per_s * seconds)


def cluster(found: SpeakerVectors, bounds: Bounds, options: ClusterOptions) -> Labels:
    """Return the speaker of each piece; voices that speak at once are different speakers if there are as many."""
    if not found.pieces:
        return np.empty(0, np.intp)
    speech = np.array([piece.alone for piece in found.pieces])
    if speech.max() < options.reliable_s:  # several speak all the time
        speech = np.array([piece.seconds for piece in found.pieces])
    reliable = np.flatnonzero(speech >= min(options.reliable_s, speech.max()))
    chosen = reliable[representatives(speech[reliable], REPRESENTATIVES)]
    vectors, seconds = found.vectors[chosen], speech[chosen]
    merged = merge(vectors, seconds, bounds.least, options)
    kept = large(merged, seconds, options.smallest_s, bounds.least)
    if bounds.most:
        kept = reduced(vectors, kept, seconds, bounds.most)
    return assign(found, centroids(vectors, kept, seconds), options.shared_s)


def representatives(weights: Seconds, most: int) -> Labels:
    """Return the indices of at most `most` vectors, spread over the recording, the heaviest of each part."""
    parts = np.array_split(np.arange(len(weights)), min(most, len(weights)))
    return np.array([part[weights[part].argmax()] for part in parts], np.intp)


def merge(vectors: Vectors, seconds: Seconds, least: int, options: ClusterOptions) -> Labels:
    """Return the cluster of each unit vector; at least `least` clusters of `smallest_s` stay if there are as many."""
    labels = np.arange(len(vectors))
    sums, units, seconds = vectors * seconds[:, None].astype(np.float32), vectors.copy(), seconds.copy()
    gains = (units @ units.T - options.required(np.minimum.outer(seconds, seconds))).astype(np.float32)
    np.fill_diagonal(gains, NEVER)
    alive = np.ones(len(vectors), bool)
    while True:
        first, second = np.unravel_index(int(gains.argmax()), gains.shape)
        if gains[first, second] <= 0:
            return _numbered(labels)
        big = seconds >= options.smallest_s
        if big[first] and big[second] and big.sum() <= least:
            gains[first, second] = gains[second, first] = NEVER
            continue
        labels[labels == second] = first
        sums[first] += sums[second]
        units[first] = sums[first] / max(float(np.linalg.norm(sums[first])), SMALLEST)
        seconds[first], seconds[second], alive[second] = seconds[first] + seconds[second], 0.0, False
        gains[second] = gains[:, second] = NEVER
        row = units @ units[first] - options.required(np.minimum(seconds, seconds[first]))
        row[~alive] = row[first] = NEVER
        gains[first] = gains[:, first] = row


def large(labels: Labels, seconds: Seconds, limit: float, least: int) -> Labels:
    """Return the labels with -1 for clusters with less than `limit`; the `least` largest (and one) stay."""
    sums = np.bincount(labels, seconds)
    order = np.argsort(-sums, kind="stable")
    stay = [int(label) for rank, label in enumerate(order) if rank < max(1, least) or sums[label] >= limit]
    names = {label: number for number, label in enumerate(stay)}
    return np.array([names.get(int(label), -1) for label in labels], np.intp)


def reduced(vectors: Vectors, labels: Labels, seconds: Seconds, most: int) -> Labels:
    """Merge the most similar clusters until at most `most` are left; -1 stays."""
    labels = labels.copy()
    while labels.max() >= most:
        means = centroids(vectors, labels, seconds)
        similar = means @ means.T
        np.fill_diagonal(similar, NEVER)
        first, second = np.unravel_index(int(similar.argmax()), similar.shape)
        labels[labels == second] = first
        labels[labels > second] -= 1
    return labels


def centroids(vectors: Vectors, labels: Labels, seconds: Seconds) -> Vectors:
    """Return the unit mean of each cluster's vectors, weighted."""
    means = [
        (vectors[labels == label] * seconds[labels == label, None]).sum(0) for label in range(int(labels.max()) + 1)
    ]
    stacked = np.stack(means).astype(np.float32)
    unit: Vectors = stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), SMALLEST)
    return unit


def assign(found: SpeakerVectors, speakers: Vectors, shared_s: float) -> Labels:
    """Return the most similar speaker of each piece.

    Of two voices that speak at once for longer than `shared_s`, the one that speaks less alone is another speaker (-1
    if there is none).
    """
    scores = found.vectors @ speakers.T
    labels: Labels = scores.argmax(1)
    for first, second in _at_once(found.pieces, round(shared_s / FRAME_S)):
        if labels[first] == labels[second]:
            other = first if found.pieces[first].alone < found.pieces[second].alone else second
            scores[other, labels[other]] = NEVER
            labels[other] = scores[other].argmax() if np.isfinite(scores[other]).any() else -1
    return labels


def _at_once(pieces: Sequence[Piece], frames: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of pieces that have more than `frames` in common."""
    open_pieces: list[int] = []
    for number in sorted(range(len(pieces)), key=lambda number: pieces[number].start):
        piece = pieces[number]
        open_pieces = [other for other in open_pieces if pieces[other].end > piece.start]
        for other in open_pieces:
            if min(pieces[other].end, piece.end) - piece.start > frames:
                yield other, number
        open_pieces.append(number)


def _numbered(labels: Labels) -> Labels:
    numbers: Labels = np.unique(labels, return_inverse=True)[1].astype(np.intp)
    return numbers
