"""The web application (routes, error handlers, guard), and the server that runs it."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress

import uvicorn
from fastapi import FastAPI

from transcription_assets.domain.hosts import parse_hosts
from transcription_assets.errors import PermanentFailure
from transcription_assets.settings import Settings, split
from transcription_assets.web import answers, api, assistants, files, health, pages, people, problems, uploads
from transcription_assets.web.access import Access, bracketed
from transcription_assets.web.archive import Archive
from transcription_assets.web.body_limit import BodyLimit
from transcription_assets.web.connection import Connection
from transcription_assets.web.library import Library
from transcription_assets.web.metrics import Metrics, Timed
from transcription_assets.web.middleware import App, Guard, content_policy
from transcription_assets.web.thread_pool import ThreadPool
from transcription_assets.web.upload_receiver import UploadReceiver

THREADS = 4
"""Threads for blocking work; LanceDB and the encoder already use all cores for one search."""

WAITING = 128
QUIET_S = 15
"""Seconds after which a connection without requests is closed."""
LEAVE_S = 5
"""Seconds that responses in progress, such as a video, may take after SIGTERM."""
UNREAD_S = 60.0
"""Seconds after which a client that receives no sent data is disconnected (Linux only); the default of nginx."""

HEAD_BYTES = 65_536
"""Request line and headers: a key may have 3072 characters, which take up to 36 KB in a URL. h11's default is 16 KB."""

DESCRIPTORS = 4096
"""Open files: a connection that sends a file of a local store has two."""


def access_rules(chosen: Settings, host: str) -> Access:
    """Return the access rules of the settings for a server that listens on `host`."""
    return Access(
        token=chosen.serve_token.get_secret_value(),
        user_header=chosen.serve_user_header,
        write_token=chosen.serve_write_token.get_secret_value(),
        writers=frozenset(split(chosen.serve_writers)),
        listens_on=host,
        hosts=parse_hosts(chosen.serve_hosts),
    )


def build(archive: Archive, host: str) -> Guard:
    """Return the application for an archive; `host` is the address that the server will listen on."""
    chosen = archive.settings
    access = access_rules(chosen, host)
    library = Library(archive)
    workers = ThreadPool(THREADS, chosen.serve_timeout_s)
    archive.tools.asker  # noqa: B018 -- a model without a name fails now, not at the first question
    answering = answers.pool(archive)
    updates = people.NameUpdates()
    receiver = UploadReceiver(archive)
    for_assistants = assistants.build(archive, library, workers) if assistants.is_installed() else None

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Started now, so that the first request does not wait for all of it.
        archive.encoder_ready  # noqa: B018
        library.overview.soon()
        sweeping = asyncio.create_task(receiver.sweep_forever()) if access.has_writers else None
        async with for_assistants.session_manager.run() if for_assistants else nullcontext():
            yield
        if sweeping:
            sweeping.cancel()
        receiver.close()
        workers.close()
        answering.close()
        updates.close()

    app = FastAPI(
        title="transcription_assets",
        summary="Search transcripts and play recordings from the matching moment.",
        version="1",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,  # they would load from a CDN
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(health.router(archive, workers, show_reasons=access.is_open))
    # Before `api`, whose route for a recording would also match these paths.
    app.include_router(people.router(archive, workers, access, updates))
    app.include_router(uploads.router(receiver, chosen, access))
    app.include_router(api.router(archive, library, workers))
    app.include_router(answers.router(archive, answering))
    app.include_router(files.router(archive, workers))
    app.include_router(pages.router(archive, workers, access))
    if for_assistants:
        assistants.add(app, for_assistants)
    measured = Metrics(library)
    app.include_router(measured.router(workers))
    return Guard(
        Timed(BodyLimit(app), measured),
        access,
        chosen.serve_searches_per_minute,
        chosen.ask_per_minute,
        lambda: content_policy(archive.media_origin),
    )


def run(archive: Archive, host: str, port: int, *, verbose: bool, listening: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Once the server accepts connections, `listening` is called with its URL, and a warning if it is open to a network.

    Raises:
        PermanentFailure: the address is in use, or does not belong to this machine.

    """
    bound = listener(host, port)
    name, number, *_ = bound.getsockname()
    address = f"http://{bracketed(name)}:{number}"
    access = access_rules(archive.settings, host)
    if access.is_open and not access.is_local:
        address += " (without authentication: set TRANSCRIPTION_SERVE_TOKEN)"
    config = configured(build(archive, host), archive.settings.proxies, verbose=verbose)
    allow_descriptors()
    with suppress(KeyboardInterrupt):
        ListeningServer(config, lambda: listening(address)).run([bound])


def configured(app: App, proxies: Sequence[str] = (), *, verbose: bool = False) -> uvicorn.Config:
    """Return the configuration with all limits; forwarding headers are trusted from `proxies` (networks) only."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        access_log=verbose,
        server_header=False,
        # Set even if empty: by default uvicorn trusts every client on this machine.
        forwarded_allow_ips=list(proxies),
        ws="none",
        timeout_keep_alive=QUIET_S,
        timeout_graceful_shutdown=LEAVE_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )


def allow_descriptors(limit: int = DESCRIPTORS) -> None:
    """Raise the soft limit on open files if the hard one allows it: 1024, as usual, is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class ListeningServer(uvicorn.Server):
    """Server that calls `listening` once it accepts connections."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and call `listening`."""
        await super().startup(sockets)
        if self.started:
            self._listening()


def listener(host: str, port: int) -> socket.socket:
    """Return a listening socket; its connections are closed if sent data is not received within UNREAD_S seconds.

    Raises:
        PermanentFailure: the address is in use, or does not belong to this machine.

    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Connections inherit it. The kernel knows what the client received; a timer here would see its own buffer.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_S * 1000))
        bound.bind(address)
        bound.listen(WAITING)
    except OSError as error:
        raise PermanentFailure(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose others with --host and --port"
        ) from error
    return bound
