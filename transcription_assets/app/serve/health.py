"""For Kubernetes and other watchers: is it alive, can it answer."""

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from transcription_assets.app.serve.archive import Archive
from transcription_assets.app.serve.kept import Kept
from transcription_assets.app.serve.workers import TooSlow, Workers
from transcription_assets.failures import TranscriptionError

FRESH_S = 1.0


def router(archive: Archive, workers: Workers, *, may_tell: bool) -> APIRouter:
    """`/healthz` and `/readyz`; asked without a token, so where one is needed reasons stand in the log only.

    Ready is whatever can answer a question: without an encoder words alone are compared, and the answer says so.
    """
    routes = APIRouter(include_in_schema=False)
    # Anybody may ask, as often as they like: looking costs requests to the store.
    problem = Kept(lambda: _problem(archive), FRESH_S)

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
    """The part that does not work, why, and whether questions are answered all the same."""

    part: str
    reason: str
    may_answer: bool


def _problem(archive: Archive) -> Problem | None:
    """The first thing that does not work."""
    checks = {"store": archive.look, "search table": archive.count, "encoder": archive.require_encoder}
    for part, check in checks.items():
        try:
            check()
        except TranscriptionError as error:
            # An encoder that is being loaded is waited for by every search, so nobody should be sent here yet.
            may_answer = part == "encoder" and not error.transient
            return Problem(part, " ".join(str(error).split()), may_answer)
    return None
