"""transcription-assets: put, process, search, models, doctor."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from transcription_assets import models, settings
from transcription_assets.app import process as processing
from transcription_assets.failures import PermanentFailure, TranscriptionError
from transcription_assets.index import Hit
from transcription_assets.models.catalogue import CATALOGUE
from transcription_assets.settings import Settings
from transcription_assets.transcript import clock

FAILED = 1
SOME_STILL_GROWING = 3

shown = Console(highlight=False)
aside = Console(stderr=True, highlight=False)


class Command(click.Group):
    """Errors raised on purpose are one line and exit code 1, not a stack trace."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what went wrong is one line."""
        try:
            return super().invoke(ctx)
        except TranscriptionError as error:
            aside.print(f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True)
            sys.exit(FAILED)


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Say what the libraries say.")
@click.version_option(package_name="transcription_assets")
def main(*, verbose: bool) -> None:
    """Media in, searchable moments out. Settings are TRANSCRIPTION_* variables; `doctor` checks them."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s")


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--into", default="", metavar="FOLDER", help="Folder below `video/` and `audio/`.")
def put(paths: tuple[Path, ...], into: str) -> None:
    """Copy recordings, or all recordings in folders, into the inbox: of a folder or of a bucket."""
    from transcription_assets.app import put as putting
    from transcription_assets.app.tools import Tools, installed

    chosen = settings.load()
    store = Tools(chosen, installed(chosen)).store
    found = putting.found(paths, into)
    if not found:
        raise PermanentFailure(f"no recordings in {', '.join(map(str, paths))}")
    for name, path in found.items():
        shown.print(f"[green]put[/] {_plain(store.put_media(name, path))}", soft_wrap=True)


@main.command()
@click.argument("media_keys", nargs=-1)
def process(media_keys: tuple[str, ...]) -> None:
    """Process everything in the inbox (or only MEDIA_KEYS) now, without a UI.

    Exit code 0: all is done; 1: some recordings failed, each with its reason; 3: some are still being copied.
    """
    from transcription_assets.app.tools import Tools

    chosen = settings.load()
    tools = Tools(chosen, lambda name, kind: _pulled(chosen, name, kind))
    inbox = processing.look(tools)
    todo = media_keys or inbox.ready
    if not todo:
        shown.print(f"nothing to do: put recordings into {_plain(tools.store.url)}/video or /audio", soft_wrap=True)
    started = time.monotonic()
    report = processing.Report()
    with _bar() as bar:
        overall = bar.add_task("recordings", total=len(todo), detail="")
        current = bar.add_task("", total=None, detail="")

        def show(step: processing.Step) -> None:
            bar.update(
                current,
                description=step.name,
                total=step.total_s,
                completed=step.done_s,
                detail=_plain(step.key),
            )

        for report in processing.process(tools, todo, show):
            bar.update(overall, completed=len(report.done) + len(report.reused) + len(report.failed))
        bar.remove_task(current)
    _say_how_it_ended(report, inbox, time.monotonic() - started)
    if report.failed:
        sys.exit(FAILED)
    if inbox.growing:
        sys.exit(SOME_STILL_GROWING)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<11}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=aside,
    )


def _say_how_it_ended(report: processing.Report, inbox: processing.Inbox, wall_s: float) -> None:
    lines = [("green", "done", key) for key in report.done]
    lines += [("dim", "unchanged", key) for key in report.reused]
    lines += [("yellow", "still being copied", key) for key in inbox.growing]
    for key, reason in report.failed.items():
        lines.append(("bold red", "failed", reason if reason.startswith(key) else f"{key}: {reason}"))
    for style, state, says in lines:
        shown.print(f" [{style}]{state:<9}[/] {_plain(says)}", soft_wrap=True)
    speed = f", {report.audio_s:.0f} s of sound at {report.audio_s / wall_s:.1f}× real time" if report.audio_s else ""
    ignored = f", {inbox.ignored} files are no recordings" if inbox.ignored else ""
    shown.print(
        f"{len(report.done)} done, {len(report.reused)} unchanged, {len(report.failed)} failed{ignored}; "
        f"{wall_s:.1f} s{speed}"
    )


@main.command()
@click.argument("query")
@click.option("--limit", default=5, show_default=True, type=click.IntRange(1, 100), help="How many moments.")
@click.option("--json", "as_json", is_flag=True, help="A list of media_key, start, end, text, score, url.")
def search(query: str, limit: int, *, as_json: bool) -> None:
    """Find the moment in which something like QUERY was said.

    A recording in a bucket is shown by a signed link that plays it for one hour: whoever has it can open it.
    """
    from transcription_assets.app.tools import Tools, installed
    from transcription_assets.steps import search_index

    chosen = settings.load()
    tools = Tools(chosen, installed(chosen))
    hits = search_index.search(tools.table, tools.encoder, search_index.Query(query, limit))
    found = [_moment(hit, tools.store.playable_url(hit.media_key)) for hit in hits]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    if not found:
        aside.print("nothing found: is anything processed yet? (transcription-assets process)")
    for number, hit in enumerate(hits, 1):
        _show_moment(number, hit, found[number - 1]["url"])


def _moment(hit: Hit, url: str) -> dict[str, Any]:
    """The media fragment `#t=` makes browsers and VLC start at the second."""
    return {
        "media_key": hit.media_key,
        "start": hit.start,
        "end": hit.end,
        "text": hit.text,
        "score": hit.score,
        "url": f"{url}#t={hit.start:.2f}",
    }


def _show_moment(number: int, hit: Hit, url: str) -> None:
    before, sentence, after = hit.context.partition(hit.text)
    shown.print(
        f"[bold]{number}. {_plain(hit.media_key)}[/] at [bold cyan]{clock(hit.start)}[/]  [dim]{hit.score:.2f}[/]"
    )
    shown.print(f"   [dim]{_plain(before)}[/][bold yellow]{_plain(sentence or hit.text)}[/][dim]{_plain(after)}[/]")
    shown.print(f"   [blue]{_plain(url)}[/]\n", soft_wrap=True)


@main.group("models")
def weights() -> None:
    """Model weights: what there is, and fetching it."""


@weights.command("list")
def list_models() -> None:
    """Which models are known, and which are on this machine with the right digests."""
    chosen = settings.load()
    table = Table("model", "kind", "MB", "state", box=None, padding=(0, 2, 0, 0))
    for state in models.catalogue_state(chosen.models_dir):
        says = (
            "[green]verified[/]"
            if state.verified
            else "[red]wrong digest: pull again[/]"
            if state.present
            else "not here"
        )
        table.add_row(state.name, state.kind, f"{state.size / 1e6:.0f}", says)
    shown.print(table)
    shown.print(f"[dim]{_plain(str(chosen.models_dir))}[/]", soft_wrap=True)


@weights.command("pull")
@click.argument("names", nargs=-1)
def pull_models(names: tuple[str, ...]) -> None:
    """Fetch the models of the settings, or the catalogue models NAMES; what is here already is only verified."""
    chosen = settings.load()
    wanted = [(chosen.whisper_model, "speech"), (chosen.encoder_model, "encoder")]
    if names:
        wanted = [(name, _kind(name)) for name in names]
    for name, kind in wanted:
        located = _pulled(chosen, name, kind)
        shown.print(f"{_plain(located.name)} is here, verified: {_plain(str(located.path))}", soft_wrap=True)


def _kind(name: str) -> str:
    if name not in CATALOGUE:
        raise click.UsageError(f"{name} is not in the catalogue ({', '.join(CATALOGUE)}); others are set by settings")
    return CATALOGUE[name].kind


@main.command()
def doctor() -> None:
    """Say what is missing or wrong (ffmpeg, models, device, store) and how to mend it; exit code 1 if anything is."""
    from transcription_assets.app import doctor as examination

    healthy = True
    for diagnosis in examination.examine(settings.load()):
        mark = "[green]ok   [/]" if diagnosis.healthy else "[bold red]wrong[/]"
        shown.print(f"{mark} {diagnosis.name:<14} {_plain(diagnosis.says)}", soft_wrap=True)
        healthy &= diagnosis.healthy
    sys.exit(0 if healthy else FAILED)


@main.group("eval")
def evaluation() -> None:
    """How good the words are."""


CONFIGURATION = [
    click.option("--model", "model_names", multiple=True, help="Speech model, again for another; default: that set."),
    click.option("--beam", "beams", multiple=True, type=click.IntRange(1, 20), help="Beams, again for others."),
    click.option("--threads", default=0, type=click.IntRange(0, 256), help="Threads for each; 0 = all cores."),
    click.option("--json", "as_json", is_flag=True, help="Everything, as JSON."),
]


def _configured(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(CONFIGURATION):
        command = option(command)
    return command


@evaluation.command("wer")
@click.argument("references", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--system", "systems", multiple=True, help="`ours` (default), or another that `bench` knows; repeatable.")
@_configured
def word_errors(references: tuple[Path, ...], systems: tuple[str, ...], **options: Any) -> None:
    """Word errors over folders of REFERENCES: recordings with what is said in them, a.wav and a.txt."""
    _contest(references, systems or ("ours",), texts=True, rounds=1, **options)


@main.command()
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--system", "systems", multiple=True, help="Which systems; default: all that are installed.")
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1, 20), help="Runs of each, alternating.")
@_configured
def bench(recordings: tuple[Path, ...], systems: tuple[str, ...], rounds: int, **options: Any) -> None:
    """Our engine against others: the same RECORDINGS, model and threads, one after another in turns."""
    from transcription_assets.app import contest

    _contest(recordings, systems or contest.available(), texts=False, rounds=rounds, **options)


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
    from transcription_assets.app import contest, evaluate
    from transcription_assets.app.tools import installed

    chosen = settings.load()
    located = [installed(chosen)(name, "speech") for name in model_names or (chosen.whisper_model,)]
    compute_type = "int8" if chosen.compute_type == "auto" else chosen.compute_type
    entries = [
        contest.Entry(system, model.name, model.path, beam, compute_type, threads or os.cpu_count() or 1)
        for model in located
        for beam in beams or (chosen.beam_size,)
        for system in systems
    ]
    recordings = evaluate.found(paths, texts=texts)
    results = evaluate.measure(entries, recordings, rounds, lambda line: aside.print(f"[dim]{_plain(line)}[/]"))
    document = evaluate.document(results, recordings)
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
        return
    table = Table(
        *("configuration", "WER", "sub", "del", "ins", "coverage", "× real time", "wall s", "CPU s", "MB"),
        box=None,
        padding=(0, 2, 0, 0),
    )
    for item in document["configurations"]:
        known = item["words"] > 0
        errors = [str(item[name]) if known else "" for name in ("substitutions", "deletions", "insertions")]
        table.add_row(
            item["name"],
            f"{item['wer']:.2%}" if known else "",
            *errors,
            "" if item["coverage"] is None else f"{item['coverage']:.1%}",
            f"{item['rtfx']:.1f}",
            " ".join(f"{seconds:.1f}" for seconds in item["wall_s"]),
            " ".join(f"{seconds:.1f}" for seconds in item["cpu_s"]),
            str(item["peak_mb"]),
        )
    shown.print(table)


def _pulled(chosen: Settings, name: str, kind: str) -> models.Located:
    """The model; fetched with a progress bar where it is not here."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=aside, transient=True
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(f"{name}: {file}", total=total or None)
            bar.update(tasks[file], completed=done, total=total or None)

        return models.pull(name, kind, chosen.models_dir, progress=show)


def _plain(text: str) -> str:
    """Text of others is not markup."""
    return escape(text)
