"""Messages to people through apprise, whose URLs are secrets: no log and no error holds a part of one."""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from transcription_assets.errors import PermanentFailure
from transcription_assets.events.digests import Message

LIMIT_S = 30.0


class Notifier(Protocol):
    """Sends a message to the addresses of a channel."""

    def __call__(self, urls: Sequence[str], message: Message) -> str:
        """Return why the message did not reach all addresses, "" if it did.

        Raises:
            PermanentFailure: the notifier is not installed.

        """
        ...


def by_apprise(urls: Sequence[str], message: Message) -> str:
    """Send a message through apprise, within LIMIT_S; return why it did not reach all addresses, "" if it did.

    Raises:
        PermanentFailure: apprise is not installed.

    """
    try:
        import apprise
    except ImportError as error:
        hint = "pip install 'transcription_assets[notify]'"
        raise PermanentFailure(f"messages to people need apprise; {hint}", hint=hint) from error
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its messages hold URLs
    sender = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not sender.add(url):
            return f"address {number} in TRANSCRIPTION_EVENT_CHANNELS is not one that apprise knows"
    outcome: list[bool] = []

    def send() -> None:
        outcome.append(bool(sender.notify(title=message.title, body=message.body)))

    # Some services have no time limit. A daemon thread, as the process would wait for others when it ends.
    thread = threading.Thread(target=send, name="apprise", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if thread.is_alive():
        return f"no answer within {LIMIT_S:.0f} s"
    return "" if outcome == [True] else "apprise could not deliver the message; check the address and its service"
