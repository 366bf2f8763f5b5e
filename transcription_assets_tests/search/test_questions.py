"""Any query is answered without error, and out-of-range values are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from transcription_assets.search.filters import Filters, InvalidQuery
from transcription_assets.search.index import Index
from transcription_assets.search.query import MAX_LIMIT, MAX_TEXT, Mode, Query
from transcription_assets.search.searcher import Searcher
from transcription_assets_tests.search.talks import BREAD, SEA, ThemeEncoder, ask, fill, keys


@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
@examples(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_filter_value_cannot_inject_an_expression(library: Searcher, value: str) -> None:
    ways = (
        value,
        f"' OR '1'='1{value}",
        f"{value}') OR (1=1) --",
        f"{value}\\') OR (1=1)) --",
        f"\\' OR 1=1 --{value}",
    )
    for bad in ways:
        assert not ask(library, "sea", speakers=(bad,)).hits
        assert not ask(library, "sea", languages=(bad,)).hits
        assert all(hit.media_key.startswith(bad) for hit in ask(library, "sea", prefix=bad).hits)


@pytest.mark.parametrize("name", ["O'Brien", "''", "\\", "\\'", "'\\''", "a''b", '"', "--", "%_", "\n\t\0", "é\u0301"])
def test_filter_matches_values_with_special_characters_exactly(tmp_path: Path, name: str) -> None:
    table = Index(str(tmp_path))
    named = replace(SEA, segments=tuple(replace(item, speaker=name, language=name) for item in SEA.segments))
    fill(table, named, BREAD)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    for filters in ({"speakers": (name,)}, {"languages": (name, "no")}):
        assert keys(ask(searcher, "sea bread", **filters)) == {SEA.media.key}


@given(text=st.text(max_size=60))
@examples(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_returns_consistent_hits(library: Searcher, text: str) -> None:
    for mode in Mode:
        for hit in ask(library, text, mode).hits:
            assert 0 <= hit.sentence[0] < hit.sentence[1] <= len(hit.text)
            assert all(0 <= a < b <= len(hit.text) for a, b in hit.matches)
            assert hit.context_start <= hit.start <= hit.end


@pytest.mark.parametrize("text", ["", "   ", '""', "😀", "' OR 1=1; --", "the of and", "\0", "מה נאמר", "*" * 900, '"'])
def test_odd_queries_are_answered_without_error(library: Searcher, text: str) -> None:
    for mode in Mode:
        assert ask(library, text, mode).passages > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "x" * (MAX_TEXT + 1)},
        {"text": "x", "limit": 0},
        {"text": "x", "limit": MAX_LIMIT + 1},
        {"text": "x", "offset": -1},
    ],
)
def test_out_of_range_query_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidQuery):
        Query(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"languages": ("x",) * 21}, {"prefix": "x" * 1001}, {"longest_s": -1.0}, {"prefix": "\udc80"}]
)
def test_out_of_range_filter_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidQuery):
        Filters(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("\u202eשלום\u202c captain Halvorsen مرحبا", 6.0),  # noqa: RUF001 -- Hebrew is meant
        ("to be or not to be", 18.0),
        ("Halvorsn fearde nothng", 6.0),
        ("Bergne harbuor mornign", 30.0),
        ("11 metres", 12.0),
        ("11 m wave", 12.0),
        ("wave of 11.0 metres", 12.0),
        ("3rd day", 12.0),
        ("eleven METRE waves!!!", 12.0),
        ("broke the mast " + "and so on " * 98, 12.0),
        ("broke the mast " + "κύμα волна 波 موجة लहर 파도 คลื่น גל ալիք ტალღა tölzli " * 10, 12.0),
    ],
)
def test_words_among_noise_lead_to_their_sentence(library: Searcher, text: str, start: float) -> None:
    assert len(text) <= MAX_TEXT
    hit = ask(library, text, Mode.TEXT, recording=SEA.media.key).hits[0]
    assert hit.start == start


@pytest.mark.parametrize("text", ["…", "?!.,;:", "«»", "—", "。、", "؟", "''\"\"", "\u200f\u200e", "()" * 500])
def test_punctuation_alone_finds_nothing(library: Searcher, text: str) -> None:
    assert ask(library, text).hits == ()
