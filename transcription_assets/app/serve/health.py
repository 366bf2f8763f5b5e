"""For Kubernetes and other watchers: is it alive, can it answer."""

from collections.abc import Callable, Mapping

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from transcription_assets.app.serve.archive import Archive
from transcription_assets.app.serve.kept import Kept
from transcription_assets.app.serve.workers import TooSlow, Workers
from transcription_assets.failures import TranscriptionError

FRESH_S = 1.0


def router(archive: Archive, workers: Workers, *, may_tell: bool) -> APIRouter:
    """`/healthz` and `/readyz`; asked without a token, so where one is needed reasons stand in the log only."""
    routes = APIRouter(include_in_schema=False)
    checks = {"store": archive.look, "search table": archive.count, "encoder": archive.require_encoder}
    # Anybody may ask, as often as they like: looking costs requests to the store.
    problem = Kept(lambda: _problem(checks), FRESH_S)

    @routes.get("/healthz")
    async def live() -> Response:
        return PlainTextResponse("alive\n")

    @routes.get("/readyz")
    async def ready() -> Response:
        try:
            wrong = await workers.within(problem.soon())
        except TooSlow as error:
            wrong = ("store", str(error))
        if wrong is None:
            return PlainTextResponse("ready\n")
        name, reason = wrong
        return PlainTextResponse(f"not ready: {name}{f': {reason}' if may_tell else ''}\n", 503)

    return routes


def _problem(checks: Mapping[str, Callable[[], object]]) -> tuple[str, str] | None:
    """What does not work first, and why."""
    for name, check in checks.items():
        try:
            check()
        except TranscriptionError as error:
            return name, " ".join(str(error).split())
    return None
