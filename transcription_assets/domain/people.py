"""People, and which speakers of recordings they are. Pure.

A diariser numbers the speakers of a recording, and may number them differently next time. So a user's statement "this
is Ada" is kept with the times at which that speaker spoke. It applies to the label as long as the diarisation is the
same, and later to whichever speaker speaks at these times.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from transcription_assets.domain.speakers import Turn, display_name
from transcription_assets.domain.text import printable
from transcription_assets.domain.transcript import Span
from transcription_assets.errors import PermanentFailure

LONGEST_NAME = 100
MOST_SPANS = 200
"""Turns of a statement, the longest ones: enough to recognise the speaker after another diarisation."""
SAME_SHARE = 0.5
"""Speakers of two diarisations may be the same if they share this part of the time of one of them."""
SUGGESTED = "?"
"""Follows the name of a person whom only the voice suggests."""
CLEAR_MARGIN = 0.05
"""Nobody is suggested if the voice of another person is this close to the most similar one (cosine)."""

Verdict = Literal["is", "is_not", "unknown", "withheld"]
State = Literal["confirmed", "suggested", "unknown"]

_UNNAMED = re.compile(r"speaker \d+", re.IGNORECASE)
_ID = re.compile(r"[0-9a-f]{12}")


class InvalidChange(PermanentFailure):
    """A statement about a speaker or a person that cannot be true: an invalid name, or one that nobody has."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person with the current name; two people may have the same one."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class DiarisationId:
    """The recording and its diarisation: ETag of the recording, SHA-256 of its audio, fingerprint of the turns."""

    etag: str
    sound: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A user's statement about the speaker `label` of a diarisation, who speaks in `spans` (seconds).

    - `is`, `is_not`: the speaker is, or is not, the person with this ID.
    - `unknown`: an earlier statement is withdrawn.
    - `withheld`: the speaker was forgotten, and no voiceprint of them is kept.

    `at` is in ISO 8601 (UTC), `by` the user if known.
    """

    verdict: Verdict
    label: str
    spans: tuple[Span, ...]
    diarisation: DiarisationId
    person: str = ""
    at: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """Result of all statements about a speaker: the person, the people it is not, and whether it is withheld."""

    person: str = ""
    refused: frozenset[str] = frozenset()
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a speaker of a recording: confirmed by a user, suggested by the voice, or unknown.

    `name` is the name for display: `Ada`, `Ada?` if it is only suggested, or `Speaker 1`. `person` is the ID, and
    `similarity` the cosine of the voiceprints on which a suggestion is based.
    """

    label: str
    name: str
    state: State = "unknown"
    person: str = ""
    similarity: float = 0.0


def checked_name(text: str) -> str:
    """Return the name of a person with single spaces.

    Raises:
        InvalidChange: it is empty or too long, or looks like a suggestion or like the name of an unknown speaker.

    """
    name = " ".join(printable(text).split())
    reason = ""
    if not name:
        reason = "it is empty"
    elif len(name) > LONGEST_NAME:
        reason = f"it has {len(name)} characters, at most {LONGEST_NAME} are allowed"
    elif name.endswith(SUGGESTED):
        reason = f"a {SUGGESTED} at the end marks suggestions"
    elif _UNNAMED.fullmatch(name):
        reason = "speakers without a name are called that"
    elif is_person_id(name):
        reason = "it looks like the ID of a person, and nobody has this ID"
    if reason:
        raise InvalidChange(f"invalid name of a person: {reason}", hint="choose another name")
    return name


def is_person_id(text: str) -> bool:
    """Return whether this can be the ID of a person."""
    return _ID.fullmatch(text) is not None


def spans_of(turns: Iterable[Turn], label: str) -> tuple[Span, ...]:
    """Return when a speaker speaks, in order: at most MOST_SPANS turns, the longest.

    Turns in which others speak too say little about who it is, and are left out unless there are no others.
    """
    own = [turn for turn in turns if turn.label == label]
    own = [turn for turn in own if not turn.overlap] or own
    longest = sorted(own, key=lambda turn: turn.start - turn.end)[:MOST_SPANS]
    return tuple(sorted((turn.start, turn.end) for turn in longest))


