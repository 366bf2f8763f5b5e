"""The column `packed` of a search table: all that ranking and display read of a passage, as one byte string. Pure.

It holds the number of vectors and the bytes of each (two 16-bit integers), the vectors (that of the passage, then
those of its sentences; none in a row of another model), and the `card` in UTF-8. A vector is a factor (float32) and its
numbers as multiples of it, of 6 bits each: four in three bytes. Integers and floats are little-endian.

LanceDB reads each column of a row by itself, and strings of variable length in two steps: one column takes half the
time of three. With 6 bits a cosine changes by about 0.01 at most, by more only if single numbers are much larger than
the others; the figures of the evaluation are in docs/decisions/0049-packed-column.md.
"""

from collections.abc import Sequence
from itertools import accumulate
from struct import Struct

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

STEPS = 31
"""Largest multiple of the factor; numbers are stored with OFFSET added, so that none is negative."""
OFFSET = 32
_HEAD = Struct("<HH")
_FACTOR_BYTES = 4
_NUMBERS = np.arange(4096)
_PAIRS = np.stack([_NUMBERS & 63, _NUMBERS >> 6], axis=1).astype(np.float32) - OFFSET
_PAIR = _PAIRS.view(np.complex64).ravel()
"""The two numbers in each value of 12 bits, as one item, since NumPy looks up single items fastest."""


def pack(vectors: Vectors | None, card: str) -> bytes:
    """Return vectors, shape (vectors, dimension), and a card as one value; None stands for no vectors."""
    stored = b"" if vectors is None else _encode(vectors)
    count = 0 if vectors is None else len(vectors)
    return _HEAD.pack(count, len(stored) // count if count else 0) + stored + card.encode()


def card_of(packed: bytes) -> str:
    """Return the card in a value."""
    return packed[_card_at(packed) :].decode()


def unpack(values: Sequence[bytes], dimension: int) -> list[tuple[str, Vectors | None]]:
    """Return the card of each value, and its vectors, shape (vectors, `dimension`), None if it has none.

    All values are decoded together, as each call of NumPy takes longer than decoding one value.
    """
    counts = [_HEAD.unpack_from(value)[0] for value in values]
    decoded = _decode(b"".join([value[_HEAD.size : _card_at(value)] for value in values]), dimension)
    ends = accumulate(counts)
    return [
        (card_of(value), decoded[end - count : end] if count else None)
        for value, count, end in zip(values, counts, ends, strict=True)
    ]


def _card_at(packed: bytes) -> int:
    count, size = _HEAD.unpack_from(packed)
    return int(_HEAD.size + count * size)


def _encode(vectors: Vectors) -> bytes:
    exact = np.asarray(vectors, np.float32)
    factors = np.abs(exact).max(axis=1, keepdims=True) / STEPS
    factors[factors == 0] = 1.0
    steps = (np.rint(exact / factors) + OFFSET).astype(np.uint8)
    padded = np.pad(steps, ((0, 0), (0, -steps.shape[1] % 4)))
    one, two, three, four = (padded[:, place::4] for place in range(4))
    quads = np.stack([one | two << 6, two >> 2 | three << 4, three >> 4 | four << 2], axis=2)
    return np.hstack([factors.astype("<f4").view(np.uint8), quads.reshape(len(exact), -1)]).tobytes()


def _decode(stored: bytes, dimension: int) -> Vectors:
    rows = np.frombuffer(stored, np.uint8).reshape(-1, _FACTOR_BYTES + (dimension + 3) // 4 * 3)
    factors = np.ascontiguousarray(rows[:, :_FACTOR_BYTES]).view("<f4")
    one, two, three = (rows[:, _FACTOR_BYTES + place :: 3].astype(np.uint16) for place in range(3))
    pairs = np.empty((*one.shape, 2), np.uint16)
    pairs[:, :, 0] = one | (two & 15) << 8
    pairs[:, :, 1] = two >> 4 | three << 4
    steps = _PAIR.take(pairs).view(np.float32).reshape(len(rows), 4 * one.shape[1])
    decoded: Vectors = steps[:, :dimension] * factors
    return decoded
