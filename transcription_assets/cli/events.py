"""The commands of `events`: deliver events to the receivers of `events.toml`, and repeat what was given up."""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import Group, Interrupted, aside, interruptible, plain, print_table, shown
from transcription_assets.errors import TranscriptionError

if TYPE_CHECKING:
    from transcription_assets.events.catalogue import Catalogue, Receiver
    from transcription_assets.events.delivery import Deliverer, DeliveryReport
    from transcription_assets.storage import Store

FAILED = 1


@click.group("events", cls=Group)
def events() -> None:
    """Tell servers and people what became of recordings, as `events.toml` in the store says."""


@events.command()
@click.option(
    "--every", type=click.FloatRange(1, 86_400), metavar="SECONDS", help="Deliver again and again, until Ctrl-C."
)
def deliver(every: float | None) -> None:
    """Deliver the events that are due. The sensor `events` does the same in Dagster.

    Exit code 1: a receiver did not take its events, which are tried again later; 129, 130 or 143: interrupted by
    SIGHUP, Ctrl-C or SIGTERM, after which the next call continues.
    """
    deliverer = _deliverer()
    try:
        with interruptible():
            report = _deliver_all(deliverer, {})
            while every is not None:
                time.sleep(every)
                errors = {name: outcome.error for name, outcome in report.receivers.items()}
                try:
                    report = _deliver_all(deliverer, errors)
                except TranscriptionError as error:
                    aside.print(plain(str(error)), soft_wrap=True)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    if any(outcome.error for outcome in report.receivers.values()):
        sys.exit(FAILED)


@events.command("list")
def list_receivers() -> None:
    """List the receivers with the events that wait, the last failure, and when it is tried again."""
    from transcription_assets.events import outbox, status

    store = _store(read_only=True)
    found = _catalogue(store)
    waiting, dead = outbox.pending(store), outbox.dead(store)
    states = {name: status.load_status(store, name) for name in found.receivers}
    print_table(
        ("receiver", "kind", "waiting", "dead", "last delivery", "failures", "tried again", "error"),
        (
            (
                name,
                receiver.kind,
                str(waiting.get(name, 0)),
                str(dead.get(name, 0)),
                _time(states[name].delivered) or "never",
                str(states[name].failures),
                _time(states[name].retry_at),
                plain(states[name].error),
            )
            for name, receiver in found.receivers.items()
        ),
    )
    shown.print(f"[dim]the oldest event that waits for a server is {outbox.lag(store):.0f} s old[/]")


@events.command()
@click.argument("names", metavar="[RECEIVER]...", nargs=-1)
def dead(names: tuple[str, ...]) -> None:
    """List the events that were given up, of RECEIVER (default: all)."""
    from transcription_assets.events import outbox
    from transcription_assets.events.catalogue import require_known
    from transcription_assets.events.occurrences import CATALOGUE

    store = _store(read_only=True)
    found = _catalogue(store)
    require_known(names, found, CATALOGUE)
    print_table(
        ("receiver", "id", "type", "subject", "attempts", "reason"),
        (
            (
                name,
                letter.event.id,
                letter.event.type,
                plain(letter.event.subject),
                str(letter.attempts),
                plain(letter.reason),
            )
            for name in names or found.receivers
            for letter in outbox.dead_letters(store, name)
        ),
    )


@events.command()
@click.argument("receiver")
@click.argument("identifiers", metavar="[ID]...", nargs=-1)
def replay(receiver: str, identifiers: tuple[str, ...]) -> None:
    """Put events of RECEIVER that were given up into the outbox again (default: all), with the ids that they had."""
    from transcription_assets.events import outbox

    store = _store()
    count = outbox.replay(store, _receiver(store, receiver), identifiers)
    shown.print(f"{count} events wait for {plain(receiver)} again")


@events.command()
@click.argument("receiver")
def test(receiver: str) -> None:
    """Send a test event, or a test message, to RECEIVER now; exit code 1 if it did not arrive."""
    from transcription_assets.events import digests, occurrences
    from transcription_assets.events.catalogue import Webhook
    from transcription_assets.events.event import Event

    deliverer = _deliverer()
    found = _receiver(deliverer.store, receiver)
    if isinstance(found, Webhook):
        event = Event(occurrences.stamped_name(), "test", receiver, occurrences.now(), 1)
        sender = replace(deliverer.sender, source=_catalogue(deliverer.store).source)
        reason = sender.send(found, event).reason
    elif urls := deliverer.urls.get(receiver, ()):
        message = digests.Notification("Test", "This channel gets messages about recordings.")
        errors = [deliverer.notifier(url, message).error for url in urls]
        reason = "; ".join(f"address {number}: {error}" for number, error in enumerate(errors, 1) if error)
    else:
        reason = "it has no address in TRANSCRIPTION_EVENT_CHANNELS"
    if reason:
        shown.print(f" [bold red]failed[/] {plain(receiver)}: {plain(reason)}", soft_wrap=True)
        sys.exit(FAILED)
    shown.print(f" [green]ok[/] {plain(receiver)}")


def _deliver_all(deliverer: "Deliverer", known: Mapping[str, str]) -> "DeliveryReport":
    """Deliver until nothing is due any more, and print what was done; `known` errors of receivers are not repeated."""
    while True:
        report = deliverer.deliver()
        if report.idle:
            aside.print(plain(report.idle), soft_wrap=True)
        for name, outcome in report.receivers.items():
            if outcome.delivered or outcome.dead or outcome.error != known.get(name, ""):
                dead_letters = f", {outcome.dead} given up" if outcome.dead else ""
                error = f": {outcome.error}" if outcome.error else ""
                shown.print(
                    f"{name}: {outcome.delivered} delivered, {outcome.waiting} waiting{dead_letters}{plain(error)}",
                    soft_wrap=True,
                )
        if report.unknown and not known:
            names = ", ".join(report.unknown)
            aside.print(f"settings name receivers that events.toml has not: {plain(names)}", soft_wrap=True)
        is_partial = any(each.delivered and each.waiting and not each.error for each in report.receivers.values())
        if not is_partial:
            return report


def _deliverer() -> "Deliverer":
    from transcription_assets.wiring import build_deliverer

    return build_deliverer(_store(), settings.load())


def _store(*, read_only: bool = False) -> "Store":
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    return Services(chosen, locate_installed(chosen), read_only=read_only).store


def _catalogue(store: "Store") -> "Catalogue":
    """Return the receivers, none without `events.toml`."""
    from transcription_assets.events import catalogue, occurrences

    found = catalogue.load(store)
    if found is None:
        shown.print(f"no receivers: write {plain(store.url)}/{occurrences.CATALOGUE}", soft_wrap=True)
    return found or catalogue.Catalogue()


def _receiver(store: "Store", name: str) -> "Receiver":
    from transcription_assets.events import catalogue, occurrences

    found = catalogue.load(store) or catalogue.Catalogue()
    catalogue.require_known([name], found, occurrences.CATALOGUE)
    return found.receivers[name]


def _time(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""
