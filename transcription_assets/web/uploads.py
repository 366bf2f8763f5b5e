"""Routes for uploads: resumable ones by the tus protocol, and whole files in one request."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from transcription_assets.domain.media_keys import SUFFIXES, encode
from transcription_assets.errors import NotFound, StoreFull, TooLarge, TranscriptionError
from transcription_assets.settings import Settings
from transcription_assets.sources import names
from transcription_assets.sources.spool import (
    EmptyFile,
    TooManyUploads,
    UnsupportedFile,
    Upload,
    UploadInUse,
    UploadRequest,
    UploadSpool,
    WrongChecksum,
    WrongOffset,
)
from transcription_assets.web import problems, recordings, tus
from transcription_assets.web.access import Access
from transcription_assets.web.multipart import FormFile, InvalidForm
from transcription_assets.web.schemas import Problem, UploadRules, UploadStatus
from transcription_assets.web.upload_receiver import Body, BodyInterrupted, UploadReceiver

log = logging.getLogger(__name__)

LAND_S = 15.0
"""Seconds for which an answer waits until a complete upload has landed; later it says that it will."""
RETRY_S = 5
LONGEST_TITLE = 300
LONGEST_FILENAME = 1000
NO_CONTENT = 204
GONE = 410
_APPENDED = ("upload-offset", "content-location")

_STATUSES: Mapping[type[TranscriptionError], int] = {
    NotFound: 404,
    WrongOffset: 409,
    TooLarge: 413,
    UnsupportedFile: 415,
    EmptyFile: 422,
    UploadInUse: 423,
    TooManyUploads: 429,
    WrongChecksum: 460,
    BodyInterrupted: 503,
    StoreFull: 507,
}
_REFUSALS = {
    411: "Content-Length is missing.",
    413: "The file is too large.",
    415: "The file is not a recording by its name and type.",
    507: "There is no room for the upload.",
}
_POSTED: dict[int | str, dict[str, Any]] = {
    201: {"model": UploadStatus, "description": "The recording is in the inbox."},
    202: {"model": UploadStatus, "description": "The recording is complete and will be in the inbox soon."},
    **{status: {"model": Problem, "description": text} for status, text in _REFUSALS.items()},
}
_BODY = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
        "required": True,
    }
}

Handler = Callable[[], Awaitable[Response]]


def router(receiver: UploadReceiver, settings: Settings, access: Access) -> APIRouter:
    """Return the routes below `/api`; the middleware refuses requests that change anything without write access."""
    routes = APIRouter(prefix="/api", responses=problems.DOCUMENTED)
    _add_whole_files(routes, receiver, access)
    _add_states(routes, receiver, settings, access)
    _add_tus(routes, receiver, settings, access)
    return routes


def _add_whole_files(routes: APIRouter, receiver: UploadReceiver, access: Access) -> None:
    @routes.post("/media", status_code=201, response_model=UploadStatus, responses=_POSTED, openapi_extra=_BODY)
    async def post(
        request: Request,
        name: Annotated[str, Query(max_length=LONGEST_FILENAME, description="Name of a file that is the body.")] = "",
        folder: Annotated[str, Query(max_length=names.LONGEST_FOLDER, description="Folder below `uploads/`.")] = "",
        title: Annotated[str, Query(max_length=LONGEST_TITLE, description="Title instead of the name.")] = "",
    ) -> Response:
        """Upload a recording in one request: a form with one file, or the file as the body with its `name`."""
        body = Body(request)

        async def posted() -> Response:
            kind = request.headers.get("content-type", "")
            length = _content_length(request)
            filename, file_type, blocks = name, kind, body.blocks()
            if kind.lower().startswith("multipart/"):
                form = FormFile(blocks, kind)
                await form.opened()
                filename, file_type, blocks = name or form.filename, form.file_type, form.blocks()
            user = access.user(request.headers)
            wanted = UploadRequest(filename, length, file_type, folder, title, user, is_resumable=False)
            return await _received_whole(receiver, wanted, blocks)

        return await _answered(posted, body)


async def _received_whole(receiver: UploadReceiver, wanted: UploadRequest, blocks: AsyncIterator[bytes]) -> Response:
    spool = receiver.spool
    upload = await receiver.run(spool.create, wanted)
    try:
        async with receiver.taken_over(upload.identifier):
            size = await receiver.receive(upload.identifier, 0, blocks)
            _require_bytes(upload, size)
            upload = await receiver.run(spool.mark, upload, "checking", length=size)
    except BaseException:
        # Nobody can continue it. The content length is that of the form, so a smaller file does not look incomplete.
        await receiver.run(spool.discard, upload.identifier)
        raise
    upload = await receiver.land(upload, LAND_S)
    if upload.state == "failed":
        return problems.answer(422, upload.reason)
    status = await receiver.run(_status, spool, upload)
    has_landed = upload.state == "landed"
    headers = {"location": status.media} if has_landed else {"location": status.url, "retry-after": str(RETRY_S)}
    return _json(status, 201 if has_landed else 202, headers)


def _require_bytes(upload: Upload, size: int) -> None:
    if not size:
        raise EmptyFile(f"{upload.filename}: the file is empty")


def _add_states(routes: APIRouter, receiver: UploadReceiver, settings: Settings, access: Access) -> None:
    @routes.get("/uploads")
    async def rules(request: Request) -> UploadRules:
        """Return whether this client may upload, and what."""
        may_upload = access.may_write(request.headers)
        return UploadRules(
            may_upload=may_upload,
            sign_in=bool(access.write_token) and not may_upload,
            max_bytes=int(settings.upload_max_gb * 1e9),
            suffixes=sorted(SUFFIXES),
        )

    @routes.get("/uploads/{identifier}")
    async def state(
        identifier: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="ID of the upload.")], request: Request
    ) -> UploadStatus:
        """Return the state of an upload; once it has landed, that of the recording is at `media`."""
        upload = await _own(receiver, access, request, identifier)
        return await receiver.run(_status, receiver.spool, upload)


def _add_tus(routes: APIRouter, receiver: UploadReceiver, settings: Settings, access: Access) -> None:
    """Add the routes of the protocol, which has a specification of its own instead of a schema."""

    @routes.options("/uploads", include_in_schema=False)
    async def options() -> Response:
        return _tus(
            204,
            {
                "tus-version": tus.VERSION,
                "tus-extension": ",".join(tus.EXTENSIONS),
                "tus-max-size": str(int(settings.upload_max_gb * 1e9)),
                "tus-checksum-algorithm": "sha1,sha256",
            },
        )

    @routes.post("/uploads", include_in_schema=False)
    async def create(request: Request) -> Response:
        body = Body(request)

        async def created() -> Response:
            tus.require_version(request.headers)
            length, known = tus.number(request.headers, "Upload-Length"), tus.metadata(request.headers)
            spool = receiver.spool
            wanted = UploadRequest(
                known.get("filename") or known.get("name", ""),
                length,
                known.get("filetype") or known.get("type", ""),
                known.get("folder", ""),
                known.get("title", "")[:LONGEST_TITLE],
                access.user(request.headers),
                metadata=request.headers.get("upload-metadata", ""),
            )
            upload = await receiver.run(spool.create, wanted)
            headers = {"location": f"/api/uploads/{upload.identifier}"}
            if request.headers.get("content-type") == tus.CONTENT_TYPE:
                try:
                    appended = await _append(receiver, upload, request, body, 0)
                except BaseException:
                    await receiver.run(spool.discard, upload.identifier)  # the client does not know its location
                    raise
                if appended.status_code != NO_CONTENT:
                    return appended
                headers |= {name: appended.headers[name] for name in _APPENDED if name in appended.headers}
            headers |= {"upload-expires": tus.date(await receiver.run(spool.expires, upload))}
            return _tus(201, headers)

        return await _answered(created, body, is_tus=True)

    @routes.head("/uploads/{identifier}", include_in_schema=False)
    async def head(identifier: str, request: Request) -> Response:
        async def found() -> Response:
            tus.require_version(request.headers)
            await _own(receiver, access, request, identifier)
            await receiver.interrupt(identifier)
            upload = await receiver.run(receiver.spool.get, identifier)
            headers = await receiver.run(_progress, receiver.spool, upload)
            if upload.metadata:
                headers["upload-metadata"] = upload.metadata
            return _tus(GONE if upload.state == "failed" else 200, headers)

        return await _answered(found, is_tus=True)

    _add_tus_changes(routes, receiver, access)


def _add_tus_changes(routes: APIRouter, receiver: UploadReceiver, access: Access) -> None:
    @routes.patch("/uploads/{identifier}", include_in_schema=False)
    async def patch(identifier: str, request: Request) -> Response:
        body = Body(request)

        async def appended() -> Response:
            tus.require_version(request.headers)
            if request.headers.get("content-type") != tus.CONTENT_TYPE:
                raise tus.InvalidHeader(f"Content-Type: {tus.CONTENT_TYPE} is required.", 415)
            offset = tus.number(request.headers, "Upload-Offset")
            upload = await _own(receiver, access, request, identifier)
            return await _append(receiver, upload, request, body, offset)

        return await _answered(appended, body, is_tus=True)

    @routes.delete("/uploads/{identifier}", include_in_schema=False)
    async def cancel(identifier: str, request: Request) -> Response:
        async def cancelled() -> Response:
            tus.require_version(request.headers)
            await _own(receiver, access, request, identifier)
            await receiver.interrupt(identifier)
            await receiver.run(receiver.spool.discard, identifier)
            return _tus(204)

        return await _answered(cancelled, is_tus=True)


async def _append(receiver: UploadReceiver, upload: Upload, request: Request, body: Body, offset: int) -> Response:
    """Append the body of a request; answer the last one when the upload has landed, or LAND_S seconds later."""
    checksum = tus.checksum(request.headers)
    spool, identifier = receiver.spool, upload.identifier
    if upload.state == "receiving":
        async with receiver.taken_over(identifier) as stop:
            received = await receiver.receive(identifier, offset, body.blocks(stop), checksum)
        upload = await receiver.run(spool.get, identifier)
    else:  # the client did not see the answer to its last request
        received = upload.length
        if offset != received:
            raise WrongOffset(f"{upload.filename}: the upload is complete")
    if received == upload.length:
        upload = await receiver.land(upload, LAND_S)
    if upload.state == "failed":
        return _tus(422, detail=upload.reason)
    headers = await receiver.run(_progress, spool, upload)
    if upload.state == "landed":
        headers["content-location"] = recordings.path("/api/media", encode(upload.name))
    return _tus(204, headers)


async def _own(receiver: UploadReceiver, access: Access, request: Request, identifier: str) -> Upload:
    """Return an upload of this client.

    Raises:
        NotFound: there is none, or it is that of another user, or the client may not upload.
        TranscriptionError: the spool cannot be read.

    """
    upload = await receiver.run(receiver.spool.get, identifier)
    if not access.may_write(request.headers) or upload.user != access.user(request.headers):
        raise NotFound("no such upload")
    return upload


async def _answered(handler: Handler, body: Body | None = None, *, is_tus: bool = False) -> Response:
    """Return the response of a handler, or that for its error, after the rest of the body was read and dropped."""
    try:
        return await handler()
    except tus.InvalidHeader as error:
        status, detail = error.status, str(error)
    except InvalidForm as error:
        status, detail = 422, f"{error}."
    except TranscriptionError as error:
        found = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 0)
        if not found:
            raise
        status, detail = found, str(error)
        log.info("upload refused (%s): %s", status, error)
    headers = {"retry-after": str(RETRY_S)} if status in {423, 429, 503} else {}
    if body and not await body.drain():
        headers["connection"] = "close"
    return _tus(status, headers, detail) if is_tus else problems.answer(status, detail, headers)


def _content_length(request: Request) -> int:
    """Return the length of a body, which the limits need before it is received.

    Raises:
        InvalidHeader: it is not stated.

    """
    try:
        return tus.number(request.headers, "Content-Length")
    except tus.InvalidHeader:
        message = "Content-Length is required. Use the tus protocol at /api/uploads for streams."
        raise tus.InvalidHeader(message, 411) from None


def _progress(spool: UploadSpool, upload: Upload) -> dict[str, str]:
    return {
        "upload-offset": str(spool.offset(upload)),
        "upload-length": str(upload.length),
        "upload-expires": tus.date(spool.expires(upload)),
        "cache-control": "no-store",
    }


def _status(spool: UploadSpool, upload: Upload) -> UploadStatus:
    key = encode(upload.name)
    return UploadStatus(
        id=upload.identifier,
        state=upload.state,
        filename=upload.filename,
        offset=spool.offset(upload),
        length=upload.length,
        reason=upload.reason,
        expires=datetime.fromtimestamp(spool.expires(upload), UTC),
        key=key,
        url=f"/api/uploads/{upload.identifier}",
        media=recordings.path("/api/media", key),
        page=recordings.watch(key),
    )


def _json(status: UploadStatus, code: int, headers: Mapping[str, str]) -> Response:
    return Response(status.model_dump_json(), code, dict(headers), "application/json")


def _tus(status: int, headers: Mapping[str, str] | None = None, detail: str = "") -> Response:
    own = {"tus-resumable": tus.VERSION} | ({"tus-version": tus.VERSION} if status == tus.WRONG_VERSION else {})
    if detail:
        return problems.answer(status, detail, own | dict(headers or {}))
    return Response(None, status, own | dict(headers or {}))
