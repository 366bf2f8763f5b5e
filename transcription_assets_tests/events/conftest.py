from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from transcription_assets.events.delivery import Deliverer
from transcription_assets.events.webhooks import Sender
from transcription_assets.storage import Store
from transcription_assets_tests.events.receiver import SECRET, Receiver, receiving

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Clock:
    """A clock that runs ahead of the real one by what a test adds."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, **delta: float) -> None:
        self.ahead += timedelta(**delta)


@pytest.fixture(name="receiver")
def running_receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deliverer(store: Store, clock: Clock) -> Deliverer:
    """A deliverer that may reach the loopback network, with a secret for the receiver `hook`."""
    return Deliverer(store, Sender(secrets={"hook": (SECRET,)}, networks=LOOPBACK), now=clock)


@pytest.fixture
def subscribed(store: Store, receiver: Receiver) -> Callable[..., None]:
    """Write `events.toml` with the receiver `hook`; more lines are those of its table."""

    def write(*lines: str, url: str = "", timeout_s: float = 10.0) -> None:
        fields = ("[hook]", 'kind = "webhook"', f'url = "{url or receiver.url}"', f"timeout_s = {timeout_s}", *lines)
        store.write("events.toml", "\n".join(fields).encode())

    return write
