"""Error responses: every error is answered as one sentence in JSON, never as a stack trace."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from transcription_assets.domain.people import InvalidChange
from transcription_assets.errors import NotFound, TranscriptionError, TransientFailure
from transcription_assets.search.filters import InvalidQuery
from transcription_assets.web.schemas import Problem

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5

_DESCRIPTIONS = {
    400: "The request is malformed, or its host name is not allowed.",
    401: "Authentication is required.",
    403: "This needs write access, or another site sent the request.",
    404: "The recording, or the requested file of it, does not exist.",
    422: "A parameter is missing or invalid.",
    429: "Too many requests.",
    503: "The store or the search table is not available.",
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description} for status, description in _DESCRIPTIONS.items()
}


def install(app: FastAPI) -> None:
    """Register the handlers that turn exceptions, of this library and any other, into responses."""
    app.add_exception_handler(TranscriptionError, _failed)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _answered)
    app.add_exception_handler(Exception, _broken)


def answer(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a `Problem`."""
    return JSONResponse(Problem(detail=detail).model_dump(), status, headers=headers)


async def _failed(_request: Request, error: Exception) -> Response:
    if isinstance(error, NotFound):
        return answer(404, str(error))
    if isinstance(error, InvalidQuery | InvalidChange):
        return answer(422, str(error))
    log.warning("%s", error)
    headers = {"retry-after": str(RETRY_AFTER_S)} if isinstance(error, TransientFailure) else None
    return answer(503, str(error), headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- registered for this type
    detail = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
    return answer(422, detail)


async def _answered(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for this type
    return answer(error.status_code, error.detail, dict(error.headers or {}))


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %r", request.method, request.url.path, exc_info=error)
    return answer(500, "Internal error. The log of the server has the details.")
