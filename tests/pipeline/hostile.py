"""Files of pictures that lie, swell or loop, written by hand where Pillow writes none."""

import io
import struct
import zlib

from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
SIDE = 50_000


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*chunks: bytes, width: int = 4, height: int = 3, rows: bytes | None = None) -> bytes:
    """A grey PNG file with chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = bytes(height * (width + 1)) if rows is None else rows
    return PNG + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def jpeg(*segments: bytes, after: bytes = b"") -> bytes:
    """A JPEG file of 16 by 8 pixels with further segments."""
    plain = saved(Image.new("RGB", (16, 8), "red"), "JPEG")
    return plain[:2] + b"".join(segments) + plain[2:] + after


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def huge(kind: str) -> bytes:
    """A file of few bytes that claims 50,000 by 50,000 pixels, or as many as its format can say."""
    if kind == "PNG":
        return png(width=SIDE, height=SIDE, rows=b"")
    if kind == "GIF":
        return gif(SIDE, SIDE)
    if kind == "BMP":
        return b"BM" + struct.pack("<IIIIiiHH", 54, 0, 54, 40, SIDE, SIDE, 1, 24) + bytes(24)
    if kind == "JPEG":
        plain = bytearray(jpeg())
        at = plain.index(b"\xff\xc0")
        plain[at + 5 : at + 9] = struct.pack(">HH", SIDE, SIDE)
        return bytes(plain)
    if kind == "WEBP":
        return webp(16384, 16384)
    # with a canvas
    extended = bytes(4) + (2**24 - 1).to_bytes(3, "little") * 2
    return riff(riff_chunk(b"VP8X", extended) + riff_chunk(b"VP8L", b"\x2f" + bytes(12)))


def riff(content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


def riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def gif(width: int, height: int) -> bytes:
    """A picture that is larger than the screen that it is for."""
    # a colour for all of it is set aside before anything is decoded
    control = b"!\xf9\x04\x08\0\0\0\0"
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + control + frame + b";"


def animated(kind: str = "GIF", **options: object) -> bytes:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "green", "blue")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def webp(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return riff(riff_chunk(b"VP8L", b"\x2f" + struct.pack("<I", bits) + bytes(8)))


def swelling_exif(fields: int = 5000, size: int = 60_000) -> bytes:
    """EXIF each of whose fields points at the same bytes: 64 KiB that would come to 300 MB."""
    entries = b"".join(struct.pack(">HHII", tag + 1, 7, size, 8) for tag in range(fields))
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", fields) + entries + bytes(4)


def looping_exif() -> bytes:
    """EXIF whose tables, its own and those that it names, are each other's next."""
    entry = struct.pack(">HHII", 0x8769, 4, 1, 8)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + entry + struct.pack(">I", 8)
