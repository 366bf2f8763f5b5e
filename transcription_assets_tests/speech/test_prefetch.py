"""Prefetching: one window is read in advance while another is decoded; each takes memory."""

from collections.abc import Iterator
from contextlib import closing
from threading import Event

import pytest

from transcription_assets.speech.prefetch import Ahead

PATIENCE_S = 20


class Source:
    """Numbers, each with an event that is set when its computation starts."""

    def __init__(self, count: int, bad: int | None = None) -> None:
        self.begun = [Event() for _ in range(count)]
        self.closed = Event()
        self._bad = bad

    def __iter__(self) -> Iterator[int]:
        try:
            for number, event in enumerate(self.begun):
                event.set()
                if number == self._bad:
                    raise ValueError(number)
                yield number
        finally:
            self.closed.set()


def test_at_most_one_item_is_computed_in_advance() -> None:
    source = Source(4)
    with closing(Ahead(iter(source))) as items:
        for number in range(3):
            assert next(items) == number
            assert source.begun[number + 1].wait(PATIENCE_S)
            assert not any(event.is_set() for event in source.begun[number + 2 :]), (
                "more than one item is computed in advance"
            )


def test_all_items_are_returned_in_order() -> None:
    with closing(Ahead(range(50))) as items:
        assert list(items) == list(range(50))


def test_an_error_is_raised_at_its_position_and_again_after() -> None:
    with closing(Ahead(iter(Source(5, bad=2)))) as items:
        assert [next(items), next(items)] == [0, 1]
        for _ in range(2):
            with pytest.raises(ValueError, match="2"):
                next(items)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_closes_the_source(taken: int) -> None:
    source = Source(9)
    items = Ahead(iter(source))
    for _ in range(taken):
        next(items)
    items.close()
    assert source.closed.is_set()
    with pytest.raises(StopIteration):
        next(items)
