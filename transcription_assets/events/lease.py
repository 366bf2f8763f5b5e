"""The lease of the process that delivers events: others leave the outbox alone until it ends or is released."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from uuid import uuid4

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound, TransientFailure
from transcription_assets.storage import Store

PATH = "events/lease.json"
HELD_S = 120.0
"""Longer than a delivery takes: a process that was killed delays the next one by so much."""


class LeaseLost(TransientFailure):
    """The lease ended, or another process has taken it since."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The process that delivers, until the time `until` (seconds since 1970)."""

    owner: str
    until: float

    def require(self, store: Store) -> None:
        """Check that this process still has the lease.

        Raises:
            LeaseLost: it does not: the delivery must write no states.
            TranscriptionError: the store refuses or does not answer.

        """
        if time.time() >= self.until or load(store) != self:
            raise LeaseLost(f"{store.url}/{PATH}: the delivery took too long, another process continues it")


_LEASE = TypeAdapter(Lease)


@contextmanager
def held(store: Store) -> Iterator[Lease | None]:
    """Take the lease for the block, and release it; yield None if another process has it.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    own = Lease(f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}", time.time() + HELD_S)
    content = json.dumps(asdict(own)).encode()
    if not store.write_new(PATH, content):
        current = load(store)
        # A clock that was set back must not extend the lease of a dead process for ever.
        if current is not None and 0.0 < current.until - time.time() <= HELD_S:
            yield None
            return
        # Two processes may do so at once. The one whose lease is deleted here finds out in `require`.
        store.delete(PATH)
        if not store.write_new(PATH, content):
            yield None
            return
    try:
        yield own
    finally:
        if load(store) == own:
            store.delete(PATH)


def load(store: Store) -> Lease | None:
    """Return the current lease; None if there is none or it is damaged.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    try:
        return _LEASE.validate_json(store.read(PATH))
    except (NotFound, ValueError):
        return None
