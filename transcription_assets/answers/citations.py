"""The reply of a model, split into sentences with the passages that they cite. Pure.

A sentence ends at a full stop, at a line break, and after its citations, whatever follows. Numbers of passages that do
not exist are removed, and sentences that then cite nothing are dropped: what is left has at least one citation each,
all of passages that were sent.
"""

import re
from dataclasses import dataclass

from transcription_assets.answers.prompt import NOTHING
from transcription_assets.domain.text import written_sentences

MOST_CHARACTERS = 8_000
MOST_SENTENCES = 40

# White space is collapsed first, and no quantifier gives anything back: the time is linear in the length of the reply.
_BODY = r"\d{1,3}(?: ?[-–,;、，] ?\d{1,3})*+(?:†[^\[\]【】\uff3b\uff3d]{0,40}+)?"  # noqa: RUF001 (the marks themselves)
_ONE = re.compile(rf"[\[【\uff3b] ?({_BODY}) ?[\]】\uff3d]")
_GROUP = re.compile(rf" ?{_ONE.pattern}(?: ?{_ONE.pattern})*+")
_RANGE = re.compile(r"(\d{1,3})(?: ?[-–] ?(\d{1,3}))?")
_REASONING = re.compile(r"\A.*</think>|<think>.*\Z", re.DOTALL)
_BULLET = re.compile(r"\A(?:[-*•>]|#{1,6}|\d{1,2}[.)]) ")
_EMPHASIS = re.compile(r"\*\*|__|`")
_CLOSING = re.compile(r"[.!?…。\uff01\uff1f,;:\"'”’»)]*+")
_STOPS = tuple(".!?…。\uff01\uff1f")


@dataclass(frozen=True, slots=True)
class CitedSentence:
    """A sentence of an answer, and the numbers (from 1) of the passages that it cites, at least one."""

    text: str
    cites: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CheckedReply:
    """The sentences that are left, none if the model refused.

    `dropped` counts those without a citation, `invented` the citations removed.
    """

    sentences: tuple[CitedSentence, ...] = ()
    dropped: int = 0
    invented: int = 0
    is_refusal: bool = False


@dataclass(slots=True)
class _Unit:
    text: str
    numbers: list[int]


def checked(reply: str, passages: int, *, is_cut: bool = False) -> CheckedReply:
    """Return the sentences of a reply that cite at least one of the passages 1 to `passages`.

    Without the last one if the reply `is_cut` off.
    """
    text = _REASONING.sub("", reply)
    is_cut |= len(text) > MOST_CHARACTERS
    units = [unit for line in text[:MOST_CHARACTERS].splitlines() for unit in _units(_plain(line))]
    if any(unit.text.upper().strip(" .!*\"'") == NOTHING for unit in units):
        return CheckedReply(is_refusal=True)
    sentences: list[CitedSentence] = []
    dropped = invented = 0
    for number, unit in enumerate(units, 1):
        cites = tuple(dict.fromkeys(cited for cited in unit.numbers if 1 <= cited <= passages))
        invented += sum(not 1 <= cited <= passages for cited in unit.numbers)
        is_half = is_cut and number == len(units)
        if cites and len(sentences) < MOST_SENTENCES and not is_half:
            sentences.append(CitedSentence(unit.text, cites))
        else:
            dropped += 1
    return CheckedReply(tuple(sentences), dropped, invented)


def _plain(line: str) -> str:
    """Return a line with single spaces, without marks of lists, headings and emphasis."""
    return _EMPHASIS.sub("", _BULLET.sub("", " ".join(line.split()))).strip()


def _units(line: str) -> list[_Unit]:
    """Return the sentences of a line with their citations.

    Citations belong to the text before them ("It was blue. [1]"); in a line that starts with one, those after a full
    stop belong to the sentence after them.
    """
    groups = list(_GROUP.finditer(line))
    starts = [0, *(group.end() for group in groups)]
    ends = [*(group.start() for group in groups), len(line)]
    is_leading = bool(groups) and not _is_said(line[: groups[0].start()])
    units: list[_Unit] = []
    waiting: list[int] = []
    is_open = False
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        text = line[start:end]
        if index and units:
            closing = _CLOSING.match(text)
            assert closing is not None  # noqa: S101 -- it may be empty
            units[-1].text += closing[0] if is_open else ""
            text = text[closing.end() :]
        said = [part for part in written_sentences(text) if _is_said(part)]
        units += [_Unit(part, []) for part in said]
        if said:
            units[-len(said)].numbers += waiting
            waiting = []
        if index == len(groups):
            break
        is_open = not text.rstrip().endswith(_STOPS) if said else is_open
        numbers = _numbers(groups[index][0])
        has_more = _is_said(line[groups[index].end() :])
        if not units or (is_leading and has_more and units[-1].text.endswith(_STOPS)):
            waiting += numbers
        else:
            units[-1].numbers += numbers
    return units


def _is_said(text: str) -> bool:
    return any(character.isalnum() for character in _GROUP.sub("", text))


def _numbers(group: str) -> list[int]:
    """Return the numbers of some citations, those between `1-3` included."""
    found: list[int] = []
    for body in _ONE.findall(group):
        for first, last in _RANGE.findall(body.partition("†")[0]):
            found += range(int(first), int(last) + 1) if last and int(first) <= int(last) else [int(first)]
    return found
