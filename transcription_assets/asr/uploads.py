"""Reception of a form with a recording: the file goes to disk while it arrives, and everything is bounded."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from transcription_assets.asr.problems import ApiError
from transcription_assets.domain.text import printable

FIELD_BYTES = 64 << 10
"""Of all fields other than the file together."""
MOST_FIELDS = 64
OVERHEAD = 256 << 10
"""Bytes of a form beside its file: boundaries, headers and fields."""
STALL_S = 30.0
"""Seconds without data after which an upload fails."""
SLOWEST_BYTES_PER_S, GRACE_S = 4 << 10, 30.0
"""Minimum mean rate of an upload, after the first GRACE_S seconds: a slower one would occupy a place for long."""
DRAIN_BYTES, DRAIN_S = 16 << 20, 3.0
"""Bytes read of a rejected upload: a client that cannot send it all sees a broken connection, not the reason."""
LONGEST_NAME = 100


@dataclass(slots=True)
class Form:
    """A received form; `filename` is the client's name of the file, for messages, and `size` in bytes."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    filename: str = ""
    size: int = 0


async def receive(request: Request, target: Path, most_bytes: int) -> Form:
    """Write the file of a form to `target`, and return the rest of the form.

    Raises:
        ApiError: it is no form, has no file, is too large or stalls; the disk is full.
        ClientDisconnect: the client hung up.

    """
    boundary = _boundary(request.headers)
    if _stated_size(request.headers) > most_bytes + OVERHEAD:
        raise too_large(most_bytes)
    try:
        with target.open("wb") as file:
            reader = _Reader(file, most_bytes)
            parser = MultipartParser(boundary, reader.callbacks)  # type: ignore[arg-type]
            async for data in _blocks(request):
                reader.received += len(data)
                if reader.received > most_bytes + OVERHEAD:
                    raise too_large(most_bytes)
                parser.write(data)
            parser.finalize()
    except FormParserError as error:
        raise ApiError(400, f"the form is malformed: {error}", code="invalid_form") from error
    except OSError as error:  # also at the end of the block, which writes what is buffered
        raise ApiError(503, "the server cannot store the upload now; try again later") from error
    if not reader.ended:
        raise ApiError(400, "the form is incomplete", code="invalid_form")
    if not reader.has_file:
        raise ApiError(400, "a file is required", param="file", code="missing_file")
    if not reader.form.size:
        raise ApiError(400, f"{reader.form.filename}: the file is empty", param="file", code="invalid_file")
    return reader.form


async def drain(request: Request) -> None:
    """Read the rest of a short body, so that the client reads the response."""
    if _stated_size(request.headers) > DRAIN_BYTES:
        return
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout(DRAIN_S):
            async for data in request.stream():
                left -= len(data)
                if left < 0:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: the body was read before
        return


def too_large(most_bytes: int) -> ApiError:
    """Return the error of a file that is larger than allowed."""
    message = f"the file is larger than {most_bytes / 1e6:g} MB, the limit of this server"
    return ApiError(413, message, param="file", code="file_too_large")


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    blocks = aiter(request.stream())
    started, received = time.monotonic(), 0
    while True:
        try:
            data = await asyncio.wait_for(anext(blocks), STALL_S)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(408, f"no data arrived for {STALL_S:g} s", code="timeout") from None
        received += len(data)
        if received < SLOWEST_BYTES_PER_S * (time.monotonic() - started - GRACE_S):
            raise ApiError(408, f"the upload is slower than {SLOWEST_BYTES_PER_S >> 10} kB/s", code="timeout")
        yield data


def _boundary(headers: Headers) -> bytes:
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiError(400, "expected a form (multipart/form-data) with a file", code="invalid_form")
    return boundary


def _stated_size(headers: Headers) -> int:
    stated = headers.get("content-length", "")
    return int(stated) if stated.isdecimal() and len(stated) < 20 else (1 << 62 if stated else 0)  # noqa: PLR2004


class _Reader:
    """Callbacks of the parser: the part `file` is written, the others are kept in memory."""

    def __init__(self, file: IO[bytes], most_bytes: int) -> None:
        self.form = Form()
        self.received = 0
        self.has_file = False
        self.ended = False
        self._file = file
        self._most_bytes = most_bytes
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._name = ""
        self._is_file = False
        self._value = bytearray()
        self._kept = 0
        self._parts = 0

    @property
    def callbacks(self) -> Mapping[str, Any]:
        """The callbacks by the names of the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_begin": lambda: self._headers.append((bytearray(), bytearray())),
            "on_header_field": lambda data, start, end: self._keep(self._headers[-1][0], data[start:end]),
            "on_header_value": lambda data, start, end: self._keep(self._headers[-1][1], data[start:end]),
            "on_headers_finished": self._named,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_FIELDS:
            raise ApiError(400, f"the form has more than {MOST_FIELDS} fields", code="invalid_form")
        self._headers, self._value = [], bytearray()

    def _keep(self, buffer: bytearray, data: bytes) -> None:
        self._kept += len(data)
        if self._kept > FIELD_BYTES:
            raise ApiError(413, f"the fields of the form exceed {FIELD_BYTES >> 10} kB", code="invalid_form")
        buffer += data

    def _named(self) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in self._headers}
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = self._name == "file"
        if self._is_file and self.has_file:
            raise ApiError(400, "only one file is allowed", param="file", code="invalid_form")
        if self._is_file:
            self.has_file = True
            name = printable(options.get(b"filename", b"").decode(errors="replace"))
            self.form.filename = name.replace("\\", "/").rpartition("/")[2][:LONGEST_NAME] or "file"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._keep(self._value, data[start:end])
            return
        self.form.size += end - start
        if self.form.size > self._most_bytes:
            raise too_large(self._most_bytes)
        self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if not self._is_file:
            self.form.fields.setdefault(self._name, []).append(self._value.decode(errors="replace"))

    def _finish(self) -> None:
        self.ended = True
