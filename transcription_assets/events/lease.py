"""The lease of the process that delivers events: others leave the outbox alone until it ends or is released.

It saves work and keeps the order. It is no lock, as folders and buckets have none in common: two processes that take it
at the same moment send some events twice, with the same ids.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from uuid import uuid4

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound
from transcription_assets.storage import Store

PATH = "events/lease.json"
HELD_S = 120.0
"""Longer than any delivery takes: a process that was killed delays the next one by so much."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The process that delivers, until the time `until` (seconds since 1970)."""

    owner: str
    until: float


_LEASE = TypeAdapter(Lease)


@contextmanager
def held(store: Store, seconds: float = HELD_S) -> Iterator[bool]:
    """Take the lease for the block, and release it; yield False if another process has it.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    current = load(store)
    # A clock that was set back must not extend the lease of a dead process for ever.
    if current is not None and 0.0 < current.until - time.time() <= HELD_S:
        yield False
        return
    own = Lease(f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}", time.time() + seconds)
    store.write(PATH, json.dumps(asdict(own)).encode())
    if load(store) != own:
        yield False
        return
    try:
        yield True
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
