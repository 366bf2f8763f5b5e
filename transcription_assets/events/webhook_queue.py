"""Queue of a webhook: the events that wait for it, the oldest first, and each subject in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from transcription_assets.events import occurrences, outbox, status
from transcription_assets.events.catalogue import Webhook
from transcription_assets.events.outbox import QueuedEvent
from transcription_assets.events.status import Delivery, Status
from transcription_assets.events.webhooks import MOST_REJECTIONS, Attempt, Sender, pause
from transcription_assets.storage import Store

MOST_REJECTED_IN_A_ROW = 10
"""Events that a server rejects one after another, until it counts as one that takes none."""


@dataclass
class WebhookQueue:
    """One delivery to a webhook, which begins no attempt after `until`; `now` returns the time (UTC).

    An event that the server rejects is tried again later; those that follow about the same subject wait for it. Any
    other failure ends the delivery, and the next attempt has to wait.
    """

    store: Store
    receiver: Webhook
    sender: Sender
    now: Callable[[], datetime]
    until: datetime
    outcome: Delivery = field(default_factory=Delivery)
    _known: Status = field(default_factory=Status)
    _blocked: set[str] = field(default_factory=set)
    _rejected: int = 0

    def deliver(self) -> Delivery:
        """Send the events that wait, until one fails for a reason that concerns all of them.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        before = self._known = status.load_status(self.store, self.receiver.name)
        paths = self.store.list(outbox.folder(self.receiver))
        self.outcome = Delivery(waiting=len(paths), error=before.error if paths else "")
        if not paths or (before.retry_at is not None and self.now() < before.retry_at):
            return self.outcome
        for path, queued in outbox.read(self.store, paths):
            if self.now() >= self.until:
                break
            if queued is None:
                self._remove(path)  # damaged, or delivered by another process
            elif self._is_next(queued):
                attempt = self.sender.send(self.receiver, queued.event)
                if not self._settle(path, queued, attempt):
                    self._known = status.after_failure(self._known, attempt.reason, self.now(), attempt.retry_after_s)
                    self._give_up_old(paths, attempt)
                    break
        if self.outcome.dead:
            outbox.trim_dead(self.store, self.receiver.name)
        if self._known != before:
            status.save_status(self.store, self.receiver.name, self._known)
        return self.outcome

    def _is_next(self, queued: QueuedEvent) -> bool:
        """Return whether the event may be sent now; if not, those that follow about its subject may not, either."""
        if queued.event.subject in self._blocked:
            return False
        if queued.retry_at and self.now() < datetime.fromisoformat(queued.retry_at):
            self._blocked.add(queued.event.subject)
            return False
        return True

    def _settle(self, path: str, queued: QueuedEvent, attempt: Attempt) -> bool:
        """Note the outcome of an attempt; return False if the server takes no events."""
        if attempt.verdict == "delivered":
            self._remove(path)
            self._rejected = 0
            self.outcome.delivered += 1
            self.outcome.error = ""
            self._known = Status(delivered=self.now())
            return True
        self.outcome.error = attempt.reason
        if attempt.verdict == "away":
            return False
        self._rejected += 1
        self._blocked.add(queued.event.subject)
        attempts = queued.attempts + 1
        left = replace(queued, attempts=attempts, reason=attempt.reason)
        if attempts >= MOST_REJECTIONS:
            self._give_up(path, left)
        else:
            retry_at = (self.now() + pause(attempts)).isoformat()
            self.store.write(path, replace(left, retry_at=retry_at).to_json())
        return self._rejected < MOST_REJECTED_IN_A_ROW

    def _give_up_old(self, paths: Sequence[str], attempt: Attempt) -> None:
        """Move events that have waited for longer than `give_up_hours` to the dead-letter list.

        Nothing is moved before the server has failed for that long: a slow one may just not have got to them.
        """
        hours = self.receiver.give_up_hours
        oldest = self.now() - timedelta(hours=hours)
        if self._known.failing_since is None or self._known.failing_since > oldest:
            return
        # The time in the name is not later than that of the entry, which a replay renews.
        old = [path for path in paths if (at := occurrences.time_of(path)) is None or at <= oldest]
        for path, queued in outbox.read(self.store, old):
            if self.now() >= self.until:
                break  # the next failure continues
            if queued is not None and datetime.fromisoformat(queued.queued) <= oldest:
                self._give_up(path, replace(queued, reason=f"not delivered within {hours:g} h: {attempt.reason}"))

    def _give_up(self, path: str, queued: QueuedEvent) -> None:
        outbox.give_up(self.store, self.receiver.name, path, queued)
        self.outcome.dead += 1
        self.outcome.waiting -= 1

    def _remove(self, path: str) -> None:
        self.store.delete(path)
        self.outcome.waiting -= 1
