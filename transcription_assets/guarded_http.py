"""HTTP client for URLs that strangers chose: it connects to public addresses only, and within a deadline.

The address is checked after the name is resolved, and the connection is made to that very address, for each request
and each redirect. So neither a name nor a redirect leads to a service of the internal network (server-side request
forgery). Proxies of the environment are not used: a proxy would resolve the names itself.
"""

import logging
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import IPPROTO_TCP, gaierror, getaddrinfo
from typing import Any

import httpcore2
import httpx2

from transcription_assets.domain.urls import redacted, without_secrets
from transcription_assets.errors import PermanentFailure, Refused, TransientFailure

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[Address]]

MOST_REDIRECTS = 10
MOST_ADDRESSES = 4
"""Addresses of one name that are tried, one after another."""
CONNECT_S = 15.0
READ_S = 60.0
"""Longest pause within a response; the deadline of the whole request counts as well."""
USER_AGENT = "transcription-assets"
_NAT64 = ip_network("64:ff9b::/96")
_TRANSIENT = frozenset({404, 408, 410, 425, 429})
"""404 and 410, too: feeds are often published before their files."""


# httpx logs each URL with its query at INFO.
logging.getLogger("httpx2").setLevel(logging.WARNING)


class Forbidden(Refused):
    """The URL has another scheme than http(s), or leads to an address that is not public."""


def parse_networks(parts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks that the operator allows besides public addresses."""
    return tuple(ip_network(part, strict=False) for part in parts)


def is_allowed(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Return whether to connect to this address: it is public, or in one of `networks`.

    A mapped IPv4 address counts as that, also one of NAT64; those in a 6to4 or Teredo address must be public as well.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    elif address in _NAT64:
        address = IPv4Address(int(address) & 0xFFFF_FFFF)
    if any(address.version == network.version and address in network for network in networks):
        return True
    embedded = _embedded(address) if isinstance(address, IPv6Address) else ()
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and not (isinstance(address, IPv6Address) and address.is_site_local)
        and all(is_allowed(inner) for inner in embedded)
    )


def _embedded(address: IPv6Address) -> list[IPv4Address]:
    inside = [address.sixtofour, *(address.teredo or ())]
    return [each for each in inside if each is not None]


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, without duplicates.

    Raises:
        OSError: it cannot be resolved.

    """
    found = getaddrinfo(host, port, proto=IPPROTO_TCP)
    return list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


class _Backend(httpcore2.NetworkBackend):
    """Connects to the checked addresses of a host, and to no others; every operation ends at the deadline."""

    def __init__(self, networks: Sequence[Network], deadline: float, resolver: Resolve, setting: str) -> None:
        self._networks = networks
        self._deadline = deadline
        self._resolver = resolver
        self._setting = setting
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        error: Exception | None = None
        for address in self._checked(host, port)[:MOST_ADDRESSES]:
            try:
                stream = self._sockets.connect_tcp(
                    str(address), port, _left(self._deadline, timeout), local_address, socket_options
                )
                return _Stream(stream, self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as failed:
                error = failed
        raise error or httpcore2.ConnectError(f"{host} has no address")

    def _checked(self, host: str, port: int) -> Sequence[Address]:
        try:
            addresses = self._resolver(host, port)
        except (OSError, UnicodeError) as failed:
            reason = failed.strerror if isinstance(failed, gaierror) else str(failed)
            raise httpcore2.ConnectError(f"{host}: {reason}") from failed
        # One internal address among several is enough for an attack, so all must be allowed.
        for address in addresses:
            if not is_allowed(address, self._networks):
                hint = f"if it is meant, add its network to {self._setting}"
                raise Forbidden(f"{host} leads to {address}, which is not a public address; {hint}", hint=hint)
        return addresses


class _Stream(httpcore2.NetworkStream):
    """A connection whose operations end at the deadline, however little at a time the other side sends."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline, timeout))
        return _Stream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the time limit of the request has passed")
    return left if timeout is None else min(left, timeout)


class _Transport(httpx2.HTTPTransport):
    """httpx's transport over the guarded connections."""

    def __init__(self, backend: _Backend) -> None:
        super().__init__(verify=_certificates())
        # httpx has no parameter for the network backend of its pool. The tests of the guard fail if this has no effect.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_certificates(), network_backend=backend, max_keepalive_connections=0
        )


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def client(
    networks: Sequence[Network],
    limit_s: float,
    resolver: Resolve = resolve,
    setting: str = "TRANSCRIPTION_SOURCE_NETWORKS",
) -> httpx2.Client:
    """Return a client for requests that must all end within `limit_s` seconds from now.

    Redirects are followed, at most MOST_REDIRECTS. Its errors are those of httpx, and `Forbidden`, whose message names
    the `setting` that allows `networks`.
    """
    return httpx2.Client(
        transport=_Transport(_Backend(networks, time.monotonic() + limit_s, resolver, setting)),
        trust_env=False,
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
        headers={"user-agent": USER_AGENT},
    )


@contextmanager
def translate_http_errors(url: str) -> Iterator[None]:
    """Translate the errors of a request for `url`.

    Raises:
        Forbidden: the URL, or a redirect, has another scheme or leads to an address that is not public.
        PermanentFailure: the URL is invalid, or the redirects do not end.
        TransientFailure: the server does not answer in time, or closed the connection.

    """
    name = without_secrets(url)
    try:
        yield
    except Forbidden as error:
        raise Forbidden(f"{name}: {error}", hint=error.hint) from error
    except httpx2.UnsupportedProtocol as error:
        raise Forbidden(f"{name}: only http and https are allowed, also in redirects") from error
    except httpx2.TooManyRedirects as error:
        raise PermanentFailure(
            f"{name}: more than {MOST_REDIRECTS} redirects; check the address in a browser"
        ) from error
    except (httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
        raise PermanentFailure(f"{name}: invalid URL ({redacted(str(error))})") from error
    except httpx2.TimeoutException as error:
        raise TransientFailure(f"{name}: no answer in time; it is tried again later") from error
    except (httpx2.TransportError, OSError) as error:
        raise TransientFailure(f"{name}: {error or type(error).__name__}; it is tried again later") from error


def require_success(response: httpx2.Response, url: str) -> None:
    """Check the status of a response.

    Raises:
        TransientFailure: a later attempt may succeed.
        Refused: the server demands credentials, or denies access.
        PermanentFailure: the status is another error.

    """
    status, name = response.status_code, without_secrets(url)
    if response.is_success:
        return
    if status in _TRANSIENT or response.is_server_error:
        raise TransientFailure(f"{name}: the server answered {status}; it is tried again later")
    if status in {401, 403}:
        raise Refused(f"{name}: the server denies access ({status}); check the URL and its token")
    raise PermanentFailure(f"{name}: the server answered {status}; check the address in a browser")
