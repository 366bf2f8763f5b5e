"""Calibration: the weights of the ranking that suit an encoder, measured with the labelled questions for tuning."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from transcription_assets.embedding import Encoder, Weights
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation.labelled_search import indexed
from transcription_assets.evaluation.search_quality import (
    CLOSE_S,
    DEPTH,
    Judged,
    Question,
    figures,
    judge,
    talks,
    tuning_questions,
)
from transcription_assets.search.query import Query
from transcription_assets.search.searcher import Found, Searcher

SENTENCE = (0.3, 0.5, 0.7)
WORDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
SENTENCE_WORDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
PLATEAU = 0.005
"""Weights whose MRR is below the best by no more than this are as good; the nearest to the defaults are taken."""
DOUBTED = 0.02
"""Share of correct first hits that may be called weak."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The weights for a model, and their MRR on the questions for tuning beside that of the defaults."""

    embedding_model: str
    weights: Weights
    mrr: float
    default_mrr: float
    questions: int


def calibrate(encoder: Encoder, passage_s: float) -> Calibration:
    """Find the weights for an encoder with the questions for tuning.

    Raises:
        PermanentFailure: the labelled set is inconsistent.
        TranscriptionError: the encoder failed.

    """
    recorded = talks()
    with indexed(recorded, encoder, passage_s) as table:
        searcher = Searcher(table, lambda _model: encoder)
        return fit(str(encoder.model), searcher, tuning_questions(recorded))


def fit(embedding_model: str, searcher: Searcher, asked: Sequence[Question]) -> Calibration:
    """Find the weights with these questions: passages are retrieved once, and ranked with each set of weights.

    Raises:
        PermanentFailure: a question is held out: a figure of such questions would not be one of unknown questions.
        TranscriptionError: the search failed.

    """
    if any(question.held_out for question in asked):
        raise PermanentFailure(
            "held-out questions cannot be used for calibration", hint="use the questions of queries.toml only"
        )
    found = [(question, searcher.find(Query(question.text, limit=DEPTH))) for question in asked]
    ranker = _Ranker([(question, answer) for question, answer in found if answer is not None])
    default = Weights()
    shares = (replace(default, sentence=share, words=words) for share, words in itertools.product(SENTENCE, WORDS))
    best = ranker.best(shares)
    best = ranker.best(replace(best, sentence_words=words) for words in SENTENCE_WORDS)
    best = replace(best, weak_below=ranker.weak_below(best))
    return Calibration(embedding_model, best, ranker.mrr(best), ranker.mrr(default), len(asked))


class _Ranker:
    """The passages found for each question, ranked with given weights."""

    def __init__(self, found: Sequence[tuple[Question, Found]]) -> None:
        self._found = found

    def judged(self, weights: Weights) -> list[Judged]:
        return [
            judge(question, answer.ranked(weights=weights).hits(0, DEPTH), CLOSE_S) for question, answer in self._found
        ]

    def mrr(self, weights: Weights) -> float:
        return figures(self.judged(weights)).mrr

    def best(self, each: Iterable[Weights]) -> Weights:
        """Return the best weights; among equally good ones, the nearest to the defaults."""
        measured: Mapping[Weights, float] = {weights: self.mrr(weights) for weights in each}
        highest = max(measured.values())
        return min((weights for weights, mrr in measured.items() if mrr >= highest - PLATEAU), key=_distance)

    def weak_below(self, weights: Weights) -> float:
        """Return the highest cosine, in steps of 0.01, that calls at most DOUBTED of the correct first hits weak."""
        closeness = []
        for question, answer in self._found:
            ranked = answer.ranked(weights=weights)
            if judge(question, ranked.hits(0, DEPTH), CLOSE_S).rank == 1 and ranked.first:
                near, coverage = ranked.first
                closeness.append(near if coverage <= 0.5 else math.inf)  # noqa: PLR2004 -- as in ranking
        allowed = sorted(closeness)[int(DOUBTED * len(closeness)) :]
        lowest = allowed[0] if allowed else 0.0
        return 0.0 if math.isinf(lowest) else max(0.0, math.floor(lowest * 100) / 100)


def _distance(weights: Weights) -> float:
    default = Weights()
    ratios = (
        weights.sentence / default.sentence,
        weights.words / default.words,
        weights.sentence_words / default.sentence_words,
    )
    return sum(abs(math.log(ratio)) for ratio in ratios)
