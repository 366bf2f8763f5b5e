"""What obstore, boto3 and the system raise, as the failures of this library."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError

from transcription_assets.failures import NotFound, PermanentFailure, TranscriptionError, TransientFailure

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_ILLEGAL = {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOTDIR}
_HOPEFUL_STATUS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_HOPEFUL_CODES = ("RequestTimeout", "ExpiredToken", "SlowDown")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what obstore and the system raise into the failures of this library, naming what it was about."""
    try:
        yield
    except (OSError, ValueError, BaseError) as error:
        raise _failure(error, what) from error


def _failure(error: Exception, what: str) -> TranscriptionError:
    said = first_line(error)
    number = _errno(error)
    found = re.search(r"status code: (\d{3})", str(error))
    if "<Code>NoSuchBucket</Code>" in str(error):
        return PermanentFailure(f"{what}: there is no such bucket; make it first")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{what}: not found")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or "(code: AccessDenied)" in said:
        return by_status(HTTPStatus.FORBIDDEN, said, what)
    if number is not None:
        return _by_errno(number, said, what)
    if found is not None:
        return by_status(int(found[1]), str(error).partition("\n\nDebug source")[0], what)
    hopeless = isinstance(error, ValueError | InvalidPathError)
    return (PermanentFailure if hopeless else TransientFailure)(f"{what}: {said}")


def _by_errno(number: int, said: str, what: str) -> TranscriptionError:
    """The failure that a system error stands for."""
    if number in _REFUSED:
        return PermanentFailure(f"{what}: access refused; correct the permissions ({said})")
    if number == errno.ENAMETOOLONG:
        return PermanentFailure(f"{what}: the file system cannot hold so long a name; shorten the name")
    if number in _FULL:
        return TransientFailure(f"{what}: no space left; make room ({said})")
    return (PermanentFailure if number in _ILLEGAL else TransientFailure)(f"{what}: {said}")


def by_status(status: int, said: str, what: str) -> TranscriptionError:
    """The failure that an HTTP status stands for."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{what}: not found")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return PermanentFailure(f"{what}: access refused; grant it, or correct the credentials ({said})")
    hopeful = status in _HOPEFUL_STATUS or any(code in said for code in _HOPEFUL_CODES)
    hopeful = hopeful or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return (TransientFailure if hopeful else PermanentFailure)(f"{what}: {said}")


def status(error: Any) -> int:
    """The HTTP status of botocore's ClientError."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _errno(error: Exception) -> int | None:
    """The system's error number; obstore gives it in the text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    number = re.search(r"\(os error (\d+)\)", str(error))
    return int(number[1]) if number else None


def first_line(error: Exception) -> str:
    """What an error says, without the dump that obstore puts after it."""
    return str(error).partition("\n")[0]
