"""The events that wait for the next message to people, and what is outstanding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from transcription_assets.errors import TranscriptionError
from transcription_assets.events import digests, outbox, status
from transcription_assets.events.catalogue import Channel
from transcription_assets.events.notify import Notifier
from transcription_assets.events.states import States
from transcription_assets.events.status import Delivery, Status
from transcription_assets.storage import Store

MOST_WAITING = 10_000
"""Events that wait for a message that cannot be sent; above it the oldest are deleted."""


@dataclass(frozen=True)
class PeopleQueue:
    """One delivery to a channel with the addresses `urls`; `now` returns the time (UTC)."""

    store: Store
    channel: Channel
    notifier: Notifier
    urls: Sequence[str]
    now: Callable[[], datetime]

    def deliver(self, installation: str) -> Delivery:
        """Send a message if one is due; `installation` is named in its title.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        name, now = self.channel.name, self.now()
        known = status.load_status(self.store, name)
        if known.daily is None:
            known = replace(known, daily=now)
            status.save_status(self.store, name, known)
        paths = self.store.list(outbox.folder(self.channel))
        outcome = Delivery(waiting=len(paths), error=known.error)
        pace = digests.Pace(timedelta(minutes=self.channel.every_minutes), self.channel.daily_at or None)
        what = digests.due(len(paths), digests.Sent(known.message, known.daily), pace, now)
        if what == "nothing" or (known.retry_at is not None and now < known.retry_at):
            return outcome
        waiting = [queued.event for _, queued in outbox.read(self.store, paths) if queued is not None]
        listed = outstanding(self.store, self.channel) if what == "daily" else None
        message = digests.compose(waiting, listed, installation)
        outcome.error = self._notified(message) if message else ""
        if outcome.error:
            status.save_status(self.store, name, status.after_failure(known, outcome.error, now))
            outbox.remove(self.store, paths[:-MOST_WAITING])
            return outcome
        # In this order: if it is killed in between, the next message comes early instead of the same one twice.
        outbox.remove(self.store, paths)
        sent = now if message else known.message
        daily = now if what == "daily" else known.daily
        status.save_status(self.store, name, Status(delivered=sent, message=sent, daily=daily))
        outcome.delivered, outcome.waiting = len(paths), 0
        return outcome

    def _notified(self, message: digests.Message) -> str:
        """Send the message; return why that failed, "" if it did not."""
        if not self.urls:
            return "it has no address in TRANSCRIPTION_EVENT_CHANNELS"
        try:
            return self.notifier(self.urls, message)
        except TranscriptionError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 -- of a service of apprise; its text may hold the address
            return f"{type(error).__name__} in apprise"


def outstanding(store: Store, channel: Channel) -> list[digests.Outstanding]:
    """Return what has failed and has not recovered, of what the channel gets; not items that a source gave up.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    types = {"recording": "recording.failed", "source": "source.failed", "backlog": "backlog.stuck"}
    listed = []
    for subject, entry in States(store).everything().items():
        kind, _, name = subject.partition(":")
        is_wanted = types.get(kind) in channel.types and (kind != "recording" or name.startswith(channel.prefixes))
        if entry.failed and is_wanted:
            listed.append(digests.Outstanding(name, entry.at, entry.reason))
    return listed
