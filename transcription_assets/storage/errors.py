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
_DOCUMENT = re.compile(r"<\?xml.*|<Error>.*", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3}[^:<]*)")
_CODE = re.compile(r"<Code>(.*?)</Code>")
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_ASKED_BY_HEAD = re.compile(r"\bHead(?:Object|Bucket)\b|\bHEAD\b")
_HOPEFUL_CODES = ("RequestTimeout", "SlowDown")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what obstore and the system raise into the failures of this library, naming what it was about."""
    try:
        yield
    except (OSError, ValueError, BaseError) as error:
        # A store's answer may quote keys, tokens and signatures: such an error is not kept as the cause.
        raise _failure(error, what) from (None if _DOCUMENT.search(str(error)) else error)


def _failure(error: Exception, what: str) -> TranscriptionError:
    said = _said(error)
    number = _errno(error)
    found = re.search(r"status code: (\d{3})", str(error))
    if "NoSuchBucket" in said:
        return PermanentFailure(f"{what}: there is no such bucket; make it first")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{what}: not found")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or "AccessDenied" in said:
        return by_status(HTTPStatus.FORBIDDEN, said, what)
    if number is not None:
        return _by_errno(number, said, what)
    if found is not None:
        return by_status(int(found[1]), said, what)
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
    if "ExpiredToken" in said:
        return TransientFailure(f"{what}: the credentials have expired; renew them ({said})")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return PermanentFailure(f"{what}: access refused; grant it, or correct or renew the credentials ({said})")
    if status == HTTPStatus.BAD_REQUEST and _ASKED_BY_HEAD.search(said):  # its answer has no room for a reason
        return PermanentFailure(f"{what}: refused without a reason; have the credentials expired? ({said})")
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


def _said(error: Exception) -> str:
    """What an error says: of a document that the store sent with it, only its code and its message."""
    text = str(error).partition("\n\nDebug source")[0]
    document = _DOCUMENT.search(text)
    if document is None:
        return first_line(error)
    sentences = [found[1] for pattern in (_STATUS, _CODE, _MESSAGE) if (found := pattern.search(text))]
    return ": ".join(sentences) or text[: document.start()]


def first_line(error: Exception) -> str:
    """What an error says, without the dump that obstore puts after it."""
    return str(error).partition("\n")[0]
