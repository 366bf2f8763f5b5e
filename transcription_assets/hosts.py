"""Names in `Host` headers: both web servers compare them, because a foreign page can make its name point here."""

import re

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?", re.ASCII)


def host_name(host: str) -> str:
    """Return the host without its port, in lower case; an empty string where it is none."""
    found = HOST.fullmatch(host)
    return found["name"].lower() if found else ""


def parse_hosts(text: str) -> frozenset[str]:
    """Return the names in a list separated by commas."""
    return frozenset(filter(None, (host_name(part.strip()) for part in text.split(","))))
