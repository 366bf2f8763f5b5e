"""Composition of the web application: routes, error handlers and the guard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from transcription_assets.domain.hosts import parse_hosts
from transcription_assets.settings import Settings
from transcription_assets.web import api, files, health, pages, problems
from transcription_assets.web.access import Access
from transcription_assets.web.archive import Archive
from transcription_assets.web.library import Library
from transcription_assets.web.middleware import Guard, content_policy
from transcription_assets.web.thread_pool import ThreadPool

THREADS = 4
"""Threads for blocking work; LanceDB and the encoder already use all cores for one search."""


def access(chosen: Settings, host: str) -> Access:
    """Return the access rules of the settings for a server that listens on `host`."""
    return Access(
        chosen.serve_token.get_secret_value(), chosen.serve_user_header, host, parse_hosts(chosen.serve_hosts)
    )


def build(archive: Archive, host: str) -> Guard:
    """Return the application for an archive; `host` is the address that the server will listen on."""
    chosen = archive.settings
    doorkeeper = access(chosen, host)
    library = Library(archive)
    workers = ThreadPool(THREADS, chosen.serve_timeout_s)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Started now, so that the first request does not wait for all of it.
        archive.encoder_ready  # noqa: B018
        library.overview.soon()
        yield
        workers.close()

    app = FastAPI(
        title="transcription_assets",
        summary="Find the second in which something was said.",
        version="1",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,  # they would load from a CDN
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(health.router(archive, workers, may_tell=doorkeeper.is_open))
    app.include_router(api.router(archive, library, workers))
    app.include_router(files.router(archive, workers))
    app.include_router(pages.router(archive, workers, doorkeeper))
    return Guard(app, doorkeeper, chosen.serve_searches_per_minute, lambda: content_policy(archive.media_origin))
