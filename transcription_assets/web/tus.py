"""Headers of the tus protocol 1.0.0 for resumable uploads (https://tus.io/protocols/resumable-upload). Pure."""

import base64
import binascii
import re
from collections.abc import Mapping
from email.utils import formatdate

from transcription_assets.sources.spool import Checksum

VERSION = "1.0.0"
EXTENSIONS = ("creation", "creation-with-upload", "termination", "checksum", "expiration")
CONTENT_TYPE = "application/offset+octet-stream"
LONGEST_VALUE = 4096
WRONG_VERSION = 412
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class InvalidHeader(Exception):
    """A header is missing or malformed; `status` is that of the response."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def require_version(headers: Mapping[str, str]) -> None:
    """Check the version of the protocol.

    Raises:
        InvalidHeader: it is missing or another one.

    """
    if headers.get("tus-resumable") != VERSION:
        raise InvalidHeader(f"Tus-Resumable: {VERSION} is required.", WRONG_VERSION)


def number(headers: Mapping[str, str], name: str) -> int:
    """Return the number of a header.

    Raises:
        InvalidHeader: it is missing or not a number of bytes.

    """
    if not _NUMBER.fullmatch(headers.get(name.lower(), "")):
        raise InvalidHeader(f"{name} is required: a number of bytes.")
    return int(headers[name.lower()])


def metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `Upload-Metadata`: pairs of a name and a value in base64; bytes that are not UTF-8 are replaced.

    Raises:
        InvalidHeader: a value is not base64, or too long.

    """
    found = {}
    for pair in headers.get("upload-metadata", "").split(","):
        name, _, value = pair.strip().partition(" ")
        if not name:
            continue
        try:
            data = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidHeader("Upload-Metadata: the values have to be base64.") from None
        if len(data) > LONGEST_VALUE:
            raise InvalidHeader(f"Upload-Metadata: a value is longer than {LONGEST_VALUE} bytes.")
        found[name.lower()] = data.decode(errors="replace")
    return found


def checksum(headers: Mapping[str, str]) -> Checksum | None:
    """Return the checksum of the bytes of a request, None if none was sent.

    Raises:
        InvalidHeader: the algorithm is not supported, or the value is not base64.

    """
    sent = headers.get("upload-checksum", "")
    if not sent:
        return None
    algorithm, _, value = sent.partition(" ")
    if algorithm not in Checksum.ALGORITHMS:
        raise InvalidHeader(f"Upload-Checksum: use {' or '.join(Checksum.ALGORITHMS)}.")
    try:
        return Checksum(algorithm, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidHeader("Upload-Checksum: the value has to be base64.") from None


def date(seconds: float) -> str:
    """Return a Unix time for `Upload-Expires`."""
    return formatdate(seconds, usegmt=True)
