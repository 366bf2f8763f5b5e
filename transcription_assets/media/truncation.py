"""Detection of truncated files, for example after an interrupted copy, by the end that the container states.

Only for containers whose truncation ffmpeg does not report: WAV, Wave64, AVI, CAF, ASF, Ogg and MPEG-TS. FLAC,
Matroska, MP4, FLV and MP3 with a Xing header state their duration, which `extraction` compares. In raw frames (ADTS,
AC-3, AMR, MP3 without a header) and MPEG program streams, truncation cannot be detected.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""Function of `offset` and `length` that returns that part of the file, shorter only at the end of the file."""

HEAD_BYTES = 4 << 10
TAIL_BYTES = 66 << 10  # an Ogg page has at most 65 307 bytes

_MOST_CHUNKS = 64
_PLACEHOLDERS_32 = (range(1), range(0x7FFFF000, 0x80000100), range(0xFFFFFF00, 1 << 32))
"""Sizes written by recorders that could not seek back to fill in the real one (a pipe, a crash)."""
_LARGEST_64 = 1 << 62
_TOLERANCE = 16  # bytes; some writers count a header or a padding byte that the file does not have

_RIFF_64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_SIZE, _ASF_FLAGS, _ASF_END = 40, 88, 92  # offsets in the file properties object
_BROADCAST = 1
_EBML = bytes.fromhex("1a45dfa3")
_SEGMENT = bytes.fromhex("18538067")
_OGG_HEADER = 27
_LAST_PAGE = 4
_TS_PACKETS = (188, 192, 204)


@dataclass(frozen=True, slots=True)
class Truncation:
    """Sign of a truncated file; not `certain` if a recording that was not stopped properly looks the same."""

    reason: str
    certain: bool = True


def find_truncation(read: Read, size: int) -> Truncation | None:
    """Return why a file of `size` bytes seems to be truncated, None if it does not.

    Reads some kilobytes at its beginning and its end.

    Raises:
        Exception: any exception of `read`.

    """
    head = read(0, min(HEAD_BYTES, size))

    def part(offset: int, length: int) -> bytes:
        inside = offset + length <= len(head)
        return head[offset : offset + length] if inside else read(offset, length)

    if head.startswith(b"OggS"):
        return _ogg(part(max(size - TAIL_BYTES, 0), min(TAIL_BYTES, size)))
    stated = _stated_size(head, part, size)
    if stated is not None:
        is_short = stated > size + _TOLERANCE
        # Editors of tags may shorten the header of an ASF file without correcting the size that it states.
        certain = not head.startswith(_ASF_HEADER)
        return Truncation(f"the file states {stated} bytes, and has {size}", certain=certain) if is_short else None
    packet = _ts_packet(head)
    return _ts(head, packet, size) if packet else None


def is_complete(read: Read, size: int) -> bool:
    """Return whether an MP4, MOV or Matroska file of `size` bytes states where it ends, and reaches that.

    Then sound that is shorter than the file is no loss. False for files written in fragments, of which some may lack.

    Raises:
        Exception: any exception of `read`.

    """
    head = read(0, min(HEAD_BYTES, size))
    if head[4:8] == b"ftyp":
        return _mp4_is_complete(read, size)
    if head.startswith(_EBML):
        return _matroska_is_complete(head, size)
    return False


def _mp4_is_complete(read: Read, size: int) -> bool:
    offset, names = 0, set[bytes]()
    for _ in range(_MOST_CHUNKS):
        header = read(offset, min(16, size - offset))
        length, name = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16])
        if length < 8 or offset + length > size or name == b"moof":  # noqa: PLR2004 -- the length of a header
            return False
        names.add(name)
        offset += length
        if offset == size:
            return {b"moov", b"mdat"} <= names
    return False


def _matroska_is_complete(head: bytes, size: int) -> bool:
    number, width = _ebml_number(head, len(_EBML))
    start = len(_EBML) + width + number
    if number < 0 or head[start : start + len(_SEGMENT)] != _SEGMENT:
        return False
    number, width = _ebml_number(head, start + len(_SEGMENT))
    return number >= 0 and start + len(_SEGMENT) + width + number <= size


def _ebml_number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of EBML and its length in bytes; -1 if it is unknown or not there."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    if not first or at + width > len(data):
        return -1, 1
    value = int.from_bytes(data[at : at + width]) & ((1 << 7 * width) - 1)
    return (-1 if value == (1 << 7 * width) - 1 else value), width


