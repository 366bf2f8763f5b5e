"""Delivery of what is in the outbox: one call takes in what happened, and gives each receiver what is due."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.events import backlog, catalogue, intake, lease, occurrences, outbox, status
from transcription_assets.events.catalogue import Catalogue, Receiver, Webhook
from transcription_assets.events.channel_queue import ChannelQueue, Notifier, by_apprise
from transcription_assets.events.lease import Lease, LeaseLost
from transcription_assets.events.states import States, SubjectState
from transcription_assets.events.status import Delivery, DeliveryProgress
from transcription_assets.events.webhook_queue import WebhookQueue
from transcription_assets.events.webhooks import Sender
from transcription_assets.sources import catalogue as source_catalogue
from transcription_assets.storage import Store

BUDGET_S = 20.0
"""Seconds after which a call begins nothing new."""
TIDY_EVERY = timedelta(days=1)
ORPHANED = timedelta(days=7)
"""Age at which events of a receiver that is no longer in `events.toml` are deleted."""
MOST_TIDIED = 5_000
"""Files that a call deletes; the next one continues."""


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """Outcome of a call: events that were made, and what became of them by receiver.

    `idle` says why nothing was done: there are no receivers, or another process delivers. `unknown` are names in the
    settings that no receiver has.
    """

    events: int = 0
    receivers: Mapping[str, Delivery] = field(default_factory=dict)
    idle: str = ""
    unknown: tuple[str, ...] = ()


@dataclass
class Deliverer:
    """Delivers the events of a store. `urls` are the addresses of channels, `now` returns the time (UTC)."""

    store: Store
    sender: Sender = field(default_factory=Sender)
    urls: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    notifier: Notifier = by_apprise
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    budget_s: float = BUDGET_S

    def deliver(self) -> DeliveryReport:
        """Take in what happened since the last call, and give each receiver what is due.

        Receivers are independent of each other: one that does not answer is tried again later, and delays no other.

        Raises:
            InvalidEvents: `events.toml` is invalid.
            TranscriptionError: the store refuses or does not answer.

        """
        found = catalogue.load(self.store)
        if found is None:
            return DeliveryReport(idle=f"the store has no {occurrences.CATALOGUE}")
        with lease.held(self.store) as own:
            if own is None:
                return DeliveryReport(idle="another process delivers")
            try:
                report = self._deliver(found, own)
            except LeaseLost as error:
                return DeliveryReport(idle=str(error))
            unknown = sorted({*self.sender.secrets, *self.urls} - set(found.receivers))
            return replace(report, unknown=tuple(unknown))

    def _deliver(self, found: Catalogue, own: Lease) -> DeliveryReport:
        until = self.now() + timedelta(seconds=self.budget_s)
        before = status.load_progress(self.store)
        progress = before or DeliveryProgress(since=self.store.last_modified(occurrences.CATALOGUE))
        progress = self._clean_up(self._check_backlog(found, progress), found, own)
        events = 0
        while True:
            taken = intake.take(self.store, found, progress.since, own)
            events += taken.events
            if taken.progress is not None:
                progress = replace(progress, moved=max(taken.progress, progress.moved or taken.progress))
            if taken.is_all or self.now() >= until:
                break
        if progress != before:
            status.save_progress(self.store, progress)
        sender = replace(self.sender, source=found.source)
        receivers = list(found.receivers.values())
        with ThreadPoolExecutor(max(1, len(receivers)), "events") as pool:
            outcomes = pool.map(lambda each: self._deliver_to(each, found, sender, until), receivers)
            return DeliveryReport(
                events, {each.name: outcome for each, outcome in zip(receivers, outcomes, strict=True)}
            )

    def _deliver_to(self, receiver: Receiver, found: Catalogue, sender: Sender, until: datetime) -> Delivery:
        """Deliver to one receiver; an error of the store becomes the outcome, as others may have none."""
        try:
            if isinstance(receiver, Webhook):
                return WebhookQueue(self.store, receiver, sender, self.now, until).deliver()
            urls = self.urls.get(receiver.name, ())
            return ChannelQueue(self.store, receiver, self.notifier, urls, self.now).deliver(found.source)
        except TranscriptionError as error:
            return Delivery(error=str(error))
        except Exception as error:  # noqa: BLE001 -- no receiver may stop the others; the text may hold its secrets
            reason = f"unexpected {type(error).__name__}"
            known = status.load_status(self.store, receiver.name)
            status.save_status(self.store, receiver.name, status.after_failure(known, reason, self.now()))
            return Delivery(error=reason)

    def _check_backlog(self, found: Catalogue, progress: DeliveryProgress) -> DeliveryProgress:
        """Check the backlog if that is due, and record what was found."""
        subject = f"backlog:{backlog.NAME}"
        states = States(self.store)
        states.read([subject])
        entry = states.get(subject)
        was_stuck = entry is not None and entry.failed
        now = self.now()
        if not backlog.is_due(found, progress, now):
            if was_stuck and progress.moved and entry and progress.moved > datetime.fromisoformat(entry.at):
                backlog.report(self.store, None, was_stuck=True)
            return progress
        backlog.report(self.store, backlog.find_waiting(self.store, found, now), was_stuck=was_stuck)
        return replace(progress, looked=now)

    def _clean_up(self, progress: DeliveryProgress, found: Catalogue, own: Lease) -> DeliveryProgress:
        """Once a day, forget subjects that are gone, and delete old events of receivers that are gone."""
        now = self.now()
        if progress.tidied is not None and timedelta(0) <= now - progress.tidied < TIDY_EVERY:
            return progress
        states = States(self.store)
        states.drop(self._gone(states.everything()))
        own.require(self.store)
        states.save()
        used = tuple(map(outbox.folder, found.receivers.values()))
        used += tuple(f"{outbox.DEAD}{name}/" for name in found.receivers)
        old = [
            path
            for top in (outbox.OUTBOX, outbox.DIGESTS, outbox.DEAD)
            for path in self.store.list(top)
            if not path.startswith(used) and (at := occurrences.time_of(path)) is not None and now - at > ORPHANED
        ]
        outbox.remove(self.store, old[:MOST_TIDIED])
        return replace(progress, tidied=now) if len(old) <= MOST_TIDIED else progress

    def _gone(self, states: Mapping[str, SubjectState]) -> list[str]:
        """Return the recordings and sources that no longer exist, and the items that did not fail."""
        listing = self.store.list_media()
        recordings = {*listing.frame["key"], *self.store.list_done()["key"]}
        try:
            sources = set(source_catalogue.load(self.store))
        except PermanentFailure:  # the file is invalid now
            sources = None

        def is_gone(subject: str, entry: SubjectState) -> bool:
            kind, _, name = subject.partition(":")
            if kind == "recording":
                return not listing.unread and name not in recordings  # else a disk may not be mounted now
            is_orphan = sources is not None and name.partition("/")[0] not in sources
            return (kind in {"source", "item"} and is_orphan) or (kind == "item" and not entry.failed)

        return [subject for subject, entry in states.items() if is_gone(subject, entry)]
