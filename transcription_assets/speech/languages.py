"""Choice of the language of a chunk, from its own detection and from the rest of the recording. Pure functions."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

SURE = 0.5
SPOKEN_SHARE = 0.1
"""A language with a smaller share of the recording may be a misdetection in a few chunks; other chunks ignore it."""
ONE_LANGUAGE = 0.9
"""Probability of the first language from which a chunk is in one language; 30 s in two languages stay below."""
TRACE = 0.05
"""Minimum probability of a language that is spoken in a part of a chunk."""
SURE_REGION = 0.75
"""Probability, detected on a region alone, from which it may be in another language than its chunk."""
UNLIKE = 0.3
"""Slices in which the language of the chunk is less probable may be in another language."""
RUNNER_UP = 0.0015
"""Minimum probability of the second language in a chunk in two languages, even if the first is very probable."""
SURE_SHORT = 0.9
SHORT_S = 2.5
"""A chunk with this voiced time and probability keeps its language, whatever the rest of the recording is in."""
INTERJECTION_S = 1.0
"""A shorter region never changes the language."""
SWITCH_COST = 2.5
"""Cost of a change of language, as log-likelihood (nats times seconds)."""
LEAST = 0.01

Probabilities = Sequence[tuple[str, float]]
"""Language codes with their probabilities, the most probable first."""


def choose(own: Probabilities, spoken: Collection[str], *, alone: bool, voiced_s: float = 0.0) -> tuple[str, float]:
    """Return the language of a chunk and its probability.

    Its first language is chosen if it is probable enough: SURE for a chunk that is long enough (`alone`), SURE_SHORT
    for others of SHORT_S voiced seconds. Else it is the most probable one of `spoken`, the languages of the recording,
    if there are any yet.
    """
    best = own[0]
    known = [item for item in own if item[0] in spoken]
    very_sure = voiced_s >= SHORT_S and best[1] >= SURE_SHORT
    if not known or very_sure or (alone and best[1] >= SURE):
        return best
    return max(known, key=lambda item: item[1])


def others(own: Probabilities, tried: str, least: float = 0.1) -> Probabilities:
    """Return at most two languages besides `tried` with a probability of at least `least`, in the order of `own`."""
    return [item for item in own[:4] if item[0] != tried and item[1] >= least][:2]


def mixed(own: Probabilities) -> list[str]:
    """Return the languages that a chunk may contain, the most probable first; empty if it is in one language."""
    if own[0][1] >= ONE_LANGUAGE:
        return []
    found = [language for language, probability in own[:4] if probability >= TRACE]
    return found if len(found) > 1 else []


def suspects(own: Probabilities, slices: Iterable[tuple[int, Probabilities]]) -> list[int]:
    """Return the regions without a slice (region, probabilities) in which the chunk's language is probable."""
    language = own[0][0]
    if len(own) < 2 or own[1][1] < RUNNER_UP:  # noqa: PLR2004
        return []
    alike = {region for region, told in slices if dict(told).get(language, 0.0) >= UNLIKE}
    return sorted({region for region, _ in slices} - alike)


def along(told: Sequence[Probabilities], among: Sequence[str], seconds: Sequence[float]) -> list[str]:
    """Return the language of each region of a chunk: the most probable path, with a cost for each change (Viterbi).

    Regions are weighted by their `seconds`; the weight is 0 below INTERJECTION_S.
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
    """Return the languages with at least SPOKEN_SHARE of the voiced time so far."""
    total = sum(votes.values())
    return frozenset(language for language, seconds in votes.items() if seconds >= SPOKEN_SHARE * total)


def add(votes: dict[str, float], own: Probabilities, seconds: float) -> None:
    """Add the votes of a chunk: for each language its probability times the seconds of the chunk."""
    count(votes, {language: probability * seconds for language, probability in own[:5]})


def count(votes: dict[str, float], more: Mapping[str, float]) -> None:
    """Add the votes of `more` to `votes`."""
    for language, seconds in more.items():
        votes[language] = votes.get(language, 0.0) + seconds


def shares(votes: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each language, the largest first; those below 1 % are left out as noise of the detection."""
    total = sum(votes.values())
    if not total:
        return {}
    ordered = sorted(votes.items(), key=lambda item: -item[1])
    return {language: round(seconds / total, 4) for language, seconds in ordered if seconds >= 0.01 * total}
