"""Liveness and readiness probes for Kubernetes and other monitors."""

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from transcription_assets.errors import TranscriptionError
from transcription_assets.web.archive import Archive
from transcription_assets.web.cache import Cached
from transcription_assets.web.thread_pool import ThreadPool, TooSlow

FRESH_S = 1.0


def router(archive: Archive, workers: ThreadPool, *, may_tell: bool) -> APIRouter:
    """Return the routes `/healthz` and `/readyz`, which need no token, so reasons are included only if `may_tell`.

    The server is ready if it can search: without an encoder only words are compared, and the answer says so.
    """
    routes = APIRouter(include_in_schema=False)
    # Cached: probes have no rate limit, and each check sends requests to the store.
    problem = Cached(lambda: _problem(archive), FRESH_S)

    @routes.get("/healthz")
    async def live() -> Response:
        return PlainTextResponse("alive\n")

    @routes.get("/readyz")
    async def ready() -> Response:
        try:
            wrong = await workers.within(problem.soon())
        except TooSlow as error:
            wrong = Problem("store", str(error), may_answer=False)
        if wrong is None:
            return PlainTextResponse("ready\n")
        said = f"{wrong.part}{f': {wrong.reason}' if may_tell else ''}\n"
        if wrong.may_answer:
            return PlainTextResponse(f"ready\ndegraded: {said}")
        return PlainTextResponse(f"not ready: {said}", 503)

    return routes


@dataclass(frozen=True, slots=True)
class Problem:
    """The component that does not work, the reason, and whether searches are answered all the same."""

    part: str
    reason: str
    may_answer: bool


def _problem(archive: Archive) -> Problem | None:
    """Return the first problem, None if everything works."""
    checks = {"store": archive.look, "search table": archive.count, "encoder": archive.require_encoder}
    for part, check in checks.items():
        try:
            check()
        except TranscriptionError as error:
            # Every search waits for an encoder that is being loaded, so no requests should be routed here yet.
            may_answer = part == "encoder" and not error.transient
            return Problem(part, " ".join(str(error).split()), may_answer)
    return None