def claims_of(
    turns: Sequence[Turn], statements: Sequence[Statement], diarisation: DiarisationId
) -> Mapping[str, Claims]:
    """Return what the statements (the oldest first) say about each label of `turns`.

    Statements about another recording that had the same key are ignored. A later statement replaces earlier ones about
    the same speaker, except that only `is` ends `withheld`; `is_not` rules out one person. Where a diarisation has
    joined two speakers, the statement that covers more of the speech counts.
    """
    valid = [item for item in statements if _is_of(item.diarisation, diarisation)]
    decided: list[Statement] = []
    for item in valid:
        replaced = [one for one in decided if _replaces(item, one)]
        has_no_effect = item.verdict == "unknown" and any(one.verdict == "withheld" for one in replaced)
        if item.verdict != "is_not" and not has_no_effect:
            decided = [*(one for one in decided if one not in replaced), item]
    return {
        label: _claims(label, spans_of(turns, label), valid, decided, diarisation)
        for label in dict.fromkeys(turn.label for turn in turns)
    }


def _claims(
    label: str,
    spans: Sequence[Span],
    valid: Sequence[Statement],
    decided: Sequence[Statement],
    diarisation: DiarisationId,
) -> Claims:
    def is_exact(item: Statement) -> bool:
        return item.diarisation.fingerprint == diarisation.fingerprint

    about = [
        (is_exact(item), total_s(spans) if is_exact(item) else common_s(item.spans, spans), number, item)
        for number, item in enumerate(decided)
        if (item.label == label if is_exact(item) else _may_be_same(item.spans, spans))
    ]
    best = max(about)[-1] if about else None
    refused: set[str] = set()
    for item in valid:
        if item.person and (item.label == label if is_exact(item) else _covers(item.spans, spans)):
            (refused.add if item.verdict == "is_not" else refused.discard)(item.person)
    person = best.person if best and best.verdict == "is" and best.person not in refused else ""
    return Claims(person, frozenset(refused), withheld=bool(best and best.verdict == "withheld"))


def _is_of(stated: DiarisationId, diarisation: DiarisationId) -> bool:
    """Return whether a statement is about this version of the recording, or about another with the same audio."""
    return stated.etag == diarisation.etag or bool(stated.sound and stated.sound == diarisation.sound)


def _replaces(later: Statement, earlier: Statement) -> bool:
    """Return whether a statement is about the speaker of the earlier one, or about most of that speech."""
    if later.diarisation.fingerprint == earlier.diarisation.fingerprint:
        return later.label == earlier.label
    return _covers(later.spans, earlier.spans)


def _may_be_same(first: Sequence[Span], second: Sequence[Span]) -> bool:
    """Return whether two speakers of different diarisations may be one, also if one has been divided or joined."""
    return _covers(first, second) or _covers(second, first)


def _covers(first: Sequence[Span], second: Sequence[Span]) -> bool:
    """Return whether `first` shares SAME_SHARE of the time of `second`."""
    whole = total_s(second)
    return whole > 0 and common_s(first, second) >= SAME_SHARE * whole


def total_s(spans: Iterable[Span]) -> float:
    """Return the length of all spans in seconds."""
    return sum(end - start for start, end in spans)


def common_s(first: Sequence[Span], second: Sequence[Span]) -> float:
    """Return the seconds that two lists of spans share; within a list they are in order and do not overlap."""
    ends = [end for _, end in second]
    shared = 0.0
    for start, end in first:
        for other_start, other_end in second[bisect_right(ends, start) :]:
            if other_start >= end:
                break
            shared += min(end, other_end) - max(start, other_start)
    return shared


def identity(label: str, claims: Claims, people: Mapping[str, Person], similar: Mapping[str, float]) -> Identity:
    """Return who a speaker is.

    `people` maps IDs to the people behind them, who have another ID if they were merged. `similar` maps IDs to the
    cosines of voices that are similar enough for a suggestion. Nobody is suggested whom a user has ruled out, or if two
    people have such a voice.
    """
    if person := people.get(claims.person):
        return Identity(label, person.name, "confirmed", person.id)
    cosines: dict[str, float] = {}
    for one, cosine in similar.items():
        if one in people:
            cosines[people[one].id] = max(cosine, cosines.get(people[one].id, -1.0))
    best, *others = sorted(cosines, key=lambda one: (-cosines[one], one)) or [""]
    is_clear = all(cosines[best] - cosines[other] >= CLEAR_MARGIN for other in others)
    refused = {people[one].id for one in claims.refused if one in people}
    if not best or not is_clear or best in refused or claims.withheld:
        return Identity(label, display_name(label))
    return Identity(label, people[best].name + SUGGESTED, "suggested", best, round(cosines[best], 4))
