"""Windows are read while those before are decoded: one ahead, not more, for each takes memory."""

from collections.abc import Iterator
from contextlib import closing
from threading import Event

import pytest

from transcription_assets.speech.prefetch import Ahead

PATIENCE_S = 20


class Source:
    """Numbers, each with an event that tells when it is begun."""

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


def test_the_next_item_is_begun_when_the_one_before_is_taken_and_no_other() -> None:
    source = Source(4)
    with closing(Ahead(iter(source))) as items:
        for number in range(3):
            assert next(items) == number
            assert source.begun[number + 1].wait(PATIENCE_S)
            assert not any(event.is_set() for event in source.begun[number + 2 :]), "more than there is room for"


def test_all_items_come_in_their_order() -> None:
    with closing(Ahead(range(50))) as items:
        assert list(items) == list(range(50))


def test_an_error_comes_in_its_place_and_stays() -> None:
    with closing(Ahead(iter(Source(5, bad=2)))) as items:
        assert [next(items), next(items)] == [0, 1]
        for _ in range(2):
            with pytest.raises(ValueError, match="2"):
                next(items)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_closes_the_source_so_that_no_ffmpeg_is_left_behind(taken: int) -> None:
    source = Source(9)
    items = Ahead(iter(source))
    for _ in range(taken):
        next(items)
    items.close()
    assert source.closed.is_set()
    with pytest.raises(StopIteration):
        next(items)
