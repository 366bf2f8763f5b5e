"""The routes of the ASR service, its guard, and the server that runs it."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from transcription_assets.asr import problems, responses, uploads
from transcription_assets.asr.problems import ApiError
from transcription_assets.asr.service import HANG_UP, Accepted, Limits, TranscriptionService
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.settings import Settings
from transcription_assets.speech import SAMPLE_RATE, Engine, Task
from transcription_assets.storage import temporary
from transcription_assets.web import server as web_server
from transcription_assets.web.access import Access, bracketed, is_same_origin
from transcription_assets.web.middleware import PROBES, App, Message, Receive, Scope, Send
from transcription_assets.web.rate_limit import RateLimit, address_block

LEAVE_S = 50
"""Seconds that requests in progress may take after SIGTERM; Kubernetes kills a pod after 60."""
DISK_PER_S = 2 * 2 * 2 * SAMPLE_RATE
"""Bytes of local disk for a second of a recording beside its upload: decoded and as FLAC, two channels of 16 bits."""
KEEP_ALIVE_S = 15.0
"""Seconds without an event after which a stream gets a comment: proxies close quiet connections."""
GUESSES_PER_MINUTE = 60
OPEN = PROBES | {"/health"}
"""Paths that need no token."""

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def build(service: TranscriptionService, access: Access) -> "ServiceGuard":
    """Return the application."""
    created = int(time.time())

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    async def transcriptions(request: Request) -> Response:
        return await _answer(service, request, "transcribe")

    async def translations(request: Request) -> Response:
        return await _answer(service, request, "translate")

    async def models(_request: Request) -> Response:
        listed = [_model(name, created) for name in service.models]
        return JSONResponse({"object": "list", "data": listed})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in service.models:
            raise ApiError(404, f"the model {name!r} does not exist", param="model", code="model_not_found")
        return JSONResponse(_model(name, created))

    async def health(_request: Request) -> Response:
        problem = service.problem
        return JSONResponse({"status": problem or "ok"}, 503 if problem else 200)

    async def metrics(_request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def probe(_request: Request) -> Response:
        problem = service.problem
        return PlainTextResponse(f"{problem or 'ok'}\n", 503 if problem else 200)

    routes = [
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        Route("/v1/audio/translations", translations, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/health", health),
        *(Route(path, probe) for path in sorted(PROBES)),
        Route("/metrics", metrics),
    ]
    handlers = {ApiError: problems.answered, HTTPException: problems.answered, Exception: problems.broken}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return ServiceGuard(app, access, service)


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "transcription_assets"}


async def _answer(service: TranscriptionService, request: Request, task: Task) -> Response:
    """Return the response to a request for a transcription."""
    async with AsyncExitStack() as stack:
        until = asyncio.get_running_loop().time() + service.limits.timeout_s
        try:
            stack.enter_context(service.admitted())
            async with asyncio.timeout_at(until):
                upload = await service.receive(request, task, stack)
                accepted = await _unless_gone(request, service.prepare(upload, until))
                if upload.asked.stream:
                    return EventStream(service, accepted, until, stack.pop_all())
                transcript = await _unless_gone(request, service.transcript(accepted))
        except ClientDisconnect:
            return Response(status_code=HANG_UP)
        except ApiError as error:
            await uploads.drain(request)
            return error.response()
        except TimeoutError:
            return _too_slow(service).response()
    asked = upload.asked
    return Response(responses.body(transcript, asked, task), media_type=responses.MEDIA_TYPES[asked.response_format])


def _too_slow(service: TranscriptionService) -> ApiError:
    return ApiError(504, f"no transcript within {service.limits.timeout_s:g} s", code="timeout")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of `work`, which is cancelled if the client hangs up; the body must have been read.

    Raises:
        ClientDisconnect: the client hung up.
        Exception: any exception of `work`.

    """
    async with _tasks(work, _hang_up(request.receive)) as (working, gone):
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return cast("Result", working.result())


