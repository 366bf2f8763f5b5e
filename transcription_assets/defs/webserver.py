"""Dagster's webserver with `WebGuard`: `python -m transcription_assets.defs.webserver`.

It has the options of `dagster-webserver`, which has no authentication and checks neither Origin nor Host: any page that
is open in a browser beside the Dagster UI can send requests to it, also to `localhost`. `WebGuard` refuses requests
that the browser marks as coming from another origin, requests for another host name (DNS rebinding), and mutations in
requests that a browser sends without a CORS preflight.
"""

from collections.abc import Collection
from dataclasses import dataclass

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transcription_assets import settings
from transcription_assets.domain.hosts import LOOPBACK, host_name, parse_hosts

PROBE = "/server_info"
"""Path of Kubernetes' probes, sent to the pod's IP address; the answer contains only versions."""
GRAPHQL = "/graphql"
PREFLIGHTED = frozenset({"application/json", "application/graphql"})
"""Content types that require a CORS preflight from another origin, which Dagster never grants."""
OWN_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site for requests of the UI itself and of the address bar."""

HEADERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class WebGuard:
    """ASGI middleware that refuses cross-origin requests.

    Attributes:
        app: The webserver.
        hosts: Host names and addresses, without ports, that are allowed besides those of this machine.

    """

    app: ASGIApp
    hosts: Collection[str] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 403, or pass the request to the webserver."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if reason := self.refusal(scope):
            await _refuse(scope, receive, send, reason)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, sent)

    def refusal(self, scope: Scope) -> str:
        """Return why a request is refused, or an empty string."""
        headers, path = Headers(scope=scope), scope["path"]
        method = scope.get("method", "")  # a WebSocket has none
        if method == "GET" and path == PROBE:
            return ""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_allowed_host(host_name(host)):
            return f"host name {host!r} is not allowed; add it to TRANSCRIPTION_DAGSTER_HOSTS"
        if origin is not None and not self._is_own_origin(origin, host):
            return f"requests from pages of {origin!r} are not allowed"
        is_graphql = path.endswith(GRAPHQL)
        followed = method == "GET" and not is_graphql and _is_link(headers)
        if headers.get("sec-fetch-site", "none") not in OWN_SITE and not followed:
            return "requests from pages of another origin are not allowed"
        return _graphql_refusal(method, headers, scope) if is_graphql else ""

    def _is_allowed_host(self, name: str) -> bool:
        return name in LOOPBACK or name in self.hosts

    def _is_own_origin(self, origin: str, host: str) -> bool:
        """Return whether an Origin is one of ours; behind a proxy it may differ from the request's Host."""
        netloc = origin.partition("://")[2]
        return netloc.lower() == host.lower() or host_name(netloc) in self.hosts


def _is_link(headers: Headers) -> bool:
    """Return whether the request follows a link: the answer opens in a tab, and other pages cannot read it."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _graphql_refusal(method: str, headers: Headers, scope: Scope) -> str:
    """Return why a GraphQL request is refused, or an empty string."""
    if method in ("GET", "HEAD") and _may_change(QueryParams(scope["query_string"]).get("query", "")):
        return "mutations require POST"
    if method == "POST" and _content_type(headers) not in PREFLIGHTED:
        return f"the content type must be one of {', '.join(sorted(PREFLIGHTED))}"
    return ""


def _may_change(query: str) -> bool:
    """Return whether a GraphQL document contains other operations than queries, or cannot be parsed."""
    if not query:
        return False
    try:
        document = parse(query)
    except GraphQLError:
        return True
    operations = [item for item in document.definitions if isinstance(item, OperationDefinitionNode)]
    return any(item.operation is not OperationType.QUERY for item in operations)


def _content_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()  # the server must have read the upgrade request before it can be refused
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    await PlainTextResponse(f"Refused: {reason}.\n", 403, headers=HEADERS)(scope, receive, send)


class GuardedWebserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's webserver that answers only to its own pages and to programs."""

    def build_middleware(self) -> list[Middleware]:
        """Return the middleware, `WebGuard` first.

        Raises:
            InvalidSettings: The settings are invalid.

        """
        hosts = parse_hosts(settings.load().dagster_hosts)
        return [Middleware(WebGuard, hosts=hosts), *super().build_middleware()]


def main() -> None:
    """Run dagster-webserver's command with `GuardedWebserver`, for which it has no option."""
    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    main()
