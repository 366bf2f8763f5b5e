"""Routes for browsers: one page that is filled by its scripts, its static files, and the sign-in form."""

import asyncio
import gzip
import hashlib
import html
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from string import Template
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from transcription_assets.errors import NotFound, TranscriptionError
from transcription_assets.web import recordings
from transcription_assets.web.access import COOKIE, Access, cookie_of
from transcription_assets.web.archive import Archive
from transcription_assets.web.middleware import SIGN_IN
from transcription_assets.web.thread_pool import ThreadPool

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Media types of the files in `static/` that are served; the others are templates."""
LATER = frozenset({"ask.js", "transfer.js", "upload.js"})
"""Modules that are loaded when they are needed: answers, and uploads by those who may upload."""
SIGNED_IN_S = 30 * 24 * 3600
LONGEST_FORM = 4096
FORM_S = 10.0
LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True)
class Static:
    """A static file, plain and gzipped; `digest` is its ETag."""

    data: bytes
    packed: bytes
    digest: str
    media_type: str


def router(archive: Archive, workers: ThreadPool, access: Access) -> APIRouter:
    """Return the routes for browsers.

    Raises:
        NotFound: raised by the route for static files if there is no such file.

    """
    routes = APIRouter(include_in_schema=False)
    statics = _statics()
    shell = Template(_read("page.html").decode())
    preload = _preload(statics)
    offers = " data-ask" if archive.settings.ask_url else ""

    async def opened(title: str, status: int = 200) -> Response:
        with suppress(TranscriptionError):  # the page reports errors of the store itself
            await workers.run(archive.find_media_origin)
        return HTMLResponse(shell.substitute(title=html.escape(title), preload=preload, offers=offers), status)

    @routes.get("/")
    async def search() -> Response:
        return await opened("Search")

    @routes.get("/library")
    async def library() -> Response:
        return await opened("Library")

    @routes.get("/watch/{key:path}")
    async def watch(key: str) -> Response:
        title = recordings.title(key)[:LONGEST_TITLE]
        try:
            await workers.run(archive.media, key)
        except NotFound:
            return await opened(title, 404)
        except TranscriptionError:
            return await opened(title, 503)
        return await opened(title)

    _add_static(routes, statics)
    _add_sign_in(routes, access)
    for route in routes.routes:
        if isinstance(route, APIRoute) and route.methods and "GET" in route.methods:
            route.methods.add("HEAD")  # link checkers and previews use it; the server omits the body
    return routes


def _statics() -> dict[str, Static]:
    folder = files("transcription_assets.web") / "static"
    return {item.name: _static(item.name) for item in folder.iterdir() if _suffix(item.name) in TYPES}


def _preload(statics: Mapping[str, Static]) -> str:
    """Return links that load all modules of the first view at once: a browser would discover them one by one."""
    modules = sorted(name for name in statics if _suffix(name) == ".js" and name not in LATER)
    return "\n".join(f'<link rel="modulepreload" href="/static/{name}">' for name in modules)


def _add_static(routes: APIRouter, statics: Mapping[str, Static]) -> None:
    @routes.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        found = statics.get(name)
        if found is None:
            raise NotFound(f"{name}: no such file")
        headers = {"etag": f'"{found.digest}"', "vary": "accept-encoding"}
        if found.digest in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(found.packed, headers=headers | {"content-encoding": "gzip"}, media_type=found.media_type)
        return Response(found.data, headers=headers, media_type=found.media_type)

    @routes.get("/favicon.ico")
    async def icon() -> Response:
        return RedirectResponse("/static/icon.svg", 308)


def _add_sign_in(routes: APIRouter, access: Access) -> None:
    form = Template(_read("sign-in.html").decode())

    def target(to: str, *, again: bool) -> Response:
        page = form.substitute(next=html.escape(safe_path(to)), hidden="" if again else "hidden")
        return HTMLResponse(page, 401 if again else 200)

    @routes.get(SIGN_IN)
    async def ask(to: Annotated[str, Query(alias="next")] = "/") -> Response:
        return target(to, again=False) if access.has_sign_in else RedirectResponse("/", 303)

    @routes.post(SIGN_IN)
    async def sign_in(request: Request) -> Response:
        fields = parse_qs((await _body(request)).decode(errors="replace"))
        token, to = (fields.get(name, [""])[0] for name in ("token", "next"))
        if not access.opens(token):
            return target(to, again=True)
        answer = RedirectResponse(safe_path(to), 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie_of(token), SIGNED_IN_S, secure=secure, httponly=True, samesite="lax")
        return answer


def safe_path(target: str) -> str:
    """Return the path to redirect to after signing in; "/" if `asked` could lead to another site."""
    is_safe = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if is_safe else "/"


async def _body(request: Request) -> bytes:
    """Return the body; empty if it exceeds LONGEST_FORM bytes or does not arrive within FORM_S seconds."""
    body = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(FORM_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LONGEST_FORM:
                    break
            else:
                return body
    return b""


def _static(name: str) -> Static:
    data = _read(name)
    return Static(data, gzip.compress(data, 9, mtime=0), hashlib.sha256(data).hexdigest()[:16], TYPES[_suffix(name)])


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix


def _read(name: str) -> bytes:
    return (files("transcription_assets.web") / "static" / name).read_bytes()
