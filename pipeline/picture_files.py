"""What a picture's file says before anything is decoded: its size, and the parts of it that bear on its pixels.

Pillow opens a picture as a whole. It unpacks the texts of a PNG file, up to 64 MiB, writes a line into the log for each
odd field of EXIF, sets aside memory for the canvas of a WebP file and for a GIF file's first picture, and follows JPEG
files to further pictures, all before anybody has seen the size. So each file is walked here, in bounds, and Pillow is
given the parts that its pixels need and nothing else.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.story.exif import HEADER, read_orientation

# a decoder is a surface for attacks, and Pillow has dozens
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# those of printing presses have 3 MiB at most
MOST_PROFILE_BYTES = 4 * 2**20
# encoders write pixels in parts of 8 KiB, so that a file of 64 MiB has 8,192 of them
_MOST_PARTS = 65_536
# of a GIF file, each of 255 bytes at most: 16 million pixels that cannot be packed have some 80,000
_MOST_BLOCKS = 2**20
# a progressive file has some ten, and each costs as much as all of the picture
_MOST_SCANS = 100

_DAMAGED = "cannot be read as a picture: it is cut off or damaged"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PARTS = {b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_JPEG = b"\xff\xd8"
_SCAN = b"\xff\xda"
# of JPEG: markers that no length follows, those at which the pixels begin, and frames
_ALONE = {0x01, *range(0xD0, 0xD9)}
_ENDS = {0xD9, 0xDA}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JFIF, _EXIF, _ICC, _ADOBE, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
_LEFT_OUT = {*range(0xE0, 0xF0), _COMMENT} - {_JFIF, _ADOBE}
_ICC_NAME = b"ICC_PROFILE\0"
_WEBP_PARTS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANMF", b"ANIM"}
_OLD_BMP = 12
_GIF_PICTURE, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9


class PictureFileError(Exception):
    """A file that is no picture of ours, and in words why; it goes on from the field's name."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureFile:
    """What of a file Pillow is given, its width and height, its EXIF orientation 1..8 and its ICC profile."""

    data: bytes
    size: tuple[int, int]
    orientation: int = 1
    profile: bytes | None = None


def read_picture_file(file: bytes) -> PictureFile:
    """Walk through a PNG, JPEG, WebP, GIF or BMP file.

    Raises:
        PictureFileError: it is none, is cut off before its size is known, has more than one picture, or has parts that
            nobody means.
    """
    try:
        if file.startswith(_PNG):
            return _png(file)
        if file.startswith(_JPEG):
            return _jpeg(file)
        if file.startswith(b"RIFF") and file[8:12] == b"WEBP":
            return _webp(file)
        if file.startswith((b"GIF87a", b"GIF89a")):
            return _gif(file)
        if file.startswith(b"BM"):
            return _bmp(file)
    except (struct.error, IndexError):
        raise PictureFileError(_DAMAGED) from None
    raise PictureFileError(f"must be a picture, one of {', '.join(FORMATS)}")


def _parts(most: int = _MOST_PARTS) -> Iterator[None]:
    for _ in range(most):
        yield
    raise PictureFileError(f"has more than {most} parts")


def _png(file: bytes) -> PictureFile:
    """The chunks of PNG's third edition, 5.3 and 11."""
    kept, at, exif, profile = [_PNG], len(_PNG), b"", None
    _, first, width, height = struct.unpack_from(">I4sII", file, at)
    if first != b"IHDR":
        raise PictureFileError(_DAMAGED)
    for _ in _parts():
        if at + 8 > len(file):
            break
        length, name = struct.unpack_from(">I4s", file, at)
        end = at + 12 + length
        if name in _PNG_PARTS or len(kept) == 1:
            kept.append(file[at:end])
        elif name == b"eXIf":
            exif = file[at + 8 : end - 4]
        elif name == b"iCCP" and profile is None:
            profile = _unpacked(file[at + 8 : end - 4])
        elif name == b"acTL" and struct.unpack_from(">I", file, at + 8)[0] > 1:
            raise _animated()
        if name == b"IEND":
            break
        at = end
    return PictureFile(b"".join(kept), (width, height), read_orientation(exif), profile)


def _unpacked(content: bytes) -> bytes:
    """The profile of a chunk, after its name and the number of its compression."""
    packed = content.partition(b"\0")[2][1:]
    try:
        profile = zlib.decompressobj().decompress(packed, MOST_PROFILE_BYTES + 1)
    except zlib.error:
        raise PictureFileError("has a damaged colour profile") from None
    return _bounded(profile)


def _bounded(profile: bytes) -> bytes:
    if len(profile) > MOST_PROFILE_BYTES:
        raise PictureFileError(f"has a colour profile of more than {MOST_PROFILE_BYTES} bytes")
    return profile


