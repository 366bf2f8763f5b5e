"""Messages to channels through apprise, whose URLs are secrets: no log and no error holds a part of one."""

import logging
import threading
from dataclasses import dataclass
from typing import Protocol

from transcription_assets.errors import PermanentFailure
from transcription_assets.events.digests import Notification

LIMIT_S = 30.0


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


def by_apprise(url: str, message: Notification) -> SendOutcome:
    """Send a message through apprise, within LIMIT_S.

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
    thread.join(LIMIT_S)
    return outcomes[0] if outcomes else SendOutcome(f"no answer within {LIMIT_S:.0f} s", may_arrive=True)
