"""The commands `eval search` (with the included labelled set) and `eval speakers` (with recordings of yours)."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import polars as pl

from transcription_assets.cli.terminal import Group, aside, plain, print_table, shown
from transcription_assets.embedding import Encoder
from transcription_assets.evaluation import speakers as speaker_evaluation
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
    recorded = talks()
    labelled = questions(recorded)
    with indexed(recorded, encoder, passage_s) as table:
        searcher = Searcher(table, lambda _model: encoder)
        answers = {mode: [_answered(searcher, question, mode) for question in labelled] for mode in Mode}
        passages = table.count()
    judged = {mode: list(map(judge, labelled, hits)) for mode, hits in answers.items()}
    close = {
        mode: figures([judge(*item, CLOSE_S) for item in zip(labelled, hits, strict=True)])
        for mode, hits in answers.items()
    }
    kinds = {
        kind: {mode: figures([item for item in judged[mode] if item.question.kind == kind]) for mode in Mode}
        for kind in KINDS
    }
    overall = {mode: figures(items) for mode, items in judged.items()}
    return Evaluation(str(encoder.model), passages, overall, close, kinds, judged)


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


def document(result: Evaluation) -> dict[str, Any]:
    """Return the whole evaluation as JSON values."""
    return {
        "embedding_model": result.embedding_model,
        "passages": result.passages,
        "overall": {mode.value: asdict(metrics) for mode, metrics in result.overall.items()},
        "close": {mode.value: asdict(metrics) for mode, metrics in result.close.items()},
        "by_kind": {
            kind: {mode.value: asdict(metrics) for mode, metrics in modes.items()}
            for kind, modes in result.by_kind.items()
        },
        "questions": [
            {
                "kind": item.question.kind,
                "text": item.question.text,
                "media_key": item.question.media_key,
                "ranks": {mode.value: result.judged[mode][place].rank for mode in Mode},
                "seconds_off": item.off_s,
            }
            for place, item in enumerate(result.judged[Mode.HYBRID])
        ],
    }


@click.group("eval", cls=Group)
def evaluation() -> None:
    """Measure the quality of search with the included labelled set, and of speakers with labelled recordings."""


@evaluation.command("search")
@click.option("--json", "as_json", is_flag=True, help="Print all metrics and the rank of each question as JSON.")
def evaluate_search(*, as_json: bool) -> None:
    """Search the labelled questions by words, by vectors and by both, with the encoder of the settings.

    Exit code 1 if both together are worse than the better of the two.
    """
    from transcription_assets import settings
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    result = evaluate(Services(chosen, locate_installed(chosen)).encoder, chosen.passage_s)
    if as_json:
        click.echo(json.dumps(document(result), ensure_ascii=False, indent=1))
    else:
        _print(result)
    alone = (result.overall[Mode.VECTOR], result.overall[Mode.TEXT])
    if result.overall[Mode.HYBRID].mrr < max(figure.mrr for figure in alone):
        raise click.exceptions.Exit(1)


@evaluation.command("speakers")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--words", is_flag=True, help="Transcribe the recordings, and count the words with the right speaker.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures of the set and of each recording as JSON.")
def evaluate_speakers(folder: Path, *, words: bool, as_json: bool) -> None:
    """Find the speakers of the recordings in FOLDER, and compare with the RTTM file beside each.

    Same names in two files mean the same person; if there are such, voices are compared between recordings as well.
    """
    from transcription_assets import settings
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    services = Services(chosen, locate_installed(chosen))
    tools = services.speaker_tools
    judged = []
    for item in speaker_evaluation.evaluate(
        folder, tools.diariser, tools.ffmpeg, tools.bounds, services.segments_of if words else None
    ):
        aside.print(f"[dim]{plain(item.name)}: {item.found} of {item.speakers} speakers, DER {item.error.rate:.1%}[/]")
        judged.append(item)
    summary = speaker_evaluation.figures(judged)
    if as_json:
        document = asdict(summary) | {"each": [_each(item) for item in judged]}
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
    else:
        _print_speakers(summary)


def _each(item: speaker_evaluation.Judged) -> dict[str, Any]:
    fields = asdict(item)
    del fields["voiceprints"]
    return fields | {"der": item.error.rate, "der_alone": item.error_alone.rate}


def _print_speakers(summary: speaker_evaluation.SpeakerFigures) -> None:
    rows = [
        ("recordings", f"{summary.recordings} ({summary.duration / 60:.0f} min)"),
        ("diarisation error rate, collar 0.25 s, with overlap", f"{summary.error:.1%}"),
        ("the same without overlap", f"{summary.error_alone:.1%}"),
        ("right number of speakers", f"{summary.right_count:.0%}"),
        ("the same, speakers of less than 3 s optional", f"{summary.right_count_without_brief:.0%}"),
        ("x real time, per core", f"{summary.duration / max(summary.cpu_s, 1e-9):.0f}"),
    ]
    if summary.words:
        rows.append((f"words with the right speaker, of {summary.words}", f"{summary.right_words:.1%}"))
    if summary.equal_error is not None and summary.recognised is not None:
        rows.append(("equal error rate of voices between recordings", f"{summary.equal_error:.1%}"))
        rows.append(
            (f"voices found again at 1 % false accepts (cosine {summary.threshold:.2f})", f"{summary.recognised:.1%}")
        )
    print_table(("measure", "value"), rows)


def _print(result: Evaluation) -> None:
    rows = [("all", result.overall), (f"all, within {CLOSE_S:.0f} s", result.close), *result.by_kind.items()]
    print_table(
        ("questions", "mode", "hit@1", "hit@5", "MRR", "seconds off", "none admitted"),
        [_row(kind, mode, metrics) for kind, modes in rows for mode, metrics in modes.items()],
    )
    shown.print(
        f"[dim]{plain(result.embedding_model)}, {result.passages} passages; a hit is correct within "
        f"{TOLERANCE_S:.0f} s of the true sentence[/]"
    )


def _row(kind: str, mode: Mode, metrics: Figures) -> Sequence[str]:
    ranks = (f"{metrics.hit_1:.2f}", f"{metrics.hit_5:.2f}", f"{metrics.mrr:.2f}", f"{metrics.off_s:.1f}")
    return (
        f"{kind} ({metrics.questions})",
        mode.value,
        *(ranks if kind != "none" else [""] * len(ranks)),
        f"{metrics.admitted:.0%}" if kind in {"all", "none"} else "",
    )
