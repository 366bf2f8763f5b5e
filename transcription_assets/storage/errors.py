"""Translation of the errors of obstore, botocore, LanceDB and the operating system into failures of this library.

Only this module parses their texts. A store's response can quote the request with its token and signature, and obstore
appends a dump of its internals, so messages repeat only the status, the code and the message.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from transcription_assets.errors import (
    NotFound,
    Occupied,
    PermanentFailure,
    Refused,
    StoreAway,
    StoreFull,
    TranscriptionError,
    TransientFailure,
)

LONGEST = 400
"""Maximum number of characters quoted from an error."""
LONGEST_READ = 10_000
"""Maximum number of characters searched: the patterns take quadratic time, and a name may be part of the text."""

_Kind = type[TranscriptionError]
_FREE_SPACE = (StoreFull, "no space left; free some space")
_NAME_TAKEN = (Occupied, "a file and a folder have the same name there; rename one of them")
_SYSTEM: Mapping[int, tuple[_Kind, str]] = {
    errno.EACCES: (Refused, "access denied; correct the permissions"),
    errno.EPERM: (Refused, "access denied; correct the permissions"),
    errno.EROFS: (TransientFailure, "the disk is read-only; mount it writable"),
    errno.ENAMETOOLONG: (PermanentFailure, "the file name is too long; shorten it"),
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.EISDIR: _NAME_TAKEN,
    errno.ENOTDIR: _NAME_TAKEN,
} | dict.fromkeys((errno.EEXIST, errno.ELOOP, errno.ENOTEMPTY), (PermanentFailure, ""))
"""Failure type and message for each errno; the text after the semicolon is the hint."""

_UNREACHABLE = {
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_RETRYABLE_STATUS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_DOCUMENT = re.compile(r"<\?xml|<Error>")
_STATUS = re.compile(r"\bstatus(?: code)?: (?P<number>\d{3})\b(?P<phrase>(?: [A-Z][\w-]*)*)")
_CODE = re.compile(r"<Code>(.*?)</Code>")
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_HEAD_REQUEST = re.compile(r"\bHead(?:Object|Bucket)\b|\bHEAD\b")
_EXPIRED = re.compile(r"ExpiredToken|TokenRefreshRequired|RequestExpired")
_RETRYABLE_CODES = re.compile(r"RequestTimeout|SlowDown")
_UNREACHABLE_TEXT = re.compile(
    r"error sending request|(?<!retry_)time[ds]? ?out|tcp connect|client error \(connect\)|dns error|dispatch failure|"
    r"connection (?:refused|reset|closed|aborted)|could not connect",
    re.IGNORECASE,
)
_SOURCE = re.compile(r"\n\s*Debug source|,? *(?:location: Location|/\S*/\.cargo/|/\S+\.rs:\d)")
_QUERY = re.compile(r"(\w+://[^\s?\"')]*)\?[^\s\"')]*")
_SECRET = re.compile(
    r"\b(x-amz-[\w-]*|authorization|(?:security-?)?token|signature|credential|(?:aws)?_?(?:secret)?_?access_?key\w*)"
    r"(\s*[=:]\s*)(?:AWS4-\S+\s+|Bearer\s+)?[^\s,;&)]+",
    re.IGNORECASE,
)
_BOTO_MODULES = ("botocore.", "boto3.", "s3transfer.")


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Translate the errors of a store, its client or the operating system in a block.

    Raises:
        TranscriptionError: the failure of the block, see `failure`; its message names `what`.

    """
    try:
        yield
    except TranscriptionError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | ValueError | BaseError) and not _is_boto_error(error):
            raise
        raise to_failure(error, what) from None


def to_failure(error: Exception, what: str) -> TranscriptionError:
    """Return the failure for `error`; an unknown error is transient, unless it reports an invalid value."""
    failure = classify(error, what)
    if failure is not None:
        return failure
    is_permanent = isinstance(error, ValueError | InvalidPathError | NotSupportedError)
    return (PermanentFailure if is_permanent else TransientFailure)(f"{what}: {error_text(error)}")


