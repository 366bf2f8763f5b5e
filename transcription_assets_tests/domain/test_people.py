"""Statements about speakers, and who the speakers are according to them."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.domain.people import (
    CLEAR_MARGIN,
    Claims,
    DiarisationId,
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


HERE = DiarisationId("e", "sound", "first")
AGAIN = DiarisationId("e", "sound", "second")


def said(
    verdict: Verdict, label: str, person: str = "", turns: Sequence[Turn] = TURNS, diarisation: DiarisationId = HERE
) -> Statement:
    return Statement(verdict, label, spans_of(turns, label), diarisation, person)


def claims(
    *statements: Statement, turns: Sequence[Turn] = TURNS, diarisation: DiarisationId = HERE
) -> dict[str, Claims]:
    return dict(claims_of(turns, statements, diarisation))


def test_a_statement_names_the_speaker() -> None:
    assert claims(said("is", "1", "ada")) == {"1": Claims("ada"), "2": Claims()}


def test_labels_may_be_numbered_differently() -> None:
    other = tuple(Turn(turn.start, turn.end, {"1": "2", "2": "1"}[turn.label]) for turn in TURNS)
    assert claims(said("is", "1", "ada"), turns=other, diarisation=AGAIN) == {"2": Claims("ada"), "1": Claims()}


def test_both_parts_of_a_divided_speaker_keep_the_name() -> None:
    divided = (Turn(0.0, 10.0, "1"), Turn(10.0, 16.0, "2"), Turn(16.0, 20.0, "3"))
    found = claims(said("is", "1", "ada"), said("is", "2", "ben"), turns=divided, diarisation=AGAIN)
    assert [found[label].person for label in "123"] == ["ada", "ben", "ada"]


def test_joined_speakers_get_the_name_of_the_longer_one() -> None:
    joined = (Turn(0.0, 20.0, "1"),)
    assert claims(said("is", "2", "ben"), said("is", "1", "ada"), turns=joined, diarisation=AGAIN) == {
        "1": Claims("ada")
    }


def test_a_later_statement_replaces_an_earlier_one() -> None:
    assert claims(said("is", "1", "ada"), said("is", "1", "ben"))["1"] == Claims("ben")
    assert claims(said("is", "1", "ada"), said("unknown", "1"))["1"] == Claims()
    assert claims(said("is", "1", "ada"), said("withheld", "1"))["1"] == Claims(withheld=True)


def test_a_ruled_out_person_can_be_confirmed_later() -> None:
    refused = claims(said("is", "1", "ada"), said("is_not", "1", "ada"))["1"]
    assert refused == Claims("", frozenset({"ada"}))
    assert claims(said("is_not", "1", "ada"), said("is", "1", "ada"))["1"] == Claims("ada")


def test_only_a_name_ends_withholding() -> None:
    assert claims(said("withheld", "1"), said("unknown", "1"))["1"] == Claims(withheld=True)
    assert claims(said("withheld", "1"), said("is", "1", "ada"))["1"] == Claims("ada")


def test_statements_about_another_recording_do_not_count() -> None:
    named = said("is", "1", "ada")
    assert claims(named, diarisation=DiarisationId("new", "new", "first"))["1"] == Claims()
    assert claims(named, diarisation=DiarisationId("new", "", "first"))["1"] == Claims()
    assert claims(named, diarisation=DiarisationId("new", "sound", "first"))["1"] == Claims("ada")
    assert claims(named, diarisation=DiarisationId("e", "new", "first"))["1"] == Claims("ada")


def test_simultaneous_speakers_are_told_apart() -> None:
    turns = (Turn(0.0, 60.0, "1"), Turn(20.0, 22.0, "2", overlap=True))
    assert claims(said("is", "1", "ada", turns), turns=turns) == {"1": Claims("ada"), "2": Claims()}
    both = claims(said("is", "1", "ada", turns), said("is", "2", "ben", turns), turns=turns)
    assert both == {"1": Claims("ada"), "2": Claims("ben")}


def test_correcting_a_divided_part_keeps_the_rest() -> None:
    divided = (Turn(0.0, 9.0, "1"), Turn(9.0, 10.0, "3"), Turn(10.0, 16.0, "2"), Turn(16.0, 20.0, "1"))
    corrected = said("is", "3", "ben", divided, AGAIN)
    found = claims(said("is", "1", "ada"), corrected, turns=divided, diarisation=AGAIN)
    assert [found[label].person for label in "123"] == ["ada", "", "ben"]
    joined = claims(said("is", "1", "ada"), said("is_not", "3", "ada", divided, AGAIN), diarisation=HERE)
    assert joined["1"] == Claims("ada")


@given(st.lists(st.tuples(st.sampled_from("123"), st.booleans()), min_size=1, max_size=12), st.sampled_from("123"))
def test_a_statement_changes_no_other_speaker(parts: list[tuple[str, bool]], label: str) -> None:
    """With unchanged turns, whatever the overlap."""
    turns = [Turn(float(start), start + 1.5, who, overlap) for start, (who, overlap) in enumerate(parts)]
    before = claims(said("is", "1", "ada", turns), turns=turns)
    after = claims(said("is", "1", "ada", turns), said("is", label, "ben", turns), turns=turns)
    assert {one: claim for one, claim in after.items() if one != label} == {
        one: claim for one, claim in before.items() if one != label
    }
    assert label not in after or after[label] == Claims("ben")


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


@pytest.mark.parametrize("name", ["", " \t", "x" * 101, "Ada?", "Speaker 3", "speaker 12", "0123456789ab", "\u202e"])
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
