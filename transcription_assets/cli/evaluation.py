"""The commands `eval search` and `calibrate` (with the included labelled set) and `eval speakers` (with recordings)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from transcription_assets.cli.terminal import Group, aside, plain, print_table, shown
from transcription_assets.evaluation import speakers as speaker_evaluation
from transcription_assets.evaluation.labelled_search import Evaluation, evaluate
from transcription_assets.evaluation.search_quality import CLOSE_S, TOLERANCE_S, Figures
from transcription_assets.search.query import Mode


def document(result: Evaluation) -> dict[str, Any]:
    """Return the whole evaluation as JSON values."""
    return {
        "embedding_model": result.embedding_model,
        "passages": result.passages,
        "both": asdict(result.both),
        "tuning": asdict(result.tuning),
        "held_out": asdict(result.held_out),
        "questions": [
            {
                "kind": item.question.kind,
                "text": item.question.text,
                "media_key": item.question.media_key,
                "held_out": item.question.held_out,
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

    The weights are those that `eval calibrate` has stored, else those of the encoder's profile. Exit code 1 if both
    together are worse than the better of the two.
    """
    from transcription_assets import settings
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    services = Services(chosen, locate_installed(chosen), read_only=True)
    encoder = services.encoder
    # The questions are about recordings of their own: a store is needed for calibrated weights only.
    weights = services.table.calibrated(str(encoder.model)) if _has_store(chosen.store) else None
    result = evaluate(encoder, chosen.passage_s, weights)
    if as_json:
        click.echo(json.dumps(document(result), ensure_ascii=False, indent=1))
    else:
        _print(result)
    alone = (result.both.overall[Mode.VECTOR], result.both.overall[Mode.TEXT])
    if result.both.overall[Mode.HYBRID].mrr < max(figure.mrr for figure in alone):
        raise click.exceptions.Exit(1)


def _has_store(store: str) -> bool:
    return "://" in store or Path(store).is_dir()


@evaluation.command("calibrate")
@click.option("--dry-run", is_flag=True, help="Print the weights without storing them.")
@click.option("--json", "as_json", is_flag=True, help="Print the weights and their MRR as JSON.")
def calibrate_search(*, dry_run: bool, as_json: bool) -> None:
    """Measure the weights of the ranking that suit the encoder of the settings, and store them beside its table.

    Only the questions for tuning are used; `eval search` then measures the weights on the held-out half.
    """
    from transcription_assets import settings
    from transcription_assets.evaluation.calibration import calibrate
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    services = Services(chosen, locate_installed(chosen), read_only=dry_run)
    found = calibrate(services.encoder, chosen.passage_s)
    if not dry_run:
        services.table.calibrate(found.embedding_model, found.weights)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
        return
    print_table(("weight", "value"), [(name, f"{value:g}") for name, value in asdict(found.weights).items()])
    shown.print(
        f"{plain(found.embedding_model)}: MRR {found.mrr:.3f} on {found.questions} questions, {found.default_mrr:.3f} "
        f"with the default weights; {'not stored' if dry_run else 'stored beside the search tables'}",
        soft_wrap=True,
    )


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
    rows = [
        ("for tuning", result.tuning.overall),
        (f"for tuning, within {CLOSE_S:.0f} s", result.tuning.close),
        ("held out", result.held_out.overall),
        (f"held out, within {CLOSE_S:.0f} s", result.held_out.close),
        *(
            (f"{kind}, held out, within {CLOSE_S:.0f} s", modes)
            for kind, modes in result.held_out.close_by_kind.items()
        ),
    ]
    print_table(
        ("questions", "mode", "hit@1 (95 %)", "hit@5", "MRR (95 %)", "seconds off", "none admitted"),
        [_row(name, mode, metrics) for name, modes in rows for mode, metrics in modes.items()],
    )
    shown.print(
        f"[dim]{plain(result.embedding_model)}, {result.passages} passages; a hit is correct within "
        f"{TOLERANCE_S:.0f} s of the true sentence[/]"
    )


def _row(name: str, mode: Mode, metrics: Figures) -> Sequence[str]:
    ranks = (
        f"{metrics.hit_1:.2f} ({_interval(metrics.hit_1_interval)})",
        f"{metrics.hit_5:.2f}",
        f"{metrics.mrr:.2f} ({_interval(metrics.mrr_interval)})",
        f"{metrics.off_s:.1f}",
    )
    is_answerable = not name.startswith("none")
    return (
        f"{name} ({metrics.questions})",
        mode.value,
        *(ranks if is_answerable else [""] * len(ranks)),
        f"{metrics.admitted:.0%}" if name.startswith(("none", "for tuning", "held out")) else "",
    )


def _interval(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.2f}–{bounds[1]:.2f}"
