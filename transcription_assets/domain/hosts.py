"""Parsing of host names in `Host` headers.

Both web servers compare them against DNS rebinding: a foreign page can make its own name resolve to this machine. It is
a module of `domain/` because `defs/`, `web/` and the settings use it, and these do not import each other.
"""

import re

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?", re.ASCII)


def host_name(host: str) -> str:
    """Return the host without its port, in lower case; "" if it is invalid."""
    found = HOST.fullmatch(host)
    return found["name"].lower() if found else ""


def parse_hosts(text: str) -> frozenset[str]:
    """Return the valid hosts of a comma-separated list, without ports, in lower case."""
    return frozenset(filter(None, (host_name(part.strip()) for part in text.split(","))))
