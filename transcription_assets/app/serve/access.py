"""Who may read: everybody, or who knows the token, or whom a proxy names. Pure decisions on headers."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from starlette.requests import cookie_parser

from transcription_assets.hosts import LOOPBACK, host_name

COOKIE = "transcription_access"


@dataclass(frozen=True, slots=True)
class Access:
    """`token` opens by `Authorization: Bearer` or by a cookie; `user_header` is set by a proxy that signs people in.

    A foreign page can make its name point here (DNS rebinding), and then read along as a visitor of its own site. So
    only names of this machine, `hosts` and `listens_on` are answered, unless that protects nothing: a foreign page
    has no token, and what everybody on a network may read needs no name.
    """

    token: str = ""
    user_header: str = ""
    listens_on: str = "127.0.0.1"
    hosts: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return not (self.token or self.user_header)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return bracketed(self.listens_on) in LOOPBACK

    def may_read(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request with these headers may read."""
        if self.user_header and headers.get(self.user_header, "").strip():
            return True
        if self.token and (_bearer(headers) or _cookie(headers)):
            given = _bearer(headers)
            expected, offered = (self.token, given) if given else (self.cookie, _cookie(headers))
            return _same(expected, offered)
        return self.is_open

    def offers_token(self, headers: Mapping[str, str]) -> bool:
        """Whether a token is offered that somebody may have guessed; the cookie has 256 bits, nobody guesses it."""
        return bool(self.token and _bearer(headers))

    def opens(self, token: str) -> bool:
        """Whether this is the token."""
        return bool(self.token) and _same(self.token, token)

    @property
    def cookie(self) -> str:
        """What a browser keeps: it follows from the token, and does not tell it."""
        return hmac.digest(self.token.encode(), b"transcription-assets serve", sha256).hex()

    def is_own_name(self, host: str) -> bool:
        """Whether the `Host` header may be answered."""
        if not (self.hosts or self.user_header or (self.is_open and self.is_local)):
            return True
        return host_name(host) in LOOPBACK | self.hosts | {bracketed(self.listens_on).lower()}


def bracketed(address: str) -> str:
    """Return an address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Headers come as Latin-1, whatever was sent.
    return given.strip().encode("latin-1", "replace").decode(errors="replace") if scheme.lower() == "bearer" else ""


def _cookie(headers: Mapping[str, str]) -> str:
    # As browsers read them: the cookies of whatever else runs on this host come along, and may be no proper ones.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _same(expected: str, offered: str) -> bool:
    """In a time that tells nothing about how much of it is right."""
    return hmac.compare_digest(expected.encode(), offered.encode(errors="replace"))
