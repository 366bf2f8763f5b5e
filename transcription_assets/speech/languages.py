"""Which language a chunk is in: its own voice, and what the rest of the recording speaks. Pure."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

SURE = 0.5
SPOKEN_SHARE = 0.1
"""A language with less of the recording than this is a guess of a few chunks, and no help for others."""
ONE_LANGUAGE = 0.9
"""Half a minute in one language is as sure of it as this, and half a minute in two is sure of neither."""
TRACE = 0.05
"""So probable is a language that is spoken in a part of a chunk."""
SURE_REGION = 0.75
"""A region that is told by itself is in another language where it is as sure of it as this."""
UNLIKE = 0.3
"""They may be in another one where the language of the whole chunk is less probable than this."""
RUNNER_UP = 0.0015
"""A chunk in two languages leaves the second at least so much, even where it is sure of the first."""
SURE_SHORT = 0.9
SHORT_S = 2.5
"""A chunk of so many voiced seconds that is as sure as this speaks for itself, whatever the recording speaks."""
INTERJECTION_S = 1.0
"""A shorter region never changes the language."""
SWITCH_COST = 2.5
"""A change of language has to explain the regions better than none by this log-likelihood (nats times seconds)."""
LEAST = 0.01

Probabilities = Sequence[tuple[str, float]]
"""Language codes with their probabilities, the most probable first."""


def choose(own: Probabilities, spoken: Collection[str], *, alone: bool, voiced_s: float = 0.0) -> tuple[str, float]:
    """Return the language of a chunk and its probability.

    A chunk that is long enough to stand alone decides by itself where it is sure, a shorter one where it is very sure.
    Another one speaks one of the languages that the recording speaks, if there are any yet.
    """
    best = own[0]
    known = [item for item in own if item[0] in spoken]
    very_sure = voiced_s >= SHORT_S and best[1] >= SURE_SHORT
    if not known or very_sure or (alone and best[1] >= SURE):
        return best
    return max(known, key=lambda item: item[1])


def others(own: Probabilities, tried: str, least: float = 0.1) -> Probabilities:
    """Other languages that it may well be, the most probable first; at most two."""
    return [item for item in own[:4] if item[0] != tried and item[1] >= least][:2]


def mixed(own: Probabilities) -> list[str]:
    """Return the languages between which a chunk may change, the most probable first; none where it is sure of one."""
    if own[0][1] >= ONE_LANGUAGE:
        return []
    found = [language for language, probability in own[:4] if probability >= TRACE]
    return found if len(found) > 1 else []


def suspects(own: Probabilities, slices: Iterable[tuple[int, Probabilities]]) -> list[int]:
    """Return the regions of which no slice (region, probabilities) gives the language of the chunk a fair chance."""
    language = own[0][0]
    if len(own) < 2 or own[1][1] < RUNNER_UP:  # noqa: PLR2004
        return []
    alike = {region for region, told in slices if dict(told).get(language, 0.0) >= UNLIKE}
    return sorted({region for region, _ in slices} - alike)


def along(told: Sequence[Probabilities], among: Sequence[str], seconds: Sequence[float]) -> list[str]:
    """Return the language of each region of such a chunk: the most probable path, in which every change has a cost.

    A region counts by its `seconds`; one shorter than INTERJECTION_S does not count at all.
    """
    paths = {language: (0.0, list[str]()) for language in among}
    for own, length in zip(told, seconds, strict=True):
        probable, weight = dict(own), length if length >= INTERJECTION_S else 0.0
        best = max(paths.values(), key=lambda path: path[0])
        reached = {}
        for language, path in paths.items():
            score, before = max((best[0] - SWITCH_COST, best[1]), path, key=lambda item: item[0])
            score += weight * math.log(max(probable.get(language, 0.0), LEAST))
            reached[language] = (score, [*before, language])
        paths = reached
    return max(paths.values(), key=lambda path: path[0])[1]


def spoken(votes: Mapping[str, float]) -> frozenset[str]:
    """The languages with a fair share of the voiced time so far."""
    total = sum(votes.values())
    return frozenset(language for language, seconds in votes.items() if seconds >= SPOKEN_SHARE * total)


def add(votes: dict[str, float], own: Probabilities, seconds: float) -> None:
    """Let a chunk vote: each language by its probability, for the seconds of the chunk."""
    count(votes, {language: probability * seconds for language, probability in own[:5]})


def count(votes: dict[str, float], more: Mapping[str, float]) -> None:
    """Add other votes to these."""
    for language, seconds in more.items():
        votes[language] = votes.get(language, 0.0) + seconds


def shares(votes: Mapping[str, float]) -> dict[str, float]:
    """Each language's share, the largest first; without the dust of a hundred languages that nobody speaks."""
    total = sum(votes.values())
    if not total:
        return {}
    ordered = sorted(votes.items(), key=lambda item: -item[1])
    return {language: round(seconds / total, 4) for language, seconds in ordered if seconds >= 0.01 * total}
