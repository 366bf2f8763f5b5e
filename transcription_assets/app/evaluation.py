"""eval search: the labelled set through the real index and encoder, in a folder of its own; nothing of a store is touched."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from transcription_assets.embedding import Encoder
from transcription_assets.evaluation.figures import DEPTH, Figures, Judged, figures, judge
from transcription_assets.evaluation.talks import KINDS, Question, Talk, questions, talks
from transcription_assets.index import Index
from transcription_assets.query import Mode, Query
from transcription_assets.steps.embeddings import About, recorded_on, rows_of
from transcription_assets.steps.search import Searcher


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How each mode did: over all questions, for each kind, and question by question."""

    embedding_model: str
    passages: int
    overall: Mapping[Mode, Figures]
    by_kind: Mapping[str, Mapping[Mode, Figures]]
    judged: Mapping[Mode, Sequence[Judged]]


def evaluate(encoder: Encoder, passage_s: float) -> Evaluation:
    """Index the talks, ask every question in every mode, and judge the answers."""
    said = talks()
    asked = questions(said)
    with indexed(said, encoder, passage_s) as table:
        searcher = Searcher(table, lambda _model: encoder)
        judged = {mode: [_judged(searcher, question, mode) for question in asked] for mode in Mode}
        passages = table.count()
    kinds = {
        kind: {mode: figures([item for item in judged[mode] if item.question.kind == kind]) for mode in Mode}
        for kind in KINDS
    }
    overall = {mode: figures(items) for mode, items in judged.items()}
    return Evaluation(str(encoder.model), passages, overall, kinds, judged)


@contextmanager
def indexed(said: Sequence[Talk], encoder: Encoder, passage_s: float) -> Iterator[Index]:
    """The talks in a search table that is gone afterwards."""
    rows = [
        rows_of(talk.transcript, About(talk.title, recorded_on(talk.transcript.media.key)), encoder, passage_s)
        for talk in said
    ]
    with tempfile.TemporaryDirectory() as folder:
        table = Index(folder)
        table.replace(pl.concat(rows), [talk.transcript.media.key for talk in said])
        table.maintain()
        yield table


def _judged(searcher: Searcher, question: Question, mode: Mode) -> Judged:
    return judge(question, searcher.search(Query(question.text, limit=DEPTH, mode=mode)).hits)
