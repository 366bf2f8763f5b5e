"""Liveness and readiness probes for Kubernetes and other monitors."""

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from transcription_assets.errors import TranscriptionError
from transcription_assets.web.archive import Archive
from transcription_assets.web.cache import Cached
from transcription_assets.web.thread_pool import ThreadPool, TooSlow

FRESH_S = 1.0


def router(archive: Archive, workers: ThreadPool, *, show_reasons: bool) -> APIRouter:
    """Return the routes `/healthz` and `/readyz`, which need no token, so reasons are included only if `show_reasons`.

    The server is ready if it can search: without an encoder searches use words only, with a note in the answer.
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
            found = await workers.within(problem.soon())
        except TooSlow as error:
            found = Problem("store", str(error), may_answer=False)
        if found is None:
            return PlainTextResponse("ready\n")
        detail = f"{found.part}{f': {found.reason}' if show_reasons else ''}\n"
        if found.may_answer:
            return PlainTextResponse(f"ready\ndegraded: {detail}")
        return PlainTextResponse(f"not ready: {detail}", 503)

    return routes


@dataclass(frozen=True, slots=True)
class Problem:
    """The component that does not work, the reason, and whether searches are answered all the same."""

    part: str
    reason: str
    may_answer: bool


def _problem(archive: Archive) -> Problem | None:
    """Return the first problem, None if everything works."""
    checks = {"store": archive.check_store, "search table": archive.count, "encoder": archive.require_encoder}
    for part, check in checks.items():
        try:
            check()
        except TranscriptionError as error:
            # Every search waits for an encoder that is being loaded, so no requests should be routed here yet.
            may_answer = part == "encoder" and not error.transient
            return Problem(part, " ".join(str(error).split()), may_answer)
    return None
