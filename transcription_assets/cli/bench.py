"""The commands `eval wer` and `bench`: word error rate and speed of configurations and of other systems."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import aside, plain, print_table

CONFIGURATION = [
    click.option(
        "--model", "model_names", multiple=True, help="Speech model (repeatable); default: that of the settings."
    ),
    click.option("--beam", "beams", multiple=True, type=click.IntRange(1, 20), help="Beam size (repeatable)."),
    click.option("--threads", default=0, type=click.IntRange(0, 256), help="Threads of each system; 0 = all cores."),
    click.option("--json", "as_json", is_flag=True, help="Print all results as JSON."),
]


def _configured(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(CONFIGURATION):
        command = option(command)
    return command


@click.command("wer")
@click.argument("references", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--system", "systems", multiple=True, help="`ours` (default) or another system of `bench` (repeatable).")
@_configured
def word_errors(references: tuple[Path, ...], systems: tuple[str, ...], **options: Any) -> None:
    """Measure word error rates over folders of REFERENCES: recordings with their text, such as a.wav and a.txt."""
    _contest(references, systems or ("ours",), texts=True, rounds=1, **options)


@click.command()
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--system", "systems", multiple=True, help="System (repeatable); default: all installed.")
@click.option(
    "--rounds", default=2, show_default=True, type=click.IntRange(1, 20), help="Runs per system, alternating."
)
@_configured
def bench(recordings: tuple[Path, ...], systems: tuple[str, ...], rounds: int, **options: Any) -> None:
    """Compare our engine with others on the same RECORDINGS, model and number of threads, in alternating runs."""
    from transcription_assets.evaluation import competitors

    _contest(recordings, systems or competitors.available(), texts=False, rounds=rounds, **options)


def _contest(
    paths: Sequence[Path],
    systems: Sequence[str],
    *,
    texts: bool,
    rounds: int,
    model_names: Sequence[str],
    beams: Sequence[int],
    threads: int,
    as_json: bool,
) -> None:
    from transcription_assets import speech
    from transcription_assets.evaluation import comparison, competitors, wer
    from transcription_assets.wiring import locate_installed

    competitors.require(systems)

    chosen = settings.load()
    located = [locate_installed(chosen)(name, "speech") for name in model_names or (chosen.whisper_model,)]
    compute_type = "int8" if chosen.compute_type == "auto" else chosen.compute_type
    entries = [
        competitors.Configuration(system, model.name, model.path, beam, compute_type, threads or speech.usable_cores())
        for model in located
        for beam in beams or (chosen.beam_size,)
        for system in systems
    ]
    recordings = comparison.find_recordings(paths, texts=texts)
    if any(item.reference is not None for item in recordings):
        wer.require()
    for item in recordings:
        if item.reference is not None and not item.reference.strip():
            aside.print(
                f"[dim]{plain(item.path.name)}: the reference is empty, so every recognised word is an insertion[/]"
            )
    results = comparison.measure(entries, recordings, rounds, lambda line: aside.print(f"[dim]{plain(line)}[/]"))
    document = comparison.document(results, recordings)
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
        return
    has_references = any(item.reference is not None for item in recordings)
    print_table(
        ("configuration", "WER", "sub", "del", "ins", "coverage", "× real time", "wall s", "CPU s", "MB"),
        [_row(item, has_references=has_references) for item in document["configurations"]],
    )


def _row(item: Mapping[str, Any], *, has_references: bool) -> Sequence[str]:
    """Return the cells of one configuration; errors are empty unless reference texts are `known`."""
    return (
        plain(item["name"]),
        f"{item['wer']:.2%}" if item["words"] else "",
        *(str(item[name]) if has_references else "" for name in ("substitutions", "deletions", "insertions")),
        "" if item["coverage"] is None else f"{item['coverage']:.1%}",
        f"{item['rtfx']:.1f}",
        " ".join(f"{seconds:.1f}" for seconds in item["wall_s"]),
        " ".join(f"{seconds:.1f}" for seconds in item["cpu_s"]),
        str(item["peak_mb"]),
    )
