"""Rate limits by client address: token buckets that refill over time."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

MOST_VISITORS = 10_000
"""Maximum number of buckets; the least recently used is discarded first, and is full again by then."""


def address_block(address: str) -> str:
    """Return the address to limit by: the /64 network of an IPv6 address, as one client has all its 2^64 addresses."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return address
    return str(found.ipv4_mapped or ip_network((int(found), 64), strict=False))


def plain_address(address: str) -> str:
    """Return an IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) as IPv4, any other text unchanged."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str((not isinstance(found, IPv4Address) and found.ipv4_mapped) or address)


@lru_cache
def is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Return whether an address is in one of these networks; False if it is not an IP address.

    Raises:
        ValueError: a network is invalid.

    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in ip_network(network) for network in networks)


@dataclass(slots=True)
class RateLimit:
    """Token buckets of `per_minute` requests, refilled within a minute; `now` is a clock in seconds."""

    per_minute: float
    now: Callable[[], float]
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait(self, visitor: str) -> int:
        """Return the whole seconds until the next request is allowed, 0 if allowed now; the bucket does not change."""
        left, then = self._left.get(visitor, (self.per_minute, self.now()))
        return self._seconds(self._refilled(left, then))

    def take(self, visitor: str) -> int:
        """Take one request from the bucket; return 0 if it is allowed, else the whole seconds until the next one is."""
        now = self.now()
        left = self._refilled(*self._left.pop(visitor, (self.per_minute, now)))
        self._left[visitor] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MOST_VISITORS:
            self._left.popitem(last=False)
        return self._seconds(left)

    def _refilled(self, left: float, then: float) -> float:
        return min(self.per_minute, left + (self.now() - then) * self.per_minute / 60)

    def _seconds(self, left: float) -> int:
        return 0 if left >= 1 else math.ceil((1 - left) * 60 / self.per_minute)
