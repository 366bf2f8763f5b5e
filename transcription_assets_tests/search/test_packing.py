"""The column `packed`: vectors and card of a passage come back as they were, but for the rounding of the vectors."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.search import schema
from transcription_assets.search.packing import STEPS, Vectors, card_of, pack, unpack
from transcription_assets_tests.search.talks import SEA, rows

CARDS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.floats(-1, 1, width=32, allow_subnormal=False)


@st.composite
def passages(draw: st.DrawFn) -> tuple[int, list[tuple[str, Vectors | None]]]:
    """Draw a dimension, and the cards of some passages with their vectors (None for some)."""
    dimension = draw(st.integers(1, 9))
    vector = st.lists(NUMBERS, min_size=dimension, max_size=dimension)
    vectors = st.none() | st.lists(vector, min_size=1, max_size=4).map(lambda each: np.array(each, np.float32))
    return dimension, draw(st.lists(st.tuples(CARDS, vectors), max_size=5))


@given(passages())
def test_packed_passages_come_back_with_rounded_vectors(drawn: tuple[int, list[tuple[str, Vectors | None]]]) -> None:
    dimension, exact = drawn
    values = [pack(vectors, card) for card, vectors in exact]
    found = unpack(values, dimension)
    assert [card for card, _ in found] == [card for card, _ in exact] == [card_of(value) for value in values]
    for (_, vectors), (_, original) in zip(found, exact, strict=True):
        assert (vectors is None) == (original is None)
        if vectors is not None and original is not None:
            assert vectors.dtype == np.float32
            assert vectors.shape == original.shape
            largest = np.abs(original).max(axis=1, keepdims=True)
            assert (np.abs(vectors - original) <= 0.5 * largest / STEPS + 1e-6).all()


@pytest.mark.parametrize("dimension", [384, 512])
def test_packed_vectors_keep_their_cosines(dimension: int) -> None:
    exact = np.random.default_rng(dimension).normal(size=(20, dimension)).astype(np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    value = pack(exact, "")
    ((_, vectors),) = unpack([value], dimension)
    assert vectors is not None
    assert np.abs(vectors @ vectors.T - exact @ exact.T).max() < 0.01
    assert len(value) == 4 + 20 * (4 + dimension * 6 // 8)


def test_passage_without_finite_vector_has_no_vectors() -> None:
    said = rows(SEA)
    vectors = said["vector"].to_numpy().copy()
    vectors[0, 3] = np.nan
    stored = schema.packed(said.with_columns(pl.Series("vector", vectors, dtype=said.schema["vector"])))
    first, second, *_ = unpack(stored[schema.PACKED].to_list(), vectors.shape[1])
    assert first[1] is None
    assert second[1] is not None
