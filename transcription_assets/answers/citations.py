"""The reply of a model, split into sentences with the passages that they cite. Pure.

Numbers of passages that do not exist are removed, and sentences that then cite nothing are dropped: what is left has at
least one citation each, all of passages that were sent.
"""

import re
from dataclasses import dataclass

MOST_CHARACTERS = 8_000
MOST_SENTENCES = 40

_NUMBERS = r"(?:\[|【)\s*(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*(?:\]|】)"
_CITATION = re.compile(rf"\s*{_NUMBERS}")
_AFTER_STOP = re.compile(rf"([.!?…。\uff01\uff1f]+[\"'”’»)]*)((?:\s*{_NUMBERS})+)")
_REASONING = re.compile(r"\A.*</think>", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")


@dataclass(frozen=True, slots=True)
class CitedSentence:
    """A sentence of an answer, and the numbers (from 1) of the passages that it cites, at least one."""

    text: str
    cites: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CheckedReply:
    """The sentences that are left; `dropped` counts those without a citation, `invented` the citations removed."""

    sentences: tuple[CitedSentence, ...]
    dropped: int = 0
    invented: int = 0


def checked(reply: str, passages: int) -> CheckedReply:
    """Return the sentences of a reply that cite at least one of the passages 1 to `passages`."""
    text = _REASONING.sub("", reply)[:MOST_CHARACTERS]
    # "It was blue. [1] It was red. [2]": a citation after the full stop belongs to the sentence before it.
    text = _AFTER_STOP.sub(r"\2\1", text)
    sentences: list[CitedSentence] = []
    dropped = invented = 0
    for part in _sentences(text):
        numbers = [int(number) for found in re.findall(_NUMBERS, part) for number in re.split(r"[,;]", found)]
        cites = tuple(dict.fromkeys(number for number in numbers if 1 <= number <= passages))
        invented += sum(not 1 <= number <= passages for number in numbers)
        said = " ".join(_CITATION.sub("", part).split())
        if not any(character.isalnum() for character in said):
            continue
        if cites and len(sentences) < MOST_SENTENCES:
            sentences.append(CitedSentence(said, cites))
        else:
            dropped += 1
    return CheckedReply(tuple(sentences), dropped, invented)


def _sentences(text: str) -> list[str]:
    """Split by ICU's rules, and at line breaks."""
    from icu4py.breakers import SentenceBreaker

    lines = (_BULLET.sub("", line) for line in text.splitlines())
    return [part for line in lines for part in SentenceBreaker(_encodable(line), "und") if part.strip()]


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
