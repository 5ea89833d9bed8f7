"""Reading files: ours, others', cut ones, damaged ones, and those made to cost much."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import piexif  # type: ignore[import-untyped]
import piexif.helper  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.errors import RequestError
from pipeline.story.reading import Reading, read_story
from tests.pipeline.story.stories import FORMATS, HARD, picture, prompts, story

TOLD = story(prompt=HARD[0], negative_prompt=HARD[1])
A1111 = "a réd äpple\nNegative prompt: b\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*chunks: bytes, width: int = 1, height: int = 1) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"".join([SIGNATURE, header, *chunks, chunk(b"IEND", b"")])


def saved(form: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, form, **options)
    return out.getvalue()


def a1111_of(reading: Reading) -> tuple[object, ...]:
    assert reading.story is not None
    told = reading.story.settings
    return reading.source, reading.parameters, told["prompt"], told["negative_prompt"], told["sampler"], told["seed"]


@settings(max_examples=50)
@given(prompts, prompts | st.just(""), st.sampled_from(FORMATS))
def test_a_story_comes_back_from_every_format(prompt: str, negative: str, form: str) -> None:
    told = story(prompt=prompt, negative_prompt=negative)
    assert read_story(picture(told, form)).story == told


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("form", ["tEXt", "iTXt"])
def test_a1111s_png(form: str, compressed: bool) -> None:
    texts = PngInfo()
    if form == "iTXt":
        texts.add_itxt("parameters", A1111, zip=compressed)
    else:
        texts.add_text("parameters", A1111, zip=compressed)
    expected = ("a1111", A1111, "a réd äpple", "b", "euler_ancestral", 1)
    assert a1111_of(read_story(saved("PNG", pnginfo=texts))) == expected


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_a1111s_exif(form: str) -> None:
    comment = piexif.helper.UserComment.dump(A1111, "unicode")
    data = saved(form, exif=piexif.dump({"Exif": {piexif.ExifIFD.UserComment: comment}}))
    assert a1111_of(read_story(data)) == ("a1111", A1111, "a réd äpple", "b", "euler_ancestral", 1)
    assert (b"eXIf" in data) == (form == "PNG")


def test_a_text_after_the_pixels_is_found() -> None:
    data = saved("PNG")
    end = data.index(b"IEND") - 4
    late = data[:end] + chunk(b"tEXt", b"parameters\0" + A1111.encode("latin-1")) + data[end:]
    assert read_story(late).parameters == A1111


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_without_a_story(form: str) -> None:
    assert read_story(saved(form)) == Reading(source="nothing")


def test_other_texts_are_no_story() -> None:
    texts = PngInfo()
    texts.add_text("Software", "a program")
    texts.add_text("prompt", '{"3": {"class_type": "KSampler"}}')
    texts.add_text("parameters", "hello")
    assert read_story(saved("PNG", pnginfo=texts)) == Reading(source="nothing", parameters="hello")
    exif = piexif.dump({"0th": {piexif.ImageIFD.ImageDescription: b'{"a": 1}'}})
    assert read_story(saved("JPEG", exif=exif)) == Reading(source="nothing")


def test_ours_is_believed_before_the_infotext() -> None:
    texts = PngInfo()
    texts.add_text("parameters", A1111)
    texts.add_text("latentworks", TOLD.to_json())
    reading = read_story(saved("PNG", pnginfo=texts))
    assert (reading.source, reading.story, reading.parameters) == ("latentworks", TOLD, A1111)
    texts = PngInfo()
    texts.add_text("parameters", A1111)
    texts.add_text("latentworks", "{")
    assert read_story(saved("PNG", pnginfo=texts)).source == "a1111"


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"a text", b"\x89PNG", b"RIFF\0\0\0\0WAVE", b"\xff", b"BM", b"%PDF"])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(RequestError, match="^image: must be a PNG, JPEG or WebP file$") as raised:
        read_story(data)
    assert raised.value.field == "image"


def test_a_file_that_is_too_long() -> None:
    with pytest.raises(RequestError, match="^image: has 33554433 bytes, must have at most 33554432$"):
        read_story(SIGNATURE + bytes(2**25 + 1 - len(SIGNATURE)))
    assert read_story(SIGNATURE + bytes(2**25 - len(SIGNATURE))).source == "nothing"


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_file_tells_all_or_nothing(form: str) -> None:
    whole = picture(story(prompt="a"), form)
    for length in range(12, len(whole)):
        reading = read_story(whole[:length])
        assert reading.story in (None, story(prompt="a")) or reading.source == "a1111"


@pytest.mark.parametrize("form", FORMATS)
@given(st.data())
def test_damaged_files_never_fail(form: str, data: st.DataObject) -> None:
    whole = bytearray(picture(TOLD, form))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(12, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read_story(bytes(whole))


@given(st.sampled_from([SIGNATURE, b"\xff\xd8", b"RIFF\0\0\0\0WEBP"]), st.binary(max_size=200))
def test_no_bytes_fail(start: bytes, rest: bytes) -> None:
    read_story(start + rest)


def test_a_damaged_text_is_named_and_not_believed() -> None:
    data = bytearray(picture(TOLD))
    data[data.index(b"latentworks") + 20] ^= 1
    reading = read_story(bytes(data))
    assert (reading.source, reading.unknown[0]) == ("a1111", "latentworks: is damaged")
    for name, content in (
        (b"zTXt", b"parameters\0\0no zlib"),
        (b"iTXt", b"parameters\0\1\0\0\0no zlib"),
        (b"iTXt", b"parameters\0\0\0\0\0\xff"),
        (b"iTXt", b"parameters\0\0\0no more"),
        (b"iTXt", b"parameters"),
    ):
        assert read_story(png(chunk(name, content))) == Reading(
            source="nothing", unknown=("parameters: is damaged",)
        ), content


@pytest.mark.parametrize(("name", "between"), [(b"zTXt", b"\0\0"), (b"iTXt", b"\0\1\0\0\0")])
def test_a_text_that_inflates_without_end_is_not_read(name: bytes, between: bytes) -> None:
    bomb = zlib.compress(bytes(2**26), 9)
    data = png(*[chunk(name, b"parameters" + between + bomb), chunk(name, b"other" + between + bomb)] * 40)
    with little_memory():
        reading = read_story(data)
    assert reading == Reading(source="nothing", unknown=("parameters: has more than 1048576 bytes",))


def test_a_text_of_the_most_bytes_is_read() -> None:
    text = b"a" * (2**20 - 8) + b"\nSteps:1"
    for content in (b"parameters\0\0" + zlib.compress(text), b"parameters\0\0" + zlib.compress(b"b" + text)):
        reading = read_story(png(chunk(b"zTXt", content)))
        assert (reading.source == "a1111") == (reading.parameters == text.decode())
    assert reading.unknown == ("parameters: has more than 1048576 bytes",)
    plain = read_story(png(chunk(b"tEXt", b"parameters\0" + text)))
    assert plain.unknown == ("parameters: has more than 1048576 bytes",)


def test_hundreds_of_chunks() -> None:
    other = [chunk(b"tEXt", b"key %d\0value" % n) for n in range(900)]
    twice = [chunk(b"tEXt", b"parameters\0" + text.encode("latin-1")) for text in (A1111, "other")]
    assert read_story(png(*other, *twice)).parameters == A1111
    endless = png(*[chunk(b"tEXt", b"a\0")] * 20_000, *twice)
    assert read_story(endless) == Reading(source="nothing"), "as many parts are not looked at"


def test_no_pixel_is_looked_at() -> None:
    text = chunk(b"tEXt", b"parameters\0" + A1111.encode("latin-1"))
    with little_memory():
        huge = png(text, chunk(b"IDAT", b"no pixels"), width=2**31 - 1, height=2**31 - 1)
        assert read_story(huge).parameters == A1111
        # a WebP file that says that it has 16384x16384 pixels, and whose pixels are none
        exif = piexif.dump({"Exif": {piexif.ExifIFD.UserComment: piexif.helper.UserComment.dump(A1111, "unicode")}})
        canvas = struct.pack("<II", 0x08, 0x3FFF) + b"\xff\x3f\0"
        parts = [(b"VP8X", canvas[:10]), (b"VP8 ", b"none"), (b"EXIF", exif)]
        body = b"".join(name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in parts)
        assert read_story(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body).parameters == A1111
        frame = b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\1\x03\x11\1"
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        assert read_story(b"\xff\xd8" + frame + segment + b"\xff\xda").parameters == A1111


def test_the_parts_of_a_jpeg_file() -> None:
    whole = picture(TOLD, "JPEG")
    # other programs' segments, a marker with bytes before it, and one that has no length
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    before = b"\xff\xfe\0\x05abc\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + b"\xff\xff\xff\x01"
    assert read_story(whole[:2] + before + whole[2:]).story == TOLD
    after = saved("JPEG") + whole[2:]
    assert read_story(after).source == "nothing", "what comes after the pixels is no part of the picture"


def test_exif_that_is_too_long() -> None:
    part = piexif.dump({"0th": {piexif.ImageIFD.ImageDescription: b"a" * 2**20}})
    data = saved("WEBP", exif=part)
    assert read_story(data) == Reading(source="nothing", unknown=("EXIF: has more than 1048576 bytes",))
