"""What browsers open: one page that its script fills, its static files, and the form for the token."""

import gzip
import hashlib
import html
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from transcription_assets.app.serve import naming
from transcription_assets.app.serve.access import COOKIE, Access
from transcription_assets.app.serve.archive import Archive
from transcription_assets.app.serve.guard import SIGN_IN
from transcription_assets.app.serve.workers import Workers
from transcription_assets.failures import NotFound, TranscriptionError

TYPES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SIGNED_IN_S = 30 * 24 * 3600
LONGEST_FORM = 4096


@dataclass(frozen=True, slots=True)
class Static:
    """A file of the page, as it is and packed; its digest tells a browser whether it has it already."""

    data: bytes
    packed: bytes
    digest: str
    media_type: str


def router(archive: Archive, workers: Workers, access: Access) -> APIRouter:
    """The routes for people."""
    routes = APIRouter(include_in_schema=False)
    statics = {name: _static(name) for name in TYPES}
    shell = Template(_read("page.html").decode())
    form = Template(_read("sign-in.html").decode())

    @routes.get("/")
    @routes.get("/library")
    async def page(request: Request) -> Response:
        with suppress(TranscriptionError):
            await workers.run(archive.find_media_origin)
        title = "Library" if request.url.path == "/library" else "Search"
        return HTMLResponse(shell.substitute(title=title))

    @routes.get("/watch/{key:path}")
    async def watch(key: str) -> Response:
        status = 200
        with suppress(TranscriptionError):
            await workers.run(archive.find_media_origin)
            try:
                await workers.run(archive.media, key)
            except NotFound:
                status = 404
        return HTMLResponse(shell.substitute(title=html.escape(naming.title(key)[:200])), status)

    @routes.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        found = statics.get(name)
        if found is None:
            raise NotFound(f"{name}: there is no such file")
        headers = {"etag": f'"{found.digest}"', "vary": "accept-encoding"}
        if found.digest in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(found.packed, headers=headers | {"content-encoding": "gzip"}, media_type=found.media_type)
        return Response(found.data, headers=headers, media_type=found.media_type)

    @routes.get("/favicon.ico")
    async def icon() -> Response:
        return RedirectResponse("/static/icon.svg", 308)

    @routes.get(SIGN_IN)
    async def ask(next: str = "/") -> Response:  # noqa: A002 -- the name in the address
        if not access.token:
            return RedirectResponse("/", 303)
        return HTMLResponse(form.substitute(next=html.escape(own_path(next)), wrong="hidden"))

    @routes.post(SIGN_IN)
    async def sign_in(request: Request) -> Response:
        fields = parse_qs((await _body(request)).decode(errors="replace"))
        token, to = (fields.get(name, [""])[0] for name in ("token", "next"))
        if not access.opens(token):
            return HTMLResponse(form.substitute(next=html.escape(own_path(to)), wrong=""), 401)
        answer = RedirectResponse(own_path(to), 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, access.cookie, SIGNED_IN_S, secure=secure, httponly=True, samesite="lax")
        return answer

    return routes


def own_path(asked: str) -> str:
    """Where to go on after signing in: never to another site."""
    is_own = asked.startswith("/") and not asked.startswith("//") and "\\" not in asked and asked.isprintable()
    return asked if is_own else "/"


async def _body(request: Request) -> bytes:
    """What was sent, as far as a form for a token can go."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return b""
    return body


def _static(name: str) -> Static:
    data = _read(name)
    return Static(data, gzip.compress(data, 9, mtime=0), hashlib.sha256(data).hexdigest()[:16], TYPES[name])


def _read(name: str) -> bytes:
    return (files("transcription_assets.app.serve") / "static" / name).read_bytes()