def classify(error: Exception, what: str) -> TranscriptionError | None:
    """Return the failure if the type, the errno, the HTTP status or the text identifies it, else None."""
    text, number, status = error_text(error), error_number(error), http_status(error)
    if _is_boto_error(error):
        return _by_boto(error, text, what)
    is_refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or "AccessDenied" in text
    if is_refused and number is None:  # a refusal inside the response to a bulk deletion has no status
        status = status or HTTPStatus.FORBIDDEN
    if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text:
        return NotFound(f"{what}: not found")
    if status is not None:
        return _by_status(status, text, what)
    if number is not None:
        return _by_number(number, text, what)
    return StoreAway(f"{what}: {text}") if _UNREACHABLE_TEXT.search(text) else None


def error_text(error: Exception) -> str:
    """Return the text of an error in one line without secrets; of an XML response only its code and message."""
    text = str(error)[:LONGEST_READ]
    if document := _DOCUMENT.search(text):
        body = text[document.start() :]
        sentences = [found[1] for pattern in (_CODE, _MESSAGE) if (found := pattern.search(body))]
        if found := _STATUS.search(text):
            sentences = [f"{found['number']}{found['phrase']}", *sentences]
        text = ": ".join(sentences) or text[: document.start()]
    text = " ".join(_SOURCE.split(text, maxsplit=1)[0].split())
    text = _SECRET.sub(r"\1\2***", _QUERY.sub(r"\1", text))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def http_status(error: Exception) -> int | None:
    """Return the HTTP status in the text of an error, None if there is none."""
    found = _STATUS.search(str(error))
    return int(found["number"]) if found else None


def error_number(error: Exception) -> int | None:
    """Return the errno, which obstore and LanceDB state in their text only; None if there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    number = re.search(r"\(os error (\d+)\)", str(error))
    return int(number[1]) if number else None


def status(error: Any) -> int:
    """Return the HTTP status of botocore's ClientError."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _by_number(number: int, text: str, what: str) -> TranscriptionError:
    if number == errno.ENOENT:
        return NotFound(f"{what}: not found")
    kind, sentence = _SYSTEM.get(number, (StoreAway if number in _UNREACHABLE else TransientFailure, ""))
    return _failure(kind, sentence, text, what)


def _by_status(number: int, text: str, what: str) -> TranscriptionError:
    kind: _Kind = PermanentFailure
    sentence = ""
    if "NoSuchBucket" in text:
        sentence = "no such bucket; create it first"
    elif number == HTTPStatus.NOT_FOUND:
        return NotFound(f"{what}: not found")
    elif _EXPIRED.search(text):
        kind, sentence = TransientFailure, "the credentials have expired; renew them"
    elif number in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        kind, sentence = Refused, "access denied; grant access, or correct or renew the credentials"
    elif number == HTTPStatus.BAD_REQUEST and _HEAD_REQUEST.search(text):  # a response to HEAD has no body
        kind, sentence = Refused, "access denied without a reason; check whether the credentials have expired"
    elif number == HTTPStatus.INSUFFICIENT_STORAGE:
        kind, sentence = _FREE_SPACE
    elif number >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = StoreAway
    elif number in _RETRYABLE_STATUS or _RETRYABLE_CODES.search(text):
        kind = TransientFailure
    return _failure(kind, sentence, text, what)


def _failure(kind: _Kind, sentence: str, text: str, what: str) -> TranscriptionError:
    detail = f"{sentence} ({text})" if sentence else text
    return kind(f"{what}: {detail}", hint=sentence.partition("; ")[2])


def _by_boto(error: Exception, text: str, what: str) -> TranscriptionError:
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        return _by_status(status(error), text, what)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        hint = "configure an access key, a profile or a role"
        return PermanentFailure(f"{what}: no AWS credentials; {hint}", hint=hint)
    if isinstance(error, boto.ProfileNotFound | boto.ConfigParseError):
        return PermanentFailure(f"{what}: {text}; correct AWS_PROFILE or ~/.aws/config", hint="correct AWS_PROFILE")
    if isinstance(error, boto.ParamValidationError):
        return PermanentFailure(f"{what}: {text}")
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError):
        hint = "check that the store is running and that AWS_ENDPOINT_URL_S3 is correct"
        return StoreAway(f"{what}: {text}; {hint}", hint=hint)
    return TransientFailure(f"{what}: {text}")


def _is_boto_error(error: Exception) -> bool:
    return any(f"{kind.__module__}.".startswith(_BOTO_MODULES) for kind in type(error).__mro__)
