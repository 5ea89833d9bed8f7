"""Where PNG, JPEG and WebP files keep texts, found without a look at the pixels.

Pillow opens a picture as a whole: it refuses one with too many pixels or one damaged text, and sets aside memory for
the canvas of a WebP file. Here each file is walked from part to part, and nothing grows beyond its bound.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import RequestError
from pipeline.story.exif import HEADER, read_exif

MAX_FILE_BYTES = 2**25
MAX_TEXT_BYTES = 2**20
OURS, INFOTEXT = "latentworks", "parameters"
# encoders write pixels in parts of 8 KiB, so that the largest file has 4,096 of them
_MOST_PARTS = 16_384
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_RIFF, _WEBP = b"RIFF", b"WEBP"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_LONGEST_KEYWORD = 79
# of JPEG: the markers that no length follows, and those that end the part before the pixels
_ALONE = {0x01, *range(0xD0, 0xD9)}
_ENDS = {0xD9, 0xDA}
_APP1 = 0xE1


class Texts(NamedTuple):
    """Our JSON and an infotext; None where there is none. `unreadable` names those that are damaged or too long."""

    ours: str | None = None
    infotext: str | None = None
    unreadable: tuple[str, ...] = ()


def read_texts(data: bytes) -> Texts:
    """The texts of a picture that may tell a story: of several of one name the first. A cut file holds what is left.

    Raises:
        RequestError: it is longer than 32 MiB, or no PNG, JPEG or WebP file.
    """
    if len(data) > MAX_FILE_BYTES:
        raise RequestError("image", f"image: has {len(data)} bytes, must have at most {MAX_FILE_BYTES}")
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(_JPEG):
        return _exif(_jpeg(data))
    if data.startswith(_RIFF) and data[8:12] == _WEBP:
        return _exif(_webp(data))
    raise RequestError("image", "image: must be a PNG, JPEG or WebP file")


def _exif(part: bytes) -> Texts:
    if len(part) > MAX_TEXT_BYTES:
        return Texts(unreadable=(f"EXIF: has more than {MAX_TEXT_BYTES} bytes",))
    description, comment = read_exif(part)
    return Texts(description, comment)


def _png(data: bytes) -> Texts:
    found: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    exif = Texts()
    for name, start, end in _chunks(data):
        if name == b"eXIf":
            exif = _exif(data[start:end])
        if name not in _TEXT_CHUNKS:
            continue
        keyword = data[start : min(start + _LONGEST_KEYWORD, end)].split(b"\0")[0].decode("latin-1")
        if keyword not in (OURS, INFOTEXT) or keyword in found or keyword in unreadable:
            continue
        try:
            found[keyword] = _text(data, name, start, end)
        except ValueError as error:
            unreadable[keyword] = f"{keyword}: {error}"
    return Texts(
        found.get(OURS, exif.ours),
        found.get(INFOTEXT, exif.infotext),
        (*unreadable.values(), *exif.unreadable),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each whole chunk, and where its content starts and ends."""
    at = len(_PNG)
    for _ in range(_MOST_PARTS):
        if at + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, at)
        start, at = at + 8, at + 12 + length
        if at <= len(data):
            yield name, start, at - 4


def _text(data: bytes, name: bytes, start: int, end: int) -> str:
    """The text of a chunk: PNG's third edition, 11.3.3.

    Raises:
        ValueError: it is damaged, or longer than it may be.
    """
    if end - start > MAX_TEXT_BYTES:
        raise ValueError(f"has more than {MAX_TEXT_BYTES} bytes")
    if zlib.crc32(data[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
        raise ValueError("is damaged")
    _keyword, _, content = data[start:end].partition(b"\0")
    try:
        if name == b"tEXt":
            return content.decode("latin-1")
        if name == b"zTXt":
            return _inflated(content[1:]).decode("latin-1")
        # a language and a translated keyword come before the text
        parts = content[2:].split(b"\0", 2)
        if len(parts) != 3:
            raise ValueError("is damaged")
        return (_inflated(parts[2]) if content[:1] == b"\1" else parts[2]).decode("utf-8")
    except (zlib.error, UnicodeDecodeError):
        raise ValueError("is damaged") from None


def _inflated(content: bytes) -> bytes:
    text = zlib.decompressobj().decompress(content, MAX_TEXT_BYTES + 1)
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"has more than {MAX_TEXT_BYTES} bytes")
    return text


def _jpeg(data: bytes) -> bytes:
    """The EXIF of a JPEG file, from among the segments before its pixels; ISO 10918-1, B.1.1."""
    at = len(_JPEG)
    for _ in range(_MOST_PARTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker in _ENDS:
            break
        if marker == 0xFF or marker in _ALONE:
            # a marker may have any number of these bytes before it
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        start, at = at + 4, at + 2 + length
        if marker == _APP1 and data.startswith(HEADER, start, at) and at <= len(data):
            return data[start:at]
    return b""


def _webp(data: bytes) -> bytes:
    """The EXIF of a WebP file, which comes after its pixels; RFC 9649, 2.7."""
    at = 12
    for _ in range(_MOST_PARTS):
        if at + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        start, at = at + 8, at + 8 + length + length % 2
        if name == b"EXIF":
            return data[start : start + length]
    return b""
