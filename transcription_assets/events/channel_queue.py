"""Queue of a channel: the events that wait for its next message, and the failures that are outstanding.

Messages are sent through apprise, whose URLs are secrets: no log and no error holds a part of one.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from transcription_assets.domain import media_keys
from transcription_assets.domain.urls import digest
from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.events import digests, outbox, status
from transcription_assets.events.catalogue import Channel
from transcription_assets.events.digests import Notification
from transcription_assets.events.states import States
from transcription_assets.events.status import Address, Delivery, Status
from transcription_assets.storage import Store

MOST_WAITING = 2_000
"""Events that wait for messages; above it the oldest are deleted."""
MOST_DELETED = 2 * MOST_WAITING
"""Files that one delivery deletes; the next one continues."""
APPRISE_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """Outcome of a message to one address: `error` is "" if the service took it.

    With `may_arrive` it is unknown whether it did: there was no answer in time, and the attempt cannot be stopped.
    """

    error: str = ""
    may_arrive: bool = False


class Notifier(Protocol):
    """Sends a message to one address."""

    def __call__(self, url: str, message: Notification) -> SendOutcome:
        """Send the message.

        Raises:
            PermanentFailure: the notifier is not installed.

        """
        ...


@dataclass(frozen=True)
class ChannelQueue:
    """One delivery to a channel with the addresses `urls`; `now` returns the time (UTC).

    Addresses are independent of each other: each has its own pace, and gets each event in one message. An event is
    deleted when all have had it.
    """

    store: Store
    channel: Channel
    notifier: Notifier
    urls: Sequence[str] = field(repr=False)
    now: Callable[[], datetime]

    def deliver(self, installation: str) -> Delivery:
        """Send a message to each address for which one is due; `installation` is named in its title.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        before, now = status.load_status(self.store, self.channel.name), self.now()
        known = {digest(url): before.addresses.get(digest(url), Address(daily=now)) for url in self.urls}
        # If the last delivery was interrupted, it left events that were sent.
        paths = self._delete_sent(self.store.list(outbox.folder(self.channel)), known)
        if not known:
            return Delivery(waiting=len(paths), error="it has no address in TRANSCRIPTION_EVENT_CHANNELS")
        due = {key: self._due(each, paths, now) for key, each in known.items()}
        sent = known
        if any(what != "nothing" for what in due.values()):
            events = [queued.event for _, queued in outbox.read(self.store, paths) if queued is not None]
            listed = outstanding(self.store, self.channel) if "daily" in due.values() else None

            def one(url: str) -> Address:
                address, what = known[digest(url)], due[digest(url)]
                if what == "nothing":
                    return address
                waiting = [each for each in events if each.id not in address.had]
                message = digests.compose(waiting, listed if what == "daily" else None, installation)
                outcome = self._send(url, message) if message else SendOutcome()
                if outcome.error:
                    # A message that may still arrive must not come twice within the pace of the channel.
                    pause_s = self.channel.every_minutes * 60 if outcome.may_arrive else 0.0
                    return status.after_failure(address, outcome.error, now, pause_s)
                daily = now if what == "daily" else address.daily
                return Address(message=now if message else address.message, daily=daily, had=_names(paths))

            with ThreadPoolExecutor(len(known)) as pool:
                sent = dict(zip(known, pool.map(one, dict.fromkeys(self.urls)), strict=True))
        if sent != before.addresses:
            # Before the events are deleted: if it is killed in between, they are not sent again.
            status.save_status(self.store, self.channel.name, _summary(sent))
        left = self._delete_sent(paths, sent)
        return Delivery(delivered=len(paths) - len(left), waiting=len(left), error=_summary(sent).error)

    def _due(self, address: Address, paths: Sequence[str], now: datetime) -> digests.Due:
        if address.retry_at is not None and now < address.retry_at:
            return "nothing"
        pace = digests.Pace(timedelta(minutes=self.channel.every_minutes), self.channel.daily_at or None)
        waiting = len(set(_names(paths)) - set(address.had))
        return digests.due(waiting, digests.Sent(address.message, address.daily), pace, now)

    def _delete_sent(self, paths: Sequence[str], addresses: Mapping[str, Address]) -> list[str]:
        """Delete the events that all addresses have had, and the oldest above MOST_WAITING; return those that wait."""
        had = set.intersection(*(set(each.had) for each in addresses.values())) if addresses else set()
        waiting = [path for path, name in zip(paths, _names(paths), strict=True) if name not in had][-MOST_WAITING:]
        kept = set(waiting)
        outbox.remove(self.store, [path for path in paths if path not in kept][:MOST_DELETED])
        return waiting

    def _send(self, url: str, message: Notification) -> SendOutcome:
        try:
            return self.notifier(url, message)
        except TranscriptionError as error:
            return SendOutcome(str(error))


def _names(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path.rpartition("/")[2].removesuffix(".json") for path in paths)


def _summary(addresses: Mapping[str, Address]) -> Status:
    """Return the status of a channel: that of the address which fails for longest, and the last message to any."""
    worst = max(addresses.values(), key=lambda each: each.failures)
    delivered = max((each.message for each in addresses.values() if each.message), default=None)
    return Status(worst.failures, worst.failing_since, worst.retry_at, worst.error, delivered, addresses)


def outstanding(store: Store, channel: Channel) -> list[digests.Outstanding]:
    """Return what has failed and has not recovered, of what the channel gets; not items that a source gave up.

    A recording without a failure record is none: the record is deleted when a person retries it, or with the recording.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    types = {"recording": "recording.failed", "source": "source.failed", "backlog": "backlog.stuck"}
    recorded = set(store.list("failures/"))
    listed = []
    for subject, entry in States(store).everything().items():
        kind, _, name = subject.partition(":")
        is_wanted = types.get(kind) in channel.types and (kind != "recording" or name.startswith(channel.prefixes))
        is_current = kind != "recording" or media_keys.failure(name) in recorded
        if entry.failed and is_wanted and is_current:
            listed.append(digests.Outstanding(name, entry.at, entry.reason))
    return listed


def by_apprise(url: str, message: Notification) -> SendOutcome:
    """Send a message through apprise, within APPRISE_LIMIT_S.

    Raises:
        PermanentFailure: apprise is not installed.

    """
    try:
        import apprise
    except ImportError as error:
        hint = "pip install 'transcription_assets[notify]'"
        raise PermanentFailure(f"messages to people need apprise; {hint}", hint=hint) from error
    # Their messages hold URLs.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    outcomes: list[SendOutcome] = []

    def send() -> None:
        try:
            # One address for each object: for several, apprise starts threads that the process waits for at its end.
            sender = apprise.Apprise()
            if not sender.add(url):
                outcomes.append(SendOutcome("an address in TRANSCRIPTION_EVENT_CHANNELS is not one that apprise knows"))
                return
            is_sent = sender.notify(title=message.title, body=message.body, body_format=apprise.NotifyFormat.TEXT)
            outcomes.append(
                SendOutcome(
                    "" if is_sent else "apprise could not deliver the message; check the address and its service"
                )
            )
        except Exception as error:  # noqa: BLE001 -- of a service; its text may hold the address
            outcomes.append(SendOutcome(f"{type(error).__name__} in apprise"))

    # Some services have no time limit. A daemon thread, as the process would wait for others when it ends.
    thread = threading.Thread(target=send, name="apprise", daemon=True)
    thread.start()
    thread.join(APPRISE_LIMIT_S)
    return outcomes[0] if outcomes else SendOutcome(f"no answer within {APPRISE_LIMIT_S:.0f} s", may_arrive=True)