@asynccontextmanager
async def _tasks(*works: Coroutine[Any, Any, Any]) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    """Run coroutines as tasks, and cancel those that are not done at the end of the block."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    """Wait until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A response of server-sent events; `stack` holds what the request occupies, until the end of the stream.

    The status is that of the first event, or 200 after KEEP_ALIVE_S; a later failure is an event with the error.
    """

    media_type = "text/event-stream"

    def __init__(self, service: TranscriptionService, accepted: Accepted, until: float, stack: AsyncExitStack) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._service, self._accepted, self._until, self._stack = service, accepted, until, stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, and stop if the client hangs up."""
        async with self._stack, _tasks(self._send(scope, receive, send), _hang_up(receive)) as (sending, gone):
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        async with aclosing(self._service.events(self._accepted)) as events, aclosing(_kept_alive(events)) as sent:
            try:
                async with asyncio.timeout_at(self._until):
                    async for event in sent:
                        if not begun:
                            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                            begun = True
                        await send({"type": "http.response.body", "body": event, "more_body": True})
            except (ApiError, TimeoutError) as error:
                failed = error if isinstance(error, ApiError) else _too_slow(self._service)
                if not begun:
                    await failed.response()(scope, receive, send)
                    return
                await send({"type": "http.response.body", "body": responses.event(failed.document), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _kept_alive(events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the events, and a comment after each KEEP_ALIVE_S without one."""
    following = asyncio.ensure_future(anext(events))
    try:
        while True:
            await asyncio.wait({following}, timeout=KEEP_ALIVE_S)
            if not following.done():
                yield b": waiting\n\n"
                continue
            try:
                event = following.result()
            except StopAsyncIteration:
                return
            yield event
            following = asyncio.ensure_future(anext(events))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@dataclass
class ServiceGuard:
    """Middleware that checks host, origin and token of every request, and measures the responses."""

    app: App
    access: Access
    service: TranscriptionService
    _guesses: RateLimit = field(default_factory=lambda: RateLimit(GUESSES_PER_MINUTE, time.monotonic))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request, or pass it to the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), HANG_UP

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(raw=message["headers"]).setdefault("x-content-type-options", "nosniff")
            await send(message)

        request = Request(scope, receive)
        refused = self._refusal(request)
        try:
            if refused is not None:
                await uploads.drain(request)
                await refused.response()(scope, receive, sent)
            else:
                await self.app(scope, receive, sent)
        finally:
            if scope["path"] not in OPEN:
                self.service.metrics.answered(status, time.perf_counter() - started)

    def _refusal(self, request: Request) -> ApiError | None:
        """Return the error that rejects the request, None if it is allowed."""
        if request.url.path in OPEN:
            return None
        if not self.access.is_own_name(request.headers.get("host", "")):
            return ApiError(400, "this host name is not allowed", code="invalid_host")
        if not is_same_origin(request.headers):
            return ApiError(403, "a page of another site sent this request", code="forbidden")
        address = address_block(request.client.host if request.client else "")
        offered = self.access.offers_token(request.headers)
        # Checked before the token is compared: after too many guesses the answer reveals nothing about a token.
        if offered and self._guesses.wait(address):
            return problems.too_busy("too many requests with a wrong key; try again later")
        if self.access.offers_wrong_token(request.headers):
            self._guesses.take(address)
        if not self.access.may_read(request.headers):
            return ApiError(
                401,
                "incorrect or missing API key; send the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return None


def run(
    chosen: Settings,
    engine: Engine,
    decoder: MediaDecoder,
    host: str,
    port: int,
    *,
    verbose: bool,
    listening: Callable[[str], None],
) -> None:
    """Load the engine, and serve until Ctrl-C or SIGTERM; requests in progress are finished within LEAVE_S.

    Once the server accepts connections, `listening` is called with its URL, and a warning if it is open to a network.

    A recording that is still extracted or decoded then ends with the process, within some seconds.

    Raises:
        TranscriptionError: the engine cannot be loaded, or the address is in use or not of this machine.

    """
    engine.load()
    bound = web_server.listener(host, port)
    access = Access(token=chosen.asr_token.get_secret_value(), listens_on=host)
    name, number, *_ = bound.getsockname()
    address = f"http://{bracketed(name)}:{number}/v1"
    if access.is_open and not access.is_local:
        address += " (without authentication: set TRANSCRIPTION_ASR_TOKEN)"
    limits = Limits(chosen.asr_requests, int(chosen.asr_max_mb * 1e6), chosen.asr_timeout_s)
    most_disk = int(DISK_PER_S * chosen.asr_longest_s)
    bounded = replace(decoder, longest_s=chosen.asr_longest_s, most_disk=most_disk)
    service = TranscriptionService(engine, bounded, limits)
    config = web_server.configured(build(service, access), chosen.proxies, verbose=verbose)
    config.timeout_graceful_shutdown = LEAVE_S
    web_server.allow_descriptors()
    signal.signal(signal.SIGTERM, _exit)  # uvicorn raises the signal again once it has ended
    try:
        with suppress(KeyboardInterrupt):
            web_server.ListeningServer(config, lambda: listening(address)).run([bound])
    finally:
        if not service.has_ended:  # the interpreter would wait for its threads: for minutes, if the engine is slow
            log.warning("ended in the middle of a recording")
            temporary.end()
            os._exit(0)


def _exit(*_: object) -> None:
    sys.exit(0)
