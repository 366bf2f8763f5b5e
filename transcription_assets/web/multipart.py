"""The file in a `multipart/form-data` body, block by block, parsed by python-multipart."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

MOST_HEADER_BYTES = 8192
MOST_OTHER_BYTES = 65_536
"""Bytes of a form before its file: other fields, which are ignored."""


class InvalidForm(Exception):
    """The body is not a form with one file."""


@dataclass
class FormFile:
    """The file of a form; `blocks` yields its content once `opened` has returned its name and type."""

    body: AsyncIterator[bytes]
    content_type: str
    filename: str = ""
    file_type: str = ""
    _headers: dict[str, str] = field(default_factory=dict)
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _waiting: bytearray = field(default_factory=bytearray)
    _skipped: int = 0
    _is_file: bool = False
    _files: int = 0
    _is_complete: bool = False

    def __post_init__(self) -> None:
        kind, options = parse_options_header(self.content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidForm("expected multipart/form-data with a boundary")
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._part_began,
                "on_header_field": lambda data, start, end: self._add(self._name, data[start:end]),
                "on_header_value": lambda data, start, end: self._add(self._value, data[start:end]),
                "on_header_end": self._header_ended,
                "on_headers_finished": self._headers_ended,
                "on_part_data": self._received,
                "on_end": self._ended,
            },
        )

    async def opened(self) -> None:
        """Read up to the headers of the file.

        Raises:
            InvalidForm: there is no file, or the form is malformed.

        """
        async for block in self.body:
            self._parse(block)
            if self._files:
                return
        raise InvalidForm("the form has no file; send it as `file`")

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the content of the file.

        Raises:
            InvalidForm: there is another file, or the form ends early.

        """
        yield self._taken()
        async for block in self.body:
            self._parse(block)
            if data := self._taken():
                yield data
        if not self._is_complete:
            raise InvalidForm("the form is incomplete")

    def _parse(self, block: bytes) -> None:
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise InvalidForm(f"the form is malformed: {error}") from None

    def _taken(self) -> bytes:
        data = bytes(self._waiting)
        self._waiting.clear()
        return data

    def _add(self, buffer: bytearray, data: bytes) -> None:
        buffer += data
        if len(self._name) + len(self._value) > MOST_HEADER_BYTES:
            raise InvalidForm("a header of the form is too long")

    def _part_began(self) -> None:
        self._headers.clear()
        self._is_file = False

    def _header_ended(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode(errors="replace")
        self._name.clear()
        self._value.clear()

    def _headers_ended(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", "").encode())
        filename = options.get(b"filename")
        if filename is None:
            return
        self._files += 1
        if self._files > 1:
            raise InvalidForm("one request takes one file")
        self._is_file = True
        self.filename = filename.decode(errors="replace")
        self.file_type = self._headers.get("content-type", "")

    def _received(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._waiting += data[start:end]
            return
        self._skipped += end - start
        if self._skipped > MOST_OTHER_BYTES:
            raise InvalidForm("the other fields of the form are too long")

    def _ended(self) -> None:
        self._is_complete = True
