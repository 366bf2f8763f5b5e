"""Routes for recordings, sound and posters: byte ranges of local files, redirects to signed URLs of a bucket."""

import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path as FilePath
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from transcription_assets.domain import media_keys
from transcription_assets.slides.sampling import MOST_SLIDES
from transcription_assets.web import problems
from transcription_assets.web.api import Key
from transcription_assets.web.archive import Archive
from transcription_assets.web.thread_pool import ThreadPool

PASSIVE = {"content-security-policy": "default-src 'none'; sandbox"}
"""Headers that disable scripts: a file in an inbox can have any content, and may be opened as a page."""
CACHE_S = 300
_TYPES = {
    ".m2ts": "video/mp2t",
    ".m4a": "audio/mp4",
    ".mkv": "video/x-matroska",
    ".mts": "video/mp2t",
    ".ts": "video/mp2t",
}
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
_SLIDE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}}}
_RANGED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The recording."},
    304: {"description": "The recording has not changed."},
    206: {"content": {"application/octet-stream": {}}, "description": "The requested range."},
    307: {"description": "Redirect to a signed URL that is valid for one hour."},
    416: {"description": "The range is not satisfiable."},
}


@dataclass(frozen=True, slots=True)
class FileLocation:
    """Location of a file: a local path with its `stat` result, or a URL that is signed for one hour."""

    path: str = ""
    status: os.stat_result | None = None
    link: str = ""


def router(archive: Archive, workers: ThreadPool) -> APIRouter:
    """Return the routes for files."""
    routes = APIRouter(responses=problems.DOCUMENTED)

    @routes.head("/media/{key:path}", include_in_schema=False)
    @routes.get("/media/{key:path}", responses=_RANGED, response_class=Response)
    async def media(key: Key, request: Request) -> Response:
        """Return the recording, or redirect to a signed URL of it that is valid for one hour."""
        location = await workers.run(_recording, archive, key)
        return _answered(location, content_type(media_keys.decode(key)), request)

    @routes.head("/sound/{key:path}", include_in_schema=False)
    @routes.get("/sound/{key:path}", responses=_RANGED, response_class=Response)
    async def sound(key: Key, request: Request) -> Response:
        """Return the extracted sound as FLAC, which every browser plays, or redirect to a signed URL of it."""
        return _answered(await workers.run(_sound, archive, key), "audio/flac", request)

    @routes.get("/posters/{key:path}", responses=_PICTURE, response_class=Response)
    async def poster(key: Key) -> Response:
        """Return the poster frame of the recording (JPEG)."""
        data = await workers.run(archive.poster, key)
        headers = {"cache-control": f"private, max-age={CACHE_S}"}
        return Response(data, media_type="image/jpeg", headers=PASSIVE | headers)

    @routes.get("/slides/{key:path}/{number}.webp", responses=_SLIDE, response_class=Response)
    async def slide(key: Key, number: Annotated[int, Path(ge=1, le=MOST_SLIDES)]) -> Response:
        """Return the thumbnail of a slide of the recording (WebP)."""
        data = await workers.run(archive.slide_picture, key, number)
        headers = {"cache-control": f"private, max-age={CACHE_S}"}
        return Response(data, media_type="image/webp", headers=PASSIVE | headers)

    return routes


def content_type(name: str) -> str:
    """Return the media type: audio or video, else a binary type, so that no browser opens the file as a page."""
    suffix = PurePosixPath(name).suffix.lower()
    guessed = _TYPES.get(suffix) or mimetypes.guess_type(f"a{suffix}")[0] or ""
    return guessed if guessed.startswith(("video/", "audio/")) else "application/octet-stream"


def _recording(archive: Archive, key: str) -> FileLocation:
    archive.media(key)
    store = archive.store
    return _local_file(store.media_url(key)) if store.is_local else FileLocation(link=store.playable_url(key))


def _sound(archive: Archive, key: str) -> FileLocation:
    archive.require(key, media_keys.flac(key))
    store = archive.store
    location = store.readable_url(media_keys.flac(key))
    return _local_file(location) if store.is_local else FileLocation(link=location)


def _local_file(url: str) -> FileLocation:
    # The store has checked where links in this path lead, so the resolved path is opened.
    path = os.path.realpath(url.removeprefix("file:"))
    return FileLocation(path, FilePath(path).stat())


def _answered(location: FileLocation, media_type: str, request: Request) -> Response:
    if location.link:
        return RedirectResponse(location.link, 307, {"cache-control": "no-store"})
    response = FileResponse(location.path, headers=PASSIVE, media_type=media_type, stat_result=location.status)
    if response.headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": response.headers["etag"]})
    return response
