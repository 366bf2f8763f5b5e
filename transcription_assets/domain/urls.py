"""Text of URLs: absolute, without secrets, as a digest, and with credentials; pure."""

import re
from hashlib import sha256
from urllib.parse import urljoin, urlsplit, urlunsplit

SCHEMES = frozenset({"http", "https"})
MOST_URL = 4_000
_URL = re.compile(r"https?://\S+", re.IGNORECASE)


def absolute(base: str, address: object) -> str:
    """Return the absolute http(s) URL of a link, "" if it is another one: pages show links of strangers."""
    try:
        url = urljoin(base, str(address or "").strip())
        parts = urlsplit(url)
        is_usable = parts.scheme in SCHEMES and bool(parts.hostname) and len(url) <= MOST_URL and url.isprintable()
    except ValueError:
        return ""
    return url if is_usable and " " not in url else ""


def without_secrets(url: str) -> str:
    """Return the URL without user name, password, query and fragment, which may hold a personal token."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "invalid URL"
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def digest(text: str) -> str:
    """Return a digest of a URL or a GUID: files and states must not hold those with a token."""
    return sha256(text.encode(errors="replace")).hexdigest()[:20]


def redacted(text: str) -> str:
    """Return text of a message or a GUID, in which each http(s) URL is without secrets."""
    return _URL.sub(lambda found: without_secrets(found[0]), text)


def with_credentials(url: str, source_url: str) -> str:
    """Return `url` with user name and password of `source_url` if both have the same scheme, host and port."""
    parts, source = urlsplit(url), urlsplit(source_url)
    credentials, at, host = source.netloc.rpartition("@")
    if at and (parts.scheme, parts.netloc.lower()) == (source.scheme, host.lower()):
        return urlunsplit(parts._replace(netloc=f"{credentials}@{parts.netloc}"))
    return url
