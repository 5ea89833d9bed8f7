"""EXIF with the two texts of a picture's story.

Pillow writes a user comment as BYTE, which readers that hold to EXIF, A1111's among them, take for no text. And it
reads every field into memory, as often as fields point at the same bytes: 64 KiB of them may come to 300 MB. So the two
fields are written and found here, after EXIF 2.32 and TIFF 6.0.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from PIL.ExifTags import IFD, Base

HEADER = b"Exif\0\0"
# the codes of EXIF 2.32, table 9
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"
_CODES = (_UNICODE, _ASCII, b"JIS\0\0\0\0\0", b"\0" * 8)
_MOST_FIELDS = 512
_FIELD = 12
_ASCII_TYPE, _SHORT, _LONG, _UNDEFINED = 2, 3, 4, 7
_LAST_ORIENTATION = 8
# with BYTE, which Pillow writes, and EXIF 3's UTF-8
_TEXT_TYPES = (1, _ASCII_TYPE, _UNDEFINED, 129)
_INLINE_BYTES = 4
# numbers have their big end first, and the first table is at byte 8
_START = b"MM\0*\0\0\0\x08"
# in every infotext, so that it tells in which order the bytes of one are
_MARK = "Steps:"


class ExifTexts(NamedTuple):
    """The image description and the user's comment; None where there is none."""

    description: str | None = None
    comment: str | None = None


def exif_of(texts: ExifTexts) -> bytes:
    """EXIF with its header: the description in ASCII, the comment in UTF-16 of the big end, as A1111 writes it."""
    fields = []
    if texts.description is not None:
        fields.append((Base.ImageDescription, _ASCII_TYPE, texts.description.encode("ascii") + b"\0"))
    if texts.comment is None:
        return HEADER + _START + _table(fields, len(_START))
    # the comment has a table of its own, after the first one, whose length does not hang on where that is
    nowhere = (IFD.Exif, _LONG, bytes(_INLINE_BYTES))
    after = len(_START) + len(_table([*fields, nowhere], len(_START)))
    outer = _table([*fields, (IFD.Exif, _LONG, struct.pack(">I", after))], len(_START))
    comment = _UNICODE + texts.comment.encode("utf-16-be")
    return HEADER + _START + outer + _table([(Base.UserComment, _UNDEFINED, comment)], after)


def _table(fields: Sequence[tuple[int, int, bytes]], at: int) -> bytes:
    """A table of fields by tag, type and value, which begins at a byte of the file, and after it the long values."""
    table, values = struct.pack(">H", len(fields)), b""
    start = at + 2 + _FIELD * len(fields) + 4
    for tag, kind, value in fields:
        length = 1 if kind == _LONG else len(value)
        if len(value) <= _INLINE_BYTES:
            table += struct.pack(">HHI4s", tag, kind, length, value)
        else:
            table += struct.pack(">HHII", tag, kind, length, start + len(values))
            # each value begins at an even byte
            values += value + b"\0" * (len(value) % 2)
    return table + struct.pack(">I", 0) + values


def read_exif(data: bytes) -> ExifTexts:
    """The two texts of EXIF, with or without its header; what is damaged is as if it were not there."""
    tiff = data.removeprefix(HEADER)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return ExifTexts()
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        fields = _fields(tiff, order, first)
        inner = fields.get(IFD.Exif)
        comment = None
        if inner is not None and inner.type == _LONG:
            comment = _fields(tiff, order, inner.value).get(Base.UserComment)
        description = fields.get(Base.ImageDescription)
        return ExifTexts(
            None if description is None else _description(_bytes(tiff, description)),
            None if comment is None else _comment(_bytes(tiff, comment)),
        )
    except struct.error:
        return ExifTexts()


def exif_of_orientation(orientation: int) -> bytes:
    """EXIF with its header that says how a picture is to be turned, 1..8, and nothing else."""
    field = struct.pack(">HHIHH", Base.Orientation, _SHORT, 1, orientation, 0)
    return HEADER + _START + struct.pack(">H", 1) + field + struct.pack(">I", 0)


def read_orientation(data: bytes) -> int:
    """How a picture is to be turned, 1..8; 1 where EXIF, with or without its header, says nothing of it."""
    tiff = data.removeprefix(HEADER)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        field = _fields(tiff, order, first).get(Base.Orientation)
        if field is None or field.type != _SHORT:
            return 1
        (orientation,) = struct.unpack_from(f"{order}H", tiff, field.at)
    except struct.error:
        return 1
    return orientation if 1 <= orientation <= _LAST_ORIENTATION else 1


class _Field(NamedTuple):
    type: int
    length: int
    value: int
    at: int


def _fields(tiff: bytes, order: str, at: int) -> dict[int, _Field]:
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    found: dict[int, _Field] = {}
    for start in range(at + 2, at + 2 + _FIELD * min(count, _MOST_FIELDS), _FIELD):
        if start + _FIELD > len(tiff):
            break
        tag, kind, length, value = struct.unpack_from(f"{order}HHII", tiff, start)
        found.setdefault(tag, _Field(kind, length, value, start + 8))
    return found


def _bytes(tiff: bytes, field: _Field) -> bytes:
    if field.type not in _TEXT_TYPES:
        return b""
    start = field.at if field.length <= _INLINE_BYTES else field.value
    return tiff[start : start + field.length]


def _description(value: bytes) -> str | None:
    return _utf_8(value.split(b"\0")[0])


def _comment(value: bytes) -> str | None:
    code = next((code for code in _CODES if value.startswith(code)), b"")
    text = value[len(code) :]
    if code != _UNICODE:
        return _utf_8(text.rstrip(b"\0"))
    # some programs write the order of the file around it, and some a byte order mark
    readings = [text.decode(name, "replace").lstrip("\ufeff").rstrip("\0") for name in ("utf-16-be", "utf-16-le")]
    return next((reading for reading in readings if _MARK in reading), readings[0]) or None


def _utf_8(value: bytes) -> str | None:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.strip() or None
