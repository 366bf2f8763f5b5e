"""Times of words from what a service states, however wrong."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.domain.chunking import Region
from transcription_assets.speech.language_names import NAMES, code_of, name_of
from transcription_assets.speech.word_times import TimedText, placed

TIMES = st.floats(-5, 40) | st.sampled_from([math.nan, math.inf, -math.inf, 1e300])
TEXTS = st.text("ab 1.,é世界-'\n", max_size=60)


def told(*items: tuple[float, float, str]) -> list[TimedText]:
    return [TimedText(start, end, text, 0.5) for start, end, text in items]


def times(text: str, stated: list[TimedText], *voiced: tuple[float, float], length: float = 10.0) -> object:
    words, estimated = placed(text, stated, [Region(*item) for item in voiced], length)
    return [(round(word.start, 2), round(word.end, 2), word.word) for word in words], estimated


def test_stated_times_belong_to_the_words_of_the_text() -> None:
    stated = told((0.1, 0.5, "its"), (0.5, 1.0, "50000"), (1.2, 2.0, "Bees"))
    assert times("It's 50,000 — bees!", stated) == (
        [(0.1, 0.5, " It's"), (0.5, 1.0, " 50,000 —"), (1.2, 2.0, " bees!")],
        False,
    )


def test_a_missing_word_is_between_its_neighbours() -> None:
    stated = told((1.0, 2.0, "one"), (4.0, 5.0, "three"))
    assert times("One two three", stated, (0, 10)) == (
        [(1.0, 2.0, " One"), (2.0, 4.0, " two"), (4.0, 5.0, " three")],
        True,
    )


def test_words_without_times_share_the_voiced_time() -> None:
    assert times("aa bb cc dd", [], (1, 2), (5, 6)) == (
        [(1.0, 1.5, " aa"), (1.5, 2.0, " bb"), (5.0, 5.5, " cc"), (5.5, 6.0, " dd")],
        True,
    )


def test_words_of_a_segment_share_its_time() -> None:
    stated = told((1.0, 2.0, "aa bb"), (4.0, 6.0, "cc dd"))
    assert times("aa bb cc dd", stated, (0, 10)) == (
        [(1.0, 1.5, " aa"), (1.5, 2.0, " bb"), (4.0, 5.0, " cc"), (5.0, 6.0, " dd")],
        True,
    )


@pytest.mark.parametrize(
    "stated",
    [
        told((100, 101, "aa"), (101, 102, "bb")),
        told((math.nan, 1, "aa"), (1, 2, "bb")),
        told((0, 1, "aa"), (1, math.inf, "bb")),
        told((5, 6, "aa"), (1, 2, "bb")),
        told((3, 2, "aa"), (4, 5, "bb")),
        told((0, 0, "aa"), (0, 0, "bb")),
        told((-8, -7, "aa"), (1, 2, "bb")),
        told((2, 2, "aa"), (2, 3, "bb")),
        told((0, 3, "aa"), (3, 8.5, "bb")),
        told((2, 2.02, "aa"), (2.02, 2.04, "bb")),
        told((7, 8, "aa"), (8, 9, "bb")),
    ],
    ids=[
        "outside",
        "nan",
        "infinite",
        "backwards",
        "negative length",
        "all zero",
        "negative",
        "half zero",
        "long word",
        "one moment",
        "pause",
    ],
)
def test_impossible_times_are_not_used(stated: list[TimedText]) -> None:
    assert times("aa bb", stated, (2, 4)) == ([(2.0, 3.0, " aa"), (3.0, 4.0, " bb")], True)


def test_times_a_little_outside_are_moved_to_the_edge() -> None:
    assert times("aa bb", told((-0.3, 1, "aa"), (6, 10.5, "bb"))) == ([(0, 1, " aa"), (6, 10, " bb")], False)


def test_scripts_without_spaces_are_timed_by_character() -> None:
    assert times("你好。", told((1, 2, "你"), (2, 3, "好"))) == ([(1, 2, "你"), (2, 3, "好。")], False)


@given(
    text=TEXTS,
    stated=st.lists(st.builds(TimedText, TIMES, TIMES, TEXTS), max_size=6),
    edges=st.lists(st.floats(0, 30), max_size=6, unique=True),
    length=st.floats(0.1, 30),
)
def test_no_word_is_lost_and_times_are_possible(
    text: str, stated: list[TimedText], edges: list[float], length: float
) -> None:
    ordered = sorted(min(edge, length) for edge in edges)
    voiced = [Region(first, second) for first, second in zip(ordered[::2], ordered[1::2], strict=False)]
    words, _ = placed(text, stated, voiced, length)
    assert "".join(word.word for word in words).split() == text.split() or any(ord(letter) > 999 for letter in text)
    assert "".join("".join(word.word for word in words).split()) == "".join(text.split())
    clock = [0.0, *(time for word in words for time in (word.start, word.end)), length]
    assert all(math.isfinite(time) and later >= time - 1e-6 for time, later in pairwise(clock))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("english", "en"),
        ("German", "de"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("haitian creole", "ht"),
        ("yue", "yue"),
        ("deu", "de"),
        ("Mandarin", "zh"),
        ("nb-NO", "no"),
        ("jv", "jw"),
    ],
)
def test_names_of_languages_have_codes(name: str, code: str) -> None:
    assert code_of(name) == code


@pytest.mark.parametrize("name", ["", "klingon", "e", "1234", "日本語", "xx", "und", "auto", "the"])
def test_unknown_languages_have_no_code(name: str) -> None:
    assert code_of(name) == ""


def test_every_language_has_a_name_and_a_code() -> None:
    codes = [item.split()[0] for item in NAMES.split(",")]
    assert len(codes) == 100
    assert [code_of(name_of(code)) for code in codes] == [code_of(code) for code in codes] == codes