def _jpeg(file: bytes) -> PictureFile:
    kept, pixels, sizes, exif, profile = [_JPEG], len(file), [], b"", b""
    for marker, at, start, end in _segments(file):
        if marker in _ENDS:
            pixels = at
        elif marker == _EXIF and file.startswith(HEADER, start, end):
            exif = exif or file[start:end]
        elif marker == _ICC and file.startswith(_ICC_NAME, start, end):
            # its number and how many there are come before its part
            profile = _bounded(profile + file[start + len(_ICC_NAME) + 2 : end])
        elif marker not in _LEFT_OUT:
            kept.append(file[at:end])
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", file, start + 1)
            sizes.append((width, height))
    if len(sizes) != 1:
        raise PictureFileError(_DAMAGED)
    scans = file.count(_SCAN, pixels)
    if scans > _MOST_SCANS:
        raise PictureFileError(f"has {scans} scans, must have at most {_MOST_SCANS}")
    return PictureFile(b"".join((*kept, file[pixels:])), sizes[0], read_orientation(exif), profile or None)


def _segments(file: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The marker of each segment before the pixels, where it begins, and where its content begins and ends.

    The last one is that of the pixels. ISO 10918-1, B.1.1, and for profiles ICC.1, B.4.
    """
    at = len(_JPEG)
    for _ in _parts():
        if file[at] != 0xFF:
            raise PictureFileError(_DAMAGED)
        marker = file[at + 1]
        if marker in _ENDS:
            yield marker, at, at, at
            return
        if marker == 0xFF or marker in _ALONE:
            # a marker may have any number of these bytes before it
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", file, at + 2)
        end = at + 2 + length
        yield marker, at, at + 4, end
        at = end


def _webp(file: bytes) -> PictureFile:
    """The chunks of RFC 9649, 2; the lossy and lossless ones as RFC 6386, 9.1, and RFC 9649, 3.4, begin."""
    kept, at, sizes, exif, profile, pictures = [], 12, [(0, 0)], b"", None, 0
    for _ in _parts():
        if at + 8 > len(file):
            break
        name, length = struct.unpack_from("<4sI", file, at)
        start, end = at + 8, at + 8 + length + length % 2
        sizes.append(_webp_size(name, file, start))
        pictures += name == b"ANMF"
        if name in _WEBP_PARTS:
            kept.append(file[at:end])
        elif name == b"EXIF":
            exif = file[start : start + length]
        elif name == b"ICCP":
            profile = _bounded(file[start : start + length])
        at = end
    if pictures > 1:
        raise _animated()
    content = b"WEBP" + b"".join(kept)
    data = b"RIFF" + struct.pack("<I", len(content)) + content
    # that of the canvas where there is one
    return PictureFile(data, max(sizes), read_orientation(exif), profile)


def _webp_size(name: bytes, file: bytes, start: int) -> tuple[int, int]:
    if name == b"VP8X":
        width, height = (int.from_bytes(file[start + at : start + at + 3], "little") for at in (4, 7))
        return width + 1, height + 1
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", file, start + 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L":
        (bits,) = struct.unpack_from("<I", file, start + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0


def _gif(file: bytes) -> PictureFile:
    """The blocks of GIF89a, of which a picture needs its own and how it is transparent."""
    width, height, flags = struct.unpack_from("<HHB", file, 6)
    at = 13 + _colours(flags)
    kept, size = [file[:at]], None
    parts = _parts(_MOST_BLOCKS)
    while at < len(file) and file[at] in (_GIF_PICTURE, _GIF_EXTENSION):
        if file[at] == _GIF_EXTENSION:
            end = _after_blocks(file, at + 2, parts)
            if file[at + 1] == _GIF_CONTROL and size is None:
                kept.append(file[at:end])
        elif size is not None:
            raise _animated()
        else:
            left, top, across, down, flags = struct.unpack_from("<HHHHB", file, at + 1)
            # Pillow's canvas grows with it
            size = max(width, left + across), max(height, top + down)
            end = _after_blocks(file, at + 10 + _colours(flags) + 1, parts)
            kept.append(file[at:end])
        at = end
    if size is None:
        raise PictureFileError(_DAMAGED)
    return PictureFile(b"".join(kept) + b";", size)


def _colours(flags: int) -> int:
    """How many bytes a table of colours has."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(file: bytes, at: int, parts: Iterator[None]) -> int:
    while at < len(file) and file[at]:
        next(parts)
        at += 1 + file[at]
    next(parts)
    return at + 1


def _bmp(file: bytes) -> PictureFile:
    """The header after the file's own, the old one of OS/2 among them."""
    (length,) = struct.unpack_from("<I", file, 14)
    width, height = struct.unpack_from("<HH" if length == _OLD_BMP else "<Ii", file, 18)
    return PictureFile(file, (width, abs(height)))


def _animated() -> PictureFileError:
    return PictureFileError("is animated; send one of its pictures")
