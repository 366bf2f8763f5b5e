"""Validation of the ranking weights on questions by which they were not chosen.

python -m benchmarks.halves [--splits N]

The labelled questions are split at random, stratified by kind; the best weights of a grid on one half are measured on
the other half, beside the shipped weights. Takes about two minutes.
"""

import argparse
import itertools
import random
import statistics
import sys
from collections.abc import Sequence

from benchmarks.machine import MODELS, describe
from transcription_assets import models
from transcription_assets.cli.evaluation import indexed
from transcription_assets.embedding import SentenceEncoder, Vectors
from transcription_assets.evaluation.search_quality import DEPTH, Judged, Question, figures, judge, questions, talks
from transcription_assets.search import ranking
from transcription_assets.search.query import Query
from transcription_assets.search.searcher import Searcher

NAMES = ("SENTENCE_SHARE", "WORDS_SHARE", "SENTENCE_WORDS")
GRID = ((0.3, 0.5, 0.7), (0.2, 0.3, 0.5, 0.8), (0.15, 0.3, 0.5))
Weights = tuple[float, ...]


class Remembering(SentenceEncoder):
    """Encoder that encodes each question only once."""

    told: dict[str, Vectors]

    def encode_query(self, text: str) -> Vectors:
        """Encode a question: shape (dimension,)."""
        if text not in self.told:
            self.told[text] = super().encode_query(text)
        return self.told[text]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=20)
    chosen = parser.parse_args()
    print(describe())
    asked = questions(talks())
    shipped = tuple(getattr(ranking, name) for name in NAMES)
    judged = _judged(asked, {shipped, *itertools.product(*GRID)})
    chance = random.Random(0)  # noqa: S311 -- a split, not a secret
    on_own, on_other, of_shipped = [], [], []
    for _ in range(chosen.splits):
        one, other = _halves(asked, chance)
        for learnt, kept in ((one, other), (other, one)):
            best = max(judged, key={weights: _mrr(found, learnt) for weights, found in judged.items()}.__getitem__)
            on_own.append(_mrr(judged[best], learnt))
            on_other.append(_mrr(judged[best], kept))
            of_shipped.append(_mrr(judged[shipped], kept))
    print(f"{len(judged)} sets of weights, {chosen.splits} splits into halves; MRR of both together, mean (deviation)")
    for name, found in (
        ("chosen, on its own half", on_own),
        ("chosen, on the other half", on_other),
        (f"shipped {shipped}, on the other half", of_shipped),
    ):
        print(f"{name:46} {statistics.fmean(found):.3f} ({statistics.stdev(found):.3f})")
    everything = sorted((_mrr(judged[weights], range(len(asked))), weights) for weights in judged)
    print(f"on all questions: worst {everything[0]}, best {everything[-1]}")
    return 0


def _judged(asked: Sequence[Question], every: set[Weights]) -> dict[Weights, list[Judged]]:
    """Return the judged answers to all questions for each set of weights."""
    located = models.locate("all-MiniLM-L6-v2", "encoder", MODELS)
    encoder = Remembering(located.path, name=located.name, revision=located.revision, device="cpu")
    encoder.told = {}
    found = {}
    with indexed(talks(), encoder, 30.0) as table:
        searcher = Searcher(table, lambda _model: encoder)
        for weights in sorted(every):
            for name, weight in zip(NAMES, weights, strict=True):
                setattr(ranking, name, weight)
            found[weights] = [judge(item, searcher.search(Query(item.text, limit=DEPTH)).hits) for item in asked]
    return found


def _halves(asked: Sequence[Question], chance: random.Random) -> tuple[list[int], list[int]]:
    """Return the numbers of the questions in two halves, with equal shares of each kind."""
    kinds = {item.kind: [n for n, other in enumerate(asked) if other.kind == item.kind] for item in asked}
    one: list[int] = []
    for numbers in kinds.values():
        one += chance.sample(numbers, len(numbers) // 2)
    return one, [number for number in range(len(asked)) if number not in one]


def _mrr(judged: Sequence[Judged], numbers: Sequence[int]) -> float:
    return figures([judged[number] for number in numbers]).mrr


if __name__ == "__main__":
    sys.exit(main())
