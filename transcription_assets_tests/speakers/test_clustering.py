"""Clustering of vectors of known voices."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transcription_assets.speakers import clustering
from transcription_assets.speakers.clustering import ClusterOptions
from transcription_assets.speakers.diariser import Bounds
from transcription_assets.speakers.extraction import Piece, SpeakerVectors, Vectors

OPTIONS = ClusterOptions()
FRAMES = 120
"""Frames of a piece, 2 s."""


def voices(letters: str, noise: float = 0.05, seed: int = 3) -> Vectors:
    """Return a unit vector for each letter: the axis of the letter with some noise."""
    rng = np.random.default_rng(seed)
    vectors = np.eye(32, dtype=np.float32)[[ord(letter) - 97 for letter in letters]]
    vectors = vectors + rng.normal(0, noise, vectors.shape)
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def extraction(moments: Sequence[str], seconds: float = 2.0) -> SpeakerVectors:
    """Return an extraction with a piece for each letter; the voices of one moment speak at once."""
    pieces = [
        Piece(at * FRAMES, (at + 1) * FRAMES, voice, seconds, seconds if len(said) == 1 else 0.0)
        for at, said in enumerate(moments)
        for voice in range(len(said))
    ]
    return SpeakerVectors(np.zeros(len(moments) * FRAMES, np.uint8), tuple(pieces), voices("".join(moments)))


def partition(labels: NDArray[np.intp], letters: str) -> bool:
    """Return whether labels and letters are the same partition."""
    return len(set(zip(labels.tolist(), letters, strict=True))) == len(set(labels.tolist())) == len(set(letters))


def number(found: SpeakerVectors, bounds: Bounds | None = None) -> int:
    return len(set(clustering.cluster(found, bounds or Bounds(), OPTIONS).tolist()))


def test_each_voice_is_one_speaker() -> None:
    letters = "aabbbcaca"
    assert partition(clustering.cluster(extraction(letters), Bounds(), OPTIONS), letters)


def test_one_voice_is_one_speaker() -> None:
    assert set(clustering.cluster(extraction("a" * 9), Bounds(), OPTIONS).tolist()) == {0}


def test_no_voice_is_no_speaker() -> None:
    assert clustering.cluster(extraction([]), Bounds(), OPTIONS).tolist() == []


def test_thirty_speakers_are_told_apart() -> None:
    letters = "".join(chr(97 + voice) for voice in range(30)) * 3
    assert partition(clustering.cluster(extraction(letters), Bounds(), OPTIONS), letters)


def test_noisy_vectors_of_short_pieces_are_one_speaker() -> None:
    letters = "ab" * 20
    noisy = SpeakerVectors(
        np.zeros(len(letters) * FRAMES, np.uint8), extraction(letters, 0.6).pieces, voices(letters, noise=0.19)
    )
    similar = noisy.vectors @ noisy.vectors.T
    assert np.median(similar[::2, ::2]) < OPTIONS.most_similarity
    assert partition(clustering.cluster(noisy, Bounds(), OPTIONS), letters)


@pytest.mark.parametrize(("seconds", "speakers"), [(0.6, 1), (20.0, 2)])
def test_more_speech_has_to_be_more_similar(seconds: float, speakers: int) -> None:
    similar = 0.45
    vectors = np.zeros((2, 32), np.float32)
    vectors[:, 0], vectors[0, 1], vectors[1, 2] = similar**0.5, (1 - similar) ** 0.5, (1 - similar) ** 0.5
    found = SpeakerVectors(np.zeros(2 * FRAMES, np.uint8), extraction("ab", seconds).pieces, vectors)
    assert number(found) == speakers


def test_bounds_limit_the_number() -> None:
    assert number(extraction("abcabc"), Bounds(most=2)) == 2
    assert number(extraction("a" * 6), Bounds(least=2)) == 2
    assert number(extraction("aab"), Bounds(2, 2)) == 2


@given(st.text("abcdef", min_size=1, max_size=24), st.integers(0, 6), st.integers(0, 6))
def test_any_bounds_are_kept_if_there_are_pieces(letters: str, least: int, most: int) -> None:
    if most:
        least = min(least, most)
    found = number(extraction(letters), Bounds(least, most))
    assert found >= min(least, len(letters))
    assert found <= (most or len(letters))


@given(st.lists(st.text("abcdef", min_size=1, max_size=3), max_size=12))
def test_each_piece_has_at_most_one_label(moments: list[str]) -> None:
    found = extraction(moments)
    labels = clustering.cluster(found, Bounds(), OPTIONS)
    assert len(labels) == len(found.pieces)
    assert set(labels.tolist()) <= {-1, *range(6)}


def test_voices_that_speak_at_once_are_different_speakers() -> None:
    labels = clustering.cluster(extraction(["a", "b", "aa", "a", "b"]), Bounds(), OPTIONS)
    assert labels[2] != labels[3]


def test_of_one_speaker_only_one_voice_speaks_at_once() -> None:
    labels = clustering.cluster(extraction(["a", "aa", "a"]), Bounds(), OPTIONS)
    assert sorted(labels.tolist()) == [-1, 0, 0, 0]


def test_two_who_always_speak_at_once_are_two_speakers() -> None:
    labels = clustering.cluster(extraction(["ab"] * 5), Bounds(), OPTIONS)
    assert partition(labels, "ab" * 5)


def test_a_tiny_cluster_joins_a_speaker() -> None:
    whole = extraction("aabbc")
    short = Piece(4 * FRAMES, 5 * FRAMES, 0, 0.7, 0.7)
    assert number(SpeakerVectors(whole.classes, (*whole.pieces[:-1], short), whole.vectors)) == 2


def test_only_short_pieces_still_have_a_speaker() -> None:
    assert clustering.cluster(extraction("aa", 0.3), Bounds(), OPTIONS).tolist() == [0, 0]


def test_long_recordings_compare_only_representatives() -> None:
    chosen = clustering.representatives((np.arange(10_000) % 7).astype(float), 1500)
    assert len(chosen) == 1500
    assert (np.diff(chosen) > 0).all()
    assert (chosen % 7 >= 5).mean() > 0.9
    letters = "ab" * 2000
    assert partition(clustering.cluster(extraction(letters), Bounds(), OPTIONS), letters)
