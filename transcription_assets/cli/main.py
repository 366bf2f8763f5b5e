"""The commands of transcription-assets: put, sources, process, search, serve, index, eval, export, models, ..."""

import logging
import sys
import time
from pathlib import Path

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from transcription_assets import models, settings
from transcription_assets.cli import process as processing
from transcription_assets.cli.ask import ask
from transcription_assets.cli.asr_server import asr_server
from transcription_assets.cli.bench import bench, word_errors
from transcription_assets.cli.evaluation import evaluation
from transcription_assets.cli.events import events
from transcription_assets.cli.export import export
from transcription_assets.cli.index import index
from transcription_assets.cli.search import search
from transcription_assets.cli.sources import sources
from transcription_assets.cli.speakers import speakers
from transcription_assets.cli.terminal import Group, Interrupted, aside, interruptible, plain, print_table, shown
from transcription_assets.cli.work import work
from transcription_assets.domain.media_keys import ignored_files
from transcription_assets.embedding.profiles import PROFILES
from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.models.catalogue import CATALOGUE
from transcription_assets.settings import Settings
from transcription_assets.storage import temporary

FAILED = 1
SOME_STILL_GROWING = 3


class Command(Group):
    """Group that prints errors of this library on one line and exits with code 1, without a stack trace."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; print an error of this library on one line."""
        try:
            return super().invoke(ctx)
        except TranscriptionError as error:
            aside.print(f"[bold red]error:[/] {plain(str(error))}", soft_wrap=True)
            sys.exit(FAILED)


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Log messages of the libraries, too.")
@click.version_option(package_name="transcription_assets")
def main(*, verbose: bool) -> None:
    """Transcribe recordings and search them. Settings are TRANSCRIPTION_* variables; `doctor` checks them."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s")


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--into", default="", metavar="FOLDER", help="Target folder below `video/` and `audio/`.")
def put(paths: tuple[Path, ...], into: str) -> None:
    """Copy recordings, or all recordings in folders, into the inbox of the store.

    Exit code 129, 130 or 143: interrupted by SIGHUP, Ctrl-C or SIGTERM; complete copies are kept.
    """
    from transcription_assets.cli import put as putting
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    store = Services(chosen, locate_installed(chosen)).store
    selected = putting.select(paths, into, chosen.link_folders)
    if not selected:
        raise PermanentFailure(f"no file with the extension of a recording in {', '.join(map(str, paths))}")
    for path in putting.ignored(paths, chosen.link_folders):
        reason = "link out of its folder, see TRANSCRIPTION_LINK_ROOTS" if path.is_symlink() else "not a recording"
        shown.print(f"[dim]ignored ({reason}):[/] {plain(str(path))}", soft_wrap=True)
    try:
        with interruptible():
            for name, path in selected.items():
                shown.print(f"[green]put[/] {plain(store.put_media(name, path))}", soft_wrap=True)
    except Interrupted as interrupted:
        aside.print("interrupted; run `put` again to copy the remaining recordings")
        sys.exit(interrupted.exit_code)


@main.command()
@click.argument("media_keys", nargs=-1)
def process(media_keys: tuple[str, ...]) -> None:
    """Process everything in the inbox (or only MEDIA_KEYS) now, without a UI.

    Exit code 0: all recordings are done; 1: some failed, each with its reason; 3: some are still being copied; 129, 130
    or 143: interrupted by SIGHUP, Ctrl-C or SIGTERM.
    """
    from transcription_assets.speech import share_memory
    from transcription_assets.wiring import Services

    share_memory()  # before threads of the store and the decoder allocate from arenas of their own
    temporary.clear()
    chosen = settings.load()
    tools = Services(chosen, lambda name, kind: _pulled(chosen, name, kind))
    inbox = processing.look(tools, media_keys)
    todo = inbox.ready
    if not todo:
        shown.print(f"no recordings in {plain(tools.store.url)}/video and /audio", soft_wrap=True)
    started = time.monotonic()
    report, exit_code = processing.Report(), 0
    with _bar() as bar:
        overall = bar.add_task("recordings", total=len(todo), detail="")
        current = bar.add_task("", total=None, detail="")

        def show(step: processing.Step) -> None:
            bar.update(
                current,
                description=step.name,
                total=step.total_s,
                completed=step.done_s,
                detail=plain(step.key),
            )

        try:
            with interruptible():
                for _ in processing.process(tools, todo, show, report):
                    bar.update(overall, completed=len(report.done) + len(report.reused) + len(report.failed))
        except Interrupted as interrupted:
            exit_code = interrupted.exit_code
        finally:  # also after an error that does not belong to one recording, such as a full disk
            bar.stop()
            _print_summary(report, inbox, time.monotonic() - started)
    if exit_code:
        aside.print("interrupted; run `process` again to continue with the remaining recordings")
        sys.exit(exit_code)
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


def _print_summary(report: processing.Report, inbox: processing.Inbox, wall_s: float) -> None:
    lines = [("green", "done", key) for key in report.done]
    lines += [("dim", "unchanged", key) for key in report.reused]
    lines += [("yellow", "still being copied", key) for key in inbox.growing]
    lines += [("yellow", "incomplete", f"{key}: {reason}") for key, reason in report.incomplete.items()]
    for key, reason in report.failed.items():
        lines.append(("bold red", "failed", reason if reason.startswith(key) else f"{key}: {reason}"))
    for style, state, detail in lines:
        shown.print(f" [{style}]{state:<9}[/] {plain(detail)}", soft_wrap=True)
    speed = f", {report.audio_s:.0f} s of audio at {report.audio_s / wall_s:.1f}× real time" if report.audio_s else ""
    ignored = f", {ignored_files(inbox.ignored)}" if inbox.ignored else ""
    shown.print(
        f"{len(report.done)} done, {len(report.reused)} unchanged, {len(report.failed)} failed{ignored}; "
        f"{wall_s:.1f} s{speed}"
    )


@main.group("models")
def weights() -> None:
    """List and download model weights."""


@weights.command("list")
def list_models() -> None:
    """List the known models, and which are on this machine with the right digests."""
    chosen = settings.load()
    print_table(
        ("model", "kind", "MB", "state"),
        (
            (item.name, item.kind, f"{item.size / 1e6:.0f}", _state(item))
            for item in models.catalogue_state(chosen.models_dir)
        ),
    )
    shown.print(f"[dim]{plain(str(chosen.models_dir))}[/]", soft_wrap=True)
    print_table(
        ("encoder (Hub name)", "description", "state"),
        (
            (name, profile.description, "" if profile.tried else "[yellow]not tested[/]")
            for name, profile in PROFILES.items()
            if name not in CATALOGUE
        ),
    )


def _state(item: models.ModelState) -> str:
    if item.verified:
        return "[green]verified[/]"
    return "[red]wrong digest: pull again[/]" if item.present else "not installed"


@weights.command("pull")
@click.argument("names", nargs=-1)
def pull_models(names: tuple[str, ...]) -> None:
    """Download the models of the settings, or the catalogue models NAMES; installed models are only verified."""
    from transcription_assets.wiring import DIARISER_MODEL, READER_MODEL

    chosen = settings.load()
    requested = [] if chosen.engine == "openai" else [(chosen.whisper_model, "speech")]
    if not chosen.embedding_url:
        requested.append((chosen.encoder_model, "encoder"))
    if chosen.finds_voices and chosen.diariser == "local":
        requested.append((DIARISER_MODEL, "voice"))
    if chosen.slides:
        requested.append((READER_MODEL, "ocr"))
    if names:
        requested = [(name, _kind(name)) for name in names]
    for name, kind in requested:
        located = _pulled(chosen, name, kind)
        shown.print(f"{plain(located.name)} is installed and verified: {plain(str(located.path))}", soft_wrap=True)


def _kind(name: str) -> str:
    if name not in CATALOGUE:
        raise click.UsageError(f"{name} is not in the catalogue ({', '.join(CATALOGUE)}); set others in the settings")
    return CATALOGUE[name].kind


@main.command()
@click.argument("media_keys", nargs=-1, required=True)
def retry(media_keys: tuple[str, ...]) -> None:
    """Allow recordings that failed because their worker died to be tried again by the next run."""
    from transcription_assets.pipeline import failure_notes, quarantine
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    store = Services(chosen, locate_installed(chosen)).store
    for key in media_keys:
        store.stat(key)  # an unknown name is an error
        quarantine.lift(store, key)
        failure_notes.forget(store, key)
        shown.print(f"[green]retry[/] {plain(key)}", soft_wrap=True)


@main.command()
def doctor() -> None:
    """Check ffmpeg, models, device and store, and say how to fix problems; exit code 1 if there are any."""
    from transcription_assets.cli import doctor as examination

    healthy = True
    for diagnosis in examination.examine(settings.load()):
        mark = "[green]ok   [/]" if diagnosis.healthy else "[bold red]wrong[/]"
        shown.print(f"{mark} {diagnosis.name:<14} {plain(diagnosis.detail)}", soft_wrap=True)
        healthy &= diagnosis.healthy
    sys.exit(0 if healthy else FAILED)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 = all addresses.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port to listen on; 0 = any free port.",
)
@click.pass_context
def serve(context: click.Context, host: str, port: int) -> None:
    """Serve the search page and its API, read-only, until Ctrl-C."""
    from transcription_assets.web import server
    from transcription_assets.web.archive import Archive
    from transcription_assets.wiring import locate_installed

    chosen = settings.load()
    verbose = bool(context.parent and context.parent.params["verbose"])
    server.run(
        Archive(chosen, locate_installed(chosen)),
        host,
        port,
        verbose=verbose,
        listening=lambda address: shown.print(f"Search page on {address} (press Ctrl-C to quit)", soft_wrap=True),
    )


@main.command()
@click.option("--page", default="", metavar="URL", help="Address of the search page; links then lead to it.")
def mcp(page: str) -> None:
    """Answer an assistant (MCP) over stdin and stdout: search, transcripts and the library, read-only."""
    import anyio

    from transcription_assets.web import assistants
    from transcription_assets.web.archive import Archive
    from transcription_assets.wiring import locate_installed

    chosen = settings.load()
    anyio.run(assistants.run_stdio, Archive(chosen, locate_installed(chosen)), page)


def _pulled(chosen: Settings, name: str, kind: str) -> models.Located:
    """Return the model; download it with a progress bar if it is not installed."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=aside, transient=True
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(f"{name}: {file}", total=total or None)
            bar.update(tasks[file], completed=done, total=total or None)

        return models.pull(name, kind, chosen.models_dir, progress=show)


evaluation.add_command(word_errors)
for command in (sources, events, search, ask, index, evaluation, bench, export, speakers, work, asr_server):
    main.add_command(command)
