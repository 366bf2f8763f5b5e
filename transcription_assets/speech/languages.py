"""Which language a chunk is in: its own voice, and what the rest of the recording speaks. Pure."""

from collections.abc import Collection, Mapping, Sequence

SURE = 0.5
SPOKEN_SHARE = 0.1
"""A language with less of the recording than this is a guess of a few chunks, and no help for others."""
ONE_LANGUAGE = 0.9
"""Half a minute in one language is as sure of it as this, and half a minute in two is sure of neither."""
TRACE = 0.05
"""So probable is a language that is spoken in a part of a chunk."""

Probabilities = Sequence[tuple[str, float]]
"""Language codes with their probabilities, the most probable first."""


def choose(own: Probabilities, spoken: Collection[str], *, alone: bool) -> tuple[str, float]:
    """The language of a chunk and its probability.

    A chunk that is long enough to stand alone decides by itself where it is sure. Another one speaks one of the
    languages that the recording speaks, if there are any yet.
    """
    best = own[0]
    known = [item for item in own if item[0] in spoken]
    if not known or (alone and best[1] >= SURE):
        return best
    return max(known, key=lambda item: item[1])


def others(own: Probabilities, tried: str, least: float = 0.1) -> Probabilities:
    """Other languages that it may well be, the most probable first; at most two."""
    return [item for item in own[:4] if item[0] != tried and item[1] >= least][:2]


def mixed(own: Probabilities) -> list[str]:
    """The languages between which a chunk may change, the most probable first; fewer than two where it speaks one."""
    if own[0][1] >= ONE_LANGUAGE:
        return []
    return [language for language, probability in own[:4] if probability >= TRACE]


def along(told: Sequence[Probabilities], among: Sequence[str]) -> list[str]:
    """The language of each stretch of such a chunk: its own where that is sure, else that of the one before."""
    spoken, last = [], among[0]
    for own in told:
        best, probability = max(
            (item for item in own if item[0] in among), key=lambda item: item[1], default=(last, 0.0)
        )
        last = best if probability >= SURE else last
        spoken.append(last)
    return spoken


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
