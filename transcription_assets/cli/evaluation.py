"""The command `eval search`: the labelled set with the real index and encoder, in a temporary folder."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import click
import polars as pl

from transcription_assets.cli.terminal import Group, plain, print_table, shown
from transcription_assets.embedding import Encoder
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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of each mode: over all questions (also with the stricter tolerance), by kind, and by question."""

    embedding_model: str
    passages: int
    overall: Mapping[Mode, Figures]
    close: Mapping[Mode, Figures]
    by_kind: Mapping[str, Mapping[Mode, Figures]]
    judged: Mapping[Mode, Sequence[Judged]]


def evaluate(encoder: Encoder, passage_s: float) -> Evaluation:
    """Index the talks, ask every question in every mode, and compute the metrics.

    Raises:
        PermanentFailure: the labelled set is inconsistent.
        TranscriptionError: the encoder failed.

    """
    said = talks()
    asked = questions(said)
    with indexed(said, encoder, passage_s) as table:
        searcher = Searcher(table, lambda _model: encoder)
        answers = {mode: [_answered(searcher, question, mode) for question in asked] for mode in Mode}
        passages = table.count()
    judged = {mode: list(map(judge, asked, hits)) for mode, hits in answers.items()}
    close = {
        mode: figures([judge(*item, CLOSE_S) for item in zip(asked, hits, strict=True)])
        for mode, hits in answers.items()
    }
    kinds = {
        kind: {mode: figures([item for item in judged[mode] if item.question.kind == kind]) for mode in Mode}
        for kind in KINDS
    }
    overall = {mode: figures(items) for mode, items in judged.items()}
    return Evaluation(str(encoder.model), passages, overall, close, kinds, judged)


@contextmanager
def indexed(said: Sequence[Talk], encoder: Encoder, passage_s: float) -> Iterator[Index]:
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
        for talk in said
    ]
    with tempfile.TemporaryDirectory() as folder:
        table = Index(folder)
        table.replace(pl.concat(rows), [talk.transcript.media.key for talk in said])
        table.maintain()
        yield table


def _answered(searcher: Searcher, question: Question, mode: Mode) -> Sequence[Hit]:
    return searcher.search(Query(question.text, limit=DEPTH, mode=mode)).hits


def document(made: Evaluation) -> dict[str, Any]:
    """Return the whole evaluation as JSON values."""
    return {
        "embedding_model": made.embedding_model,
        "passages": made.passages,
        "overall": {mode.value: asdict(found) for mode, found in made.overall.items()},
        "close": {mode.value: asdict(found) for mode, found in made.close.items()},
        "by_kind": {
            kind: {mode.value: asdict(found) for mode, found in modes.items()} for kind, modes in made.by_kind.items()
        },
        "questions": [
            {
                "kind": item.question.kind,
                "text": item.question.text,
                "media_key": item.question.media_key,
                "ranks": {mode.value: made.judged[mode][place].rank for mode in Mode},
                "seconds_off": item.off_s,
            }
            for place, item in enumerate(made.judged[Mode.HYBRID])
        ],
    }


@click.group("eval", cls=Group)
def evaluation() -> None:
    """Measure the quality of search with the included labelled set, and of transcripts with your references."""


@evaluation.command("search")
@click.option("--json", "as_json", is_flag=True, help="All figures, and each question's rank.")
def evaluate_search(*, as_json: bool) -> None:
    """Search the labelled questions by words, by vectors and by both, with the encoder of the settings.

    Exit code 1 if both together are worse than the better of the two.
    """
    from transcription_assets import settings
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    made = evaluate(Services(chosen, locate_installed(chosen)).encoder, chosen.passage_s)
    if as_json:
        click.echo(json.dumps(document(made), ensure_ascii=False, indent=1))
    else:
        _show(made)
    alone = (made.overall[Mode.VECTOR], made.overall[Mode.TEXT])
    if made.overall[Mode.HYBRID].mrr < max(figure.mrr for figure in alone):
        raise click.exceptions.Exit(1)


def _show(made: Evaluation) -> None:
    rows = [("all", made.overall), (f"all, within {CLOSE_S:.0f} s", made.close), *made.by_kind.items()]
    print_table(
        ("questions", "mode", "hit@1", "hit@5", "MRR", "seconds off", "none admitted"),
        [_row(kind, mode, found) for kind, modes in rows for mode, found in modes.items()],
    )
    shown.print(
        f"[dim]{plain(made.embedding_model)}, {made.passages} passages; found is what is at most {TOLERANCE_S:.0f} s "
        "from the true sentence[/]"
    )


def _row(kind: str, mode: Mode, found: Figures) -> Sequence[str]:
    ranks = (f"{found.hit_1:.2f}", f"{found.hit_5:.2f}", f"{found.mrr:.2f}", f"{found.off_s:.1f}")
    return (
        f"{kind} ({found.questions})",
        mode.value,
        *(ranks if kind != "none" else [""] * len(ranks)),
        f"{found.admitted:.0%}" if kind in {"all", "none"} else "",
    )
