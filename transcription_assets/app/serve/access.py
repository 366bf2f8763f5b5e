"""Who may read: everybody, or who knows the token, or whom a trusted proxy names. Pure decisions on headers."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from starlette.requests import cookie_parser

COOKIE = "transcription_access"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Access:
    """`token` opens by `Authorization: Bearer` or by a cookie; `user_header` is set by a proxy that signs people in.

    With neither, everybody may read, but on a loopback address only under its own names: a page elsewhere could else
    have its name point here and read along.
    """

    token: str = ""
    user_header: str = ""
    host: str = "127.0.0.1"

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return not (self.token or self.user_header)

    def visitor(self, headers: Mapping[str, str]) -> str | None:
        """A name for who asks (empty: nobody in particular), or None for who may not read."""
        if self.user_header and (user := headers.get(self.user_header, "").strip()):
            return user[:200]
        if self.token and (_bearer(headers) or _cookie(headers)):
            given = _bearer(headers)
            expected, offered = (self.token, given) if given else (self.cookie, _cookie(headers))
            return "" if _same(expected, offered) else None
        return "" if self.is_open else None

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
        if not self.is_open or self.host not in LOOPBACK:
            return True
        name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        return name.lower() in LOOPBACK


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
