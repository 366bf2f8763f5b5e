"""For Kubernetes and other watchers: is it alive, can it answer."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from transcription_assets.app.serve.archive import Archive
from transcription_assets.app.serve.workers import Workers
from transcription_assets.failures import TranscriptionError


def router(archive: Archive, workers: Workers, *, may_tell: bool) -> APIRouter:
    """`/healthz` and `/readyz`; asked without a token, so where one is needed reasons stand in the log only."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/healthz")
    async def live() -> Response:
        return PlainTextResponse("alive\n")

    @routes.get("/readyz")
    async def ready() -> Response:
        checks = {"store": archive.look, "search table": archive.count, "encoder": archive.require_encoder}
        for name, check in checks.items():
            try:
                await workers.run(check)
            except TranscriptionError as error:
                reason = f": {' '.join(str(error).split())}" if may_tell else ""
                return PlainTextResponse(f"not ready: {name}{reason}\n", 503)
        return PlainTextResponse("ready\n")

    return routes
