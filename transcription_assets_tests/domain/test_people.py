"""Statements about speakers, and who the speakers are according to them."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.domain.people import (
    CLEAR_MARGIN,
    Claims,
    Identity,
    Person,
    Statement,
    Verdict,
    checked_name,
    claims_of,
    common_s,
    identity,
    spans_of,
    total_s,
)
from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Span
from transcription_assets.errors import PermanentFailure

TURNS = (Turn(0.0, 10.0, "1"), Turn(10.0, 16.0, "2"), Turn(16.0, 20.0, "1"))
ADA, BEN = Person("ada", "Ada"), Person("ben", "Ben")
PEOPLE = {"ada": ADA, "ben": BEN}


def said(verdict: Verdict, label: str, person: str = "", turns: Sequence[Turn] = TURNS, etag: str = "e") -> Statement:
    return Statement(verdict, spans_of(turns, label), etag, "sound", person)


def claims(
    *statements: Statement, turns: Sequence[Turn] = TURNS, etag: str = "e", sound: str = "sound"
) -> dict[str, Claims]:
    return dict(claims_of(turns, statements, etag=etag, sound=sound))


def test_a_statement_names_the_speaker() -> None:
    assert claims(said("is", "1", "ada")) == {"1": Claims("ada"), "2": Claims()}


def test_labels_may_be_numbered_differently() -> None:
    other = tuple(Turn(turn.start, turn.end, {"1": "2", "2": "1"}[turn.label]) for turn in TURNS)
    assert claims(said("is", "1", "ada"), turns=other) == {"2": Claims("ada"), "1": Claims()}


def test_both_parts_of_a_divided_speaker_keep_the_name() -> None:
    divided = (Turn(0.0, 10.0, "1"), Turn(10.0, 16.0, "2"), Turn(16.0, 20.0, "3"))
    found = claims(said("is", "1", "ada"), said("is", "2", "ben"), turns=divided)
    assert [found[label].person for label in "123"] == ["ada", "ben", "ada"]


def test_joined_speakers_get_the_name_of_the_longer_one() -> None:
    joined = (Turn(0.0, 20.0, "1"),)
    assert claims(said("is", "2", "ben"), said("is", "1", "ada"), turns=joined) == {"1": Claims("ada")}


def test_a_later_statement_replaces_an_earlier_one() -> None:
    assert claims(said("is", "1", "ada"), said("is", "1", "ben"))["1"] == Claims("ben")
    assert claims(said("is", "1", "ada"), said("unknown", "1"))["1"] == Claims()
    assert claims(said("is", "1", "ada"), said("withheld", "1"))["1"] == Claims(withheld=True)


def test_a_ruled_out_person_can_be_confirmed_later() -> None:
    refused = claims(said("is", "1", "ada"), said("is_not", "1", "ada"))["1"]
    assert refused == Claims("", frozenset({"ada"}))
    assert claims(said("is_not", "1", "ada"), said("is", "1", "ada"))["1"] == Claims("ada")


def test_statements_about_another_recording_do_not_count() -> None:
    assert claims(said("is", "1", "ada"), etag="new", sound="new")["1"] == Claims()
    assert claims(said("is", "1", "ada"), etag="new")["1"] == Claims("ada")
    assert claims(said("is", "1", "ada"), sound="new")["1"] == Claims("ada")


def test_confirmed_people_are_named() -> None:
    assert identity("1", Claims("ada"), PEOPLE, {"ben": 0.9}) == Identity("1", "Ada", "confirmed", "ada")


def test_similar_voices_are_suggested_with_a_question_mark() -> None:
    assert identity("1", Claims(), PEOPLE, {"ada": 0.8}) == Identity("1", "Ada?", "suggested", "ada", 0.8)


def test_forgotten_or_unclear_voices_are_not_suggested() -> None:
    unknown = Identity("1", "Speaker 1")
    assert identity("1", Claims(withheld=True), PEOPLE, {"ada": 0.8}) == unknown
    assert identity("1", Claims("gone"), PEOPLE, {"gone": 0.8}) == unknown
    assert identity("1", Claims(refused=frozenset({"ada"})), PEOPLE, {"ada": 0.8}) == unknown
    assert identity("1", Claims(), PEOPLE, {"ada": 0.8, "ben": 0.8 - CLEAR_MARGIN / 2}) == unknown
    assert identity("1", Claims(), PEOPLE, {"ada": 0.8, "ben": 0.7}).person == "ada"


def test_a_ruled_out_voice_does_not_lead_to_the_next_one() -> None:
    assert identity("1", Claims(refused=frozenset({"ada"})), PEOPLE, {"ada": 0.9, "ben": 0.7}).state == "unknown"


def test_merged_people_count_as_one() -> None:
    merged = {"ada": BEN, "ben": BEN}
    assert identity("1", Claims("ada"), merged, {}) == Identity("1", "Ben", "confirmed", "ben")
    assert identity("1", Claims(), merged, {"ada": 0.8, "ben": 0.79}) == Identity("1", "Ben?", "suggested", "ben", 0.8)
    assert identity("1", Claims(refused=frozenset({"ada"})), merged, {"ben": 0.8}).state == "unknown"


@pytest.mark.parametrize("name", ["", " \t", "x" * 101, "Ada?", "Speaker 3", "speaker 12", "\u202e"])
def test_names_that_would_mislead_are_refused(name: str) -> None:
    with pytest.raises(PermanentFailure):
        checked_name(name)


@pytest.mark.parametrize(
    ("given_name", "name"),
    [("  Ada \n Lovelace ", "Ada Lovelace"), ("<b>&", "<b>&"), ("李白", "李白"), ("A\x07da", "Ada")],
)
def test_names_are_kept_as_printable_text(given_name: str, name: str) -> None:
    assert checked_name(given_name) == name


SPANS = st.lists(st.floats(0, 1000, allow_nan=False, width=32), max_size=20, unique=True).map(
    lambda times: tuple(zip(*[iter(sorted(times))] * 2, strict=False))
)


@given(SPANS, SPANS)
def test_common_time_is_symmetric_and_bounded(first: tuple[Span, ...], second: tuple[Span, ...]) -> None:
    common = common_s(first, second)
    assert common == pytest.approx(common_s(second, first), abs=1e-6)
    assert -1e-9 <= common <= min(total_s(first), total_s(second)) + 1e-6
    assert common_s(first, first) == pytest.approx(total_s(first))
