"""Clustering of vectors of known voices."""

import numpy as np
from numpy.typing import NDArray

from transcription_assets.speakers import clustering
from transcription_assets.speakers.clustering import ClusterOptions
from transcription_assets.speakers.diariser import Bounds
from transcription_assets.speakers.extraction import Extraction, LocalVoice, Vectors
from transcription_assets.speakers.segmentation_network import FRAMES

OPTIONS = ClusterOptions()


def voices(order: str, noise: float = 0.05) -> Vectors:
    """Return a unit vector for each letter: the axis of the letter with some noise."""
    rng = np.random.default_rng(3)
    vectors = np.eye(32, dtype=np.float32)[[ord(letter) - 97 for letter in order]]
    vectors = vectors + rng.normal(0, noise, vectors.shape)
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def extraction(windows: list[str], seconds: float = 4.0) -> Extraction:
    """Return an extraction with the voices of each window."""
    found = [LocalVoice(number, at, seconds, seconds) for number, held in enumerate(windows) for at in range(len(held))]
    return Extraction(np.zeros((len(windows), FRAMES), np.uint8), tuple(found), voices("".join(windows)))


def partition(labels: NDArray[np.intp], letters: str) -> bool:
    """Return whether labels and letters are the same partition."""
    return len(set(zip(labels.tolist(), letters, strict=True))) == len(set(labels.tolist())) == len(set(letters))


def test_each_voice_is_one_speaker() -> None:
    windows = ["a", "ab", "b", "bc", "c", "a", "ca"]
    assert partition(clustering.cluster(extraction(windows), Bounds(), OPTIONS), "".join(windows))


def test_one_voice_is_one_speaker() -> None:
    assert set(clustering.cluster(extraction(["a"] * 9), Bounds(), OPTIONS).tolist()) == {0}


def test_no_voice_is_no_speaker() -> None:
    empty = Extraction(np.zeros((3, FRAMES), np.uint8), (), np.empty((0, 0), np.float32))
    assert clustering.cluster(empty, Bounds(), OPTIONS).tolist() == []


def test_thirty_speakers_are_told_apart() -> None:
    letters = "".join(chr(97 + number) for number in range(30)) * 3
    assert partition(clustering.cluster(extraction(list(letters)), Bounds(), OPTIONS), letters)


def test_bounds_limit_the_number() -> None:
    found = extraction(["a", "b", "c", "a", "b", "c"])
    assert len(set(clustering.cluster(found, Bounds(most=2), OPTIONS).tolist())) == 2
    alike = extraction(["a"] * 6)
    assert len(set(clustering.cluster(alike, Bounds(least=2), OPTIONS).tolist())) == 2


def test_voices_of_a_window_are_different_speakers() -> None:
    found = extraction(["a", "b", "aa", "a", "b"])
    labels = clustering.cluster(found, Bounds(), OPTIONS)
    assert labels[2] != labels[3]


def test_a_tiny_cluster_joins_a_speaker() -> None:
    whole = extraction(["a", "a", "b", "b", "c"])
    short = LocalVoice(4, 0, 1.6, 1.6)
    found = Extraction(whole.classes, (*whole.voices[:-1], short), whole.vectors)
    assert len(set(clustering.cluster(found, Bounds(), OPTIONS).tolist())) == 2


def test_only_short_voices_still_have_a_speaker() -> None:
    assert clustering.cluster(extraction(["a", "a"], 0.6), Bounds(), OPTIONS).tolist() == [0, 0]


def test_long_recordings_compare_only_representatives() -> None:
    chosen = clustering.representatives(np.arange(10_000) % 7, 1500)
    assert len(chosen) == 1500
    assert (np.diff(chosen) > 0).all()
    assert (chosen % 7 >= 5).mean() > 0.9
    letters = "ab" * 2000
    assert partition(clustering.cluster(extraction(list(letters)), Bounds(), OPTIONS), letters)
