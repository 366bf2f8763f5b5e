"""Errors in the form of the OpenAI API: `{"error": {"message", "type", "param", "code"}}`."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from transcription_assets.errors import PermanentFailure, TransientFailure

RETRY_AFTER_S = 5
INTERNAL = "internal error; the log of the server has the details"

log = logging.getLogger(__name__)


class ApiError(Exception):
    """An error response: status, and what the client reads; `param` is the parameter at fault, `code` the reason."""

    def __init__(
        self, status: int, message: str, *, param: str = "", code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of the response."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"  # noqa: PLR2004
        kind = "rate_limit_error" if self.status == 429 else kind  # noqa: PLR2004
        facts = {"message": str(self), "type": kind, "param": self.param or None, "code": self.code or None}
        return {"error": facts}

    def response(self) -> Response:
        """Return the response."""
        return JSONResponse(self.document, self.status, headers=self.headers)


def too_busy(message: str) -> ApiError:
    """Return the error of a service that cannot take the request now."""
    return ApiError(429, message, code="too_many_requests", headers={"retry-after": str(RETRY_AFTER_S)})


def of_recording(error: BaseException, hidden: Mapping[str, str]) -> ApiError:
    """Return the error response for a recording that cannot be decoded; names in `hidden` are replaced: local paths."""
    message = str(error)
    for place, name in hidden.items():
        message = message.replace(place, name)
    if isinstance(error, TransientFailure):
        return _try_again(message)
    if isinstance(error, PermanentFailure):
        return ApiError(400, message, param="file", code="invalid_file")
    if isinstance(error, OSError):  # a full disk
        return _try_again("the server cannot store the recording now; try again later")
    return _logged(500, INTERNAL, "internal_error", error)


def of_engine(error: BaseException) -> ApiError:
    """Return the error response for a failure of the engine, which the recording did not cause.

    Reasons of permanent failures are logged and not sent: they name the operator's settings, or another service.
    """
    if isinstance(error, TransientFailure):
        return _try_again("the engine failed; try again later")
    if isinstance(error, PermanentFailure):
        message = "the engine of this server cannot be used; the log of the server has the details"
        return _logged(502, message, "engine_unavailable", error)
    return _logged(500, INTERNAL, "internal_error", error)


def _try_again(message: str) -> ApiError:
    return ApiError(503, message, code="service_unavailable", headers={"retry-after": str(RETRY_AFTER_S)})


def _logged(status: int, message: str, code: str, error: BaseException) -> ApiError:
    log.error("a recording could not be transcribed", exc_info=error)
    return ApiError(status, message, code=code)


async def answered(_request: Request, error: Exception) -> Response:
    """Answer an `ApiError`, or an HTTPException of Starlette."""
    if isinstance(error, ApiError):
        return error.response()
    status = getattr(error, "status_code", 500)
    return ApiError(status, str(getattr(error, "detail", "")) or "error", code="not_found").response()


async def broken(request: Request, error: Exception) -> Response:
    """Answer an unexpected exception without details, which are in the log."""
    log.error("%s %r", request.method, request.url.path, exc_info=error)
    return ApiError(500, INTERNAL, code="internal_error").response()