def _stated_size(head: bytes, read: Read, size: int) -> int | None:
    """Return the stated end of the audio data, in bytes from the beginning; None if the container states none."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_end(read, size)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _avi_end(head, read, size)
    if head[:4] == b"caff":
        return _caf_end(read, size)
    if head.startswith(_RIFF_64):
        return _filled(_little(head[16:24]))
    if head.startswith(_ASF_HEADER):
        return _asf_end(head)
    return None


def _wav_end(read: Read, size: int) -> int | None:
    """Return the end of the chunk of samples; later chunks are not audio."""
    for name, start, length in _chunks(read, 12, size, "<4s", padded=True):
        if name == b"data":
            return None if _is_placeholder(length) else start + length
    return None


def _caf_end(read: Read, size: int) -> int | None:
    for name, start, length in _chunks(read, 8, size, ">8s", padded=False):
        if name == b"data":
            return start + length if 0 < length < _LARGEST_64 else None
    return None


def _chunks(read: Read, offset: int, size: int, kind: str, *, padded: bool) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, content offset and stated length of each chunk; `kind` is the byte order and width of the length."""
    width = int(kind[1])
    for _ in range(_MOST_CHUNKS):
        if offset + 4 + width > size:
            return
        header = read(offset, 4 + width)
        length = int.from_bytes(header[4:], "little" if kind[0] == "<" else "big")
        yield header[:4], offset + 4 + width, length
        offset += 4 + width + length + (length % 2 if padded else 0)


def _avi_end(head: bytes, read: Read, size: int) -> int | None:
    """Return the end of the last RIFF segment: a file above 1 GB has several."""
    start, header = 0, head[:12]
    for _ in range(_MOST_CHUNKS):
        length = _little(header[4:8])
        if _is_placeholder(length):
            return None
        end = start + 8 + length
        if end + 12 > size:
            return end
        start = end + length % 2
        header = read(start, 12)
        if header[:4] != b"RIFF" or header[8:12] != b"AVIX":
            return end
    return None


def _asf_end(head: bytes) -> int | None:
    at = head.find(_ASF_FILE)
    properties = head[at : at + _ASF_END] if at >= 0 else b""
    if len(properties) < _ASF_END or _little(properties[_ASF_FLAGS:]) & _BROADCAST:
        return None
    return _filled(_little(properties[_ASF_SIZE : _ASF_SIZE + 8]))


def _ogg(tail: bytes) -> Truncation | None:
    """Check that the last page is complete and is marked as the end of the stream."""
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        page = tail[at:]
        if len(page) < _OGG_HEADER or len(page) < _OGG_HEADER + page[26]:
            return Truncation("the last page of the Ogg file is incomplete")
        if page[4] or page[5] > 7:  # noqa: PLR2004 -- not a page, but four bytes of audio
            continue
        lacing = page[_OGG_HEADER : _OGG_HEADER + page[26]]
        if _OGG_HEADER + len(lacing) + sum(lacing) > len(page):
            return Truncation("the last page of the Ogg file is incomplete")
        if not page[5] & _LAST_PAGE:
            return Truncation("the Ogg file has no end-of-stream page", certain=False)
        return None
    return None


def _ts_packet(head: bytes) -> int:
    """Return the packet length of an MPEG transport stream, 0 for other files."""
    for packet in _TS_PACKETS:
        start = _ts_start(head, packet)
        if start is not None:
            return packet
    return 0


def _ts_start(head: bytes, packet: int) -> int | None:
    """Return the offset of the first sync byte: a capture may begin within a packet; M2TS adds 4 bytes before each."""
    count = len(head) // packet - 1
    if count < 4:  # noqa: PLR2004 -- fewer sync bytes in a row may be chance
        return None
    for start in range(packet):
        if all(head[start + number * packet] == 0x47 for number in range(count)):  # noqa: PLR2004 -- the sync byte
            return start
    return None


def _ts(head: bytes, packet: int, size: int) -> Truncation | None:
    """Check that the last packet is complete; a cut between two packets cannot be detected."""
    start = (_ts_start(head, packet) or 0) - (4 if packet == _TS_PACKETS[1] else 0)
    if (size - start) % packet:
        return Truncation("the last packet of the transport stream is incomplete", certain=False)
    return None


def _is_placeholder(length: int) -> bool:
    return any(length in values for values in _PLACEHOLDERS_32)


def _filled(length: int) -> int | None:
    return length if 0 < length < _LARGEST_64 else None


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
