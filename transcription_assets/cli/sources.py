"""The commands of `sources`: list the sources of recordings, check them, and fetch from them."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import Group, Interrupted, aside, interruptible, plain, print_table, shown
from transcription_assets.errors import PermanentFailure, TranscriptionError

if TYPE_CHECKING:
    from transcription_assets.sources.catalogue import Source
    from transcription_assets.sources.fetching import Fetcher
    from transcription_assets.sources.ledger import Ledger
    from transcription_assets.storage import Store

FAILED = 1


@click.group("sources", cls=Group)
def sources() -> None:
    """Fetch recordings from feeds, links, files and other stores, as `sources.toml` in the store names them."""


@sources.command("list")
def list_sources() -> None:
    """List the sources with their state."""
    from transcription_assets.domain.urls import without_secrets
    from transcription_assets.sources import catalogue, decisions
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    store = Services(chosen, locate_installed(chosen), read_only=True).store
    found = catalogue.load(store)
    if not found:
        shown.print(f"no sources: write {plain(store.url)}/{catalogue.PATH}", soft_wrap=True)
        return
    states = {name: _state(store, name) for name in found}
    now = datetime.now(UTC)
    print_table(
        ("source", "kind", "landed", "waiting", "failed", "GB", "last look", "address", "error"),
        (
            (
                name,
                source.kind,
                str(states[name].count("landed")),
                str(states[name].count("waiting") + states[name].count("landing") + states[name].pending),
                str(states[name].count("failed")),
                f"{states[name].size / 1e9:.2f}",
                (states[name].looked[:16] or "never")
                + (", due" if decisions.is_due(source, states[name], now) else ""),
                plain(without_secrets(source.url)),
                plain(states[name].error),
            )
            for name, source in found.items()
        ),
    )


@sources.command()
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Look at the sources NAMES (default: all) and say what a fetch would do; nothing is downloaded or written.

    Exit code 1: a source cannot be read.
    """
    from transcription_assets.domain.urls import digest
    from transcription_assets.sources import decisions, ledger
    from transcription_assets.sources.fetching import EVERYTHING, MOST_AT_ONCE

    fetcher, chosen = _opened(names, read_only=True)
    failed = False
    for source in chosen:
        try:
            known = ledger.load(fetcher.store, source.name)
            listing = fetcher.list_items(source, ledger.Ledger())
        except TranscriptionError as error:
            failed = True
            shown.print(f" [bold red]failed[/] {source.name}: {plain(str(error))}", soft_wrap=True)
            continue
        plan = decisions.plan(
            listing.items, known, getattr(source, "backfill", EVERYTHING), MOST_AT_ONCE, digest(source.url)
        )
        title = f" ({plain(listing.title)})" if listing.title else ""
        counts = f"{len(listing.items)} recordings, {len(plan.fetch) + plan.pending} to fetch"
        shown.print(f" [green]ok[/] {source.name}{title}: {counts}", soft_wrap=True)
        for item in plan.fetch:
            day = item.published.isoformat() if item.published else "unknown day"
            shown.print(f"    [dim]{day}[/] {plain(item.shown)}", soft_wrap=True)
    if failed:
        sys.exit(FAILED)


@sources.command()
@click.argument("names", nargs=-1)
@click.option("--due", is_flag=True, help="Only sources whose interval has passed.")
@click.option("--again", is_flag=True, help="Also try recordings again that failed for good.")
def fetch(names: tuple[str, ...], *, due: bool, again: bool) -> None:
    """Fetch what the sources NAMES (default: all) have and the store has not, into the inbox.

    At most 25 recordings of each source. Exit code 1: something failed; 129, 130 or 143: interrupted by SIGHUP, Ctrl-C
    or SIGTERM, after which the next fetch continues.
    """
    from transcription_assets.sources import decisions, ledger

    fetcher, chosen = _opened(names)
    failed = False
    try:
        with interruptible():
            for source in chosen:
                try:
                    if due and not decisions.is_due(source, ledger.load(fetcher.store, source.name), datetime.now(UTC)):
                        continue
                    report = fetcher.fetch(source, lambda line: aside.print(plain(line), soft_wrap=True), again=again)
                except TranscriptionError as error:
                    failed = True
                    shown.print(f" [bold red]failed[/] {source.name}: {plain(str(error))}", soft_wrap=True)
                    continue
                failed |= bool(report.failed)
                left = f", {report.pending} left for the next fetch" if report.pending else ""
                stopped = f"; {report.stopped}" if report.stopped else ""
                shown.print(
                    f"{source.name}: {len(report.landed)} fetched, {len(report.failed)} failed{left}{plain(stopped)}",
                    soft_wrap=True,
                )
    except Interrupted as interrupted:
        aside.print("interrupted; run `sources fetch` again to continue")
        sys.exit(interrupted.exit_code)
    if failed:
        sys.exit(FAILED)


def _state(store: "Store", name: str) -> "Ledger":
    """Return the state of a source; an empty one with the error if it is damaged."""
    from transcription_assets.sources import ledger

    try:
        return ledger.load(store, name)
    except PermanentFailure as error:
        return ledger.Ledger(error=str(error))


def _opened(names: Sequence[str], *, read_only: bool = False) -> "tuple[Fetcher, list[Source]]":
    """Return the fetcher, and the sources of these names, or all."""
    from transcription_assets.sources import catalogue
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    fetcher = Services(chosen, locate_installed(chosen), read_only=read_only).fetcher
    found = catalogue.load(fetcher.store)
    if unknown := sorted(set(names) - set(found)):
        hint = f"known sources: {', '.join(found) or 'none'}"
        raise PermanentFailure(f"{catalogue.PATH} has no source {', '.join(unknown)}; {hint}", hint=hint)
    return fetcher, [source for name, source in found.items() if not names or name in names]
