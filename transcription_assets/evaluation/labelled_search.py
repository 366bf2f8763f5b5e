"""Evaluation of the search with the labelled set: the talks are indexed, and every question is asked in every mode."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from transcription_assets.embedding import Encoder, Vectors, Weights
from transcription_assets.evaluation.search_quality import (
    CLOSE_S,
    DEPTH,
    KINDS,
    TOLERANCE_S,
    Figures,
    Judged,
    Question,
    Talk,
    figures,
    judge,
    questions,
    talks,
)
from transcription_assets.pipeline.embeddings import PassageOptions, RecordingInfo, recorded_on, rows_of
from transcription_assets.search.index import Index
from transcription_assets.search.query import Hit, Mode, Query
from transcription_assets.search.searcher import Searcher

ByMode = Mapping[Mode, Figures]
ByKind = Mapping[str, ByMode]


@dataclass(frozen=True, slots=True)
class Half:
    """Metrics of one half of the questions: over all of them (also with the stricter tolerance), and by kind."""

    overall: ByMode
    close: ByMode
    by_kind: ByKind
    close_by_kind: ByKind


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of the questions for tuning, of those held out and of both together, and the judged answers of each."""

    embedding_model: str
    passages: int
    tuning: Half
    held_out: Half
    both: Half
    judged: Mapping[Mode, Sequence[Judged]]


def evaluate(encoder: Encoder, passage_s: float, weights: Weights | None = None) -> Evaluation:
    """Index the talks, ask every question in every mode, and compute the metrics.

    `weights` replace those of the encoder's profile.

    Raises:
        PermanentFailure: the labelled set is inconsistent.
        TranscriptionError: the encoder failed.

    """
    recorded = talks()
    labelled = questions(recorded)
    with indexed(recorded, encoder, passage_s) as table:
        if weights:
            table.calibrate(str(encoder.model), weights)
        asking = _EachOnce(encoder)
        searcher = Searcher(table, lambda _model: asking)
        answers = {mode: [_answered(searcher, question, mode) for question in labelled] for mode in Mode}
        passages = table.count()
    judged = _judged(labelled, answers, TOLERANCE_S)
    close = _judged(labelled, answers, CLOSE_S)
    tuning, held_out, both = (_half(judged, close, chosen) for chosen in ((False,), (True,), (False, True)))
    return Evaluation(str(encoder.model), passages, tuning, held_out, both, judged)


class _EachOnce:
    """Encoder that encodes each question once, although it is asked in several modes."""

    def __init__(self, encoder: Encoder) -> None:
        self.model, self.weights, self.encode = encoder.model, encoder.weights, encoder.encode
        self._encode_query = encoder.encode_query
        self._vectors: dict[str, Vectors] = {}

    def encode_query(self, text: str) -> Vectors:
        if text not in self._vectors:
            self._vectors[text] = self._encode_query(text)
        return self._vectors[text]


@contextmanager
def indexed(recorded: Sequence[Talk], encoder: Encoder, passage_s: float) -> Iterator[Index]:
    """Index the talks in a temporary search table.

    Raises:
        TranscriptionError: the encoder failed, or the temporary folder cannot be written.

    """
    rows = [
        rows_of(
            talk.transcript,
            RecordingInfo(talk.title, recorded_on(talk.transcript.media.key)),
            encoder,
            PassageOptions(passage_s),
        )
        for talk in recorded
    ]
    with tempfile.TemporaryDirectory() as folder:
        table = Index(folder)
        table.replace(pl.concat(rows), [talk.transcript.media.key for talk in recorded])
        table.maintain()
        yield table


def _answered(searcher: Searcher, question: Question, mode: Mode) -> Sequence[Hit]:
    return searcher.search(Query(question.text, limit=DEPTH, mode=mode)).hits


Answers = Mapping[Mode, Sequence[Sequence[Hit]]]


def _judged(labelled: Sequence[Question], answers: Answers, tolerance_s: float) -> Mapping[Mode, Sequence[Judged]]:
    return {
        mode: [judge(question, hits, tolerance_s) for question, hits in zip(labelled, found, strict=True)]
        for mode, found in answers.items()
    }


def _half(
    judged: Mapping[Mode, Sequence[Judged]], close: Mapping[Mode, Sequence[Judged]], held_out: Sequence[bool]
) -> Half:
    def by_mode(items: Mapping[Mode, Sequence[Judged]], kind: str = "") -> ByMode:
        return {
            mode: figures(
                [one for one in each if one.question.held_out in held_out and kind in {"", one.question.kind}]
            )
            for mode, each in items.items()
        }

    return Half(
        by_mode(judged),
        by_mode(close),
        {kind: by_mode(judged, kind) for kind in KINDS},
        {kind: by_mode(close, kind) for kind in KINDS},
    )
