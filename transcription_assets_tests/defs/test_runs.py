"""Runs that cover exactly some recordings."""

from collections.abc import Sequence

import pytest

from transcription_assets.defs.runs import keys_of, range_tags

ORDER = ["d", "a", "c", "b"]


@pytest.mark.parametrize(
    ("keys", "runs"),
    [
        ([], []),
        (["a"], [["a"]]),
        (["d", "b"], [["d"], ["b"]]),
        (["c", "a"], [["a", "c"]]),
        (["b", "d", "a"], [["d", "a"], ["b"]]),
        (ORDER, [ORDER]),
        (["gone", "c"], [["c"]]),
    ],
)
def test_each_range_of_neighbours_is_a_run(keys: Sequence[str], runs: list[list[str]]) -> None:
    assert [list(keys_of(tags, ORDER)) for tags in range_tags(keys, ORDER)] == runs
