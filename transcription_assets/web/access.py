"""Access rules of the site: open, by token, or by the user header of a proxy. Pure functions of request headers."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from starlette.requests import cookie_parser

from transcription_assets.domain.hosts import LOOPBACK, host_name

COOKIE = "transcription_access"


@dataclass(frozen=True, slots=True)
class Access:
    """Access by `token` (`Authorization: Bearer`, or a cookie), or by `user_header` of a proxy that signs users in.

    Changes are allowed with `write_token`, and to the users in `writers`; who may change may also read.

    By DNS rebinding a foreign page can make its own host name resolve to
    this server, and read it from the browser of a user. So only requests with a `Host` of this machine, of `hosts` or
    of `listens_on` are answered, unless that protects nothing: a foreign page does not have the token, and a server
    that is open to the network can be read under any name.
    """

    token: str = ""
    user_header: str = ""
    write_token: str = ""
    writers: frozenset[str] = frozenset()
    listens_on: str = "127.0.0.1"
    hosts: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """True if no authentication is required."""
        return not (self.token or self.user_header)

    @property
    def is_local(self) -> bool:
        """True if only this machine can connect."""
        return bracketed(self.listens_on) in LOOPBACK

    def may_read(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request with these headers may read."""
        if self.user(headers) or self.may_write(headers):
            return True
        if self.token and (_bearer(headers) or _cookie(headers)):
            return _shows(self.token, headers)
        return self.is_open

    def may_write(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request with these headers may make changes."""
        return self.user(headers) in self.writers or bool(self.write_token and _shows(self.write_token, headers))

    def user(self, headers: Mapping[str, str]) -> str:
        """Return the user whom the proxy has signed in, "" if there is none."""
        return headers.get(self.user_header, "").strip() if self.user_header else ""

    @property
    def has_writers(self) -> bool:
        """True if anybody may make changes."""
        return bool(self.write_token or (self.user_header and self.writers))

    @property
    def has_sign_in(self) -> bool:
        """True if there is a token to sign in with."""
        return bool(self.token or self.write_token)

    def offers_token(self, headers: Mapping[str, str]) -> bool:
        """Return whether a bearer token was sent, which may be a guess; a cookie of 256 bits cannot be guessed."""
        return bool(self.has_sign_in and _bearer(headers))

    def offers_wrong_token(self, headers: Mapping[str, str]) -> bool:
        """Return whether a bearer token was sent that is not a configured one."""
        return self.offers_token(headers) and not self.opens(_bearer(headers))

    def opens(self, token: str) -> bool:
        """Return whether this is a configured token; False if none is configured."""
        return any(_same(expected, token) for expected in (self.token, self.write_token) if expected)

    def is_own_name(self, host: str) -> bool:
        """Return whether requests with this `Host` header are answered."""
        if not (self.hosts or self.user_header or (self.is_open and self.is_local)):
            return True
        return host_name(host) in LOOPBACK | self.hosts | {bracketed(self.listens_on).lower()}


def bracketed(address: str) -> str:
    """Return an address as written in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def cookie_of(token: str) -> str:
    """Return the value of the cookie (hexadecimal): derived from the token, which cannot be computed from it."""
    return hmac.digest(token.encode(), b"transcription-assets serve", sha256).hex()


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Return whether a page of this site, or no page at all, sent the request: others must not change anything."""
    if site := headers.get("sec-fetch-site", ""):
        return site in {"same-origin", "none"}
    # Only old browsers send no such header. A proxy that replaces the host name makes their changes fail.
    origin = headers.get("origin", "")
    return not origin or origin.rpartition("//")[2].lower() == headers.get("host", "").lower()


def _shows(token: str, headers: Mapping[str, str]) -> bool:
    """Return whether the request has this token, or its cookie."""
    given = _bearer(headers)
    return _same(token, given) if given else _same(cookie_of(token), _cookie(headers))


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Starlette decodes headers as Latin-1, whatever encoding the client used.
    return given.strip().encode("latin-1", "replace").decode(errors="replace") if scheme.lower() == "bearer" else ""


def _cookie(headers: Mapping[str, str]) -> str:
    # Parsed as browsers do: cookies of other services on this host are sent too, and may be malformed.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _same(expected: str, offered: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(expected.encode(), offered.encode(errors="replace"))
