"""EXIF held against piexif, with which A1111 writes and reads it, and Pillow."""

import struct
import tracemalloc

import piexif  # type: ignore[import-untyped]
import piexif.helper  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import IFD, Base

from pipeline.story.exif import ExifTexts, exif_of, read_exif
from tests.pipeline.story.stories import HARD, prompts

INFOTEXT = f"{HARD[0]}\nSteps: 3"


@given(prompts)
def test_piexif_and_pillow_read_what_is_written(comment: str) -> None:
    data = exif_of(ExifTexts('{"a": 1}', comment))
    read = piexif.load(data)
    assert read["0th"][piexif.ImageIFD.ImageDescription] == b'{"a": 1}'
    assert piexif.helper.UserComment.load(read["Exif"][piexif.ExifIFD.UserComment]) == comment
    exif = Image.Exif()
    exif.load(data)
    assert exif[Base.ImageDescription] == '{"a": 1}'
    assert exif.get_ifd(IFD.Exif)[Base.UserComment] == b"UNICODE\0" + comment.encode("utf-16-be")
    assert read_exif(data) == ExifTexts('{"a": 1}', comment.rstrip("\0").lstrip("\ufeff") or None)


@pytest.mark.parametrize("texts", [ExifTexts(), ExifTexts("{}"), ExifTexts("{}{"), ExifTexts(None, INFOTEXT)])
def test_either_may_be_absent(texts: ExifTexts) -> None:
    data = exif_of(texts)
    read = piexif.load(data)
    said = read["0th"].get(piexif.ImageIFD.ImageDescription)
    assert said == (None if texts.description is None else texts.description.encode())
    assert (piexif.ExifIFD.UserComment in read["Exif"]) == (texts.comment is not None)
    assert read_exif(data) == texts


@pytest.mark.parametrize("encoding", ["unicode", "ascii"])
def test_what_a1111_writes_is_read(encoding: str) -> None:
    text = INFOTEXT if encoding == "unicode" else "a\nSteps: 3"
    fields = {piexif.ExifIFD.UserComment: piexif.helper.UserComment.dump(text, encoding)}
    assert read_exif(piexif.dump({"Exif": fields})) == ExifTexts(None, text if encoding == "unicode" else text.strip())


@pytest.mark.parametrize(
    "value",
    [
        b"UNICODE\0" + INFOTEXT.encode("utf-16-le"),
        b"UNICODE\0" + INFOTEXT.encode("utf-16"),
        b"\0" * 8 + INFOTEXT.strip().encode(),
        INFOTEXT.strip().encode(),
    ],
)
def test_what_others_write_is_read(value: bytes) -> None:
    comment = read_exif(piexif.dump({"Exif": {piexif.ExifIFD.UserComment: value}})).comment
    assert comment is not None
    assert comment.strip() == INFOTEXT.strip()
    # Pillow's is of the little end, and of another type
    exif = Image.Exif()
    exif[IFD.Exif] = {Base.UserComment: value}
    assert read_exif(exif.tobytes()).comment == comment


def test_a_text_that_would_read_the_other_way_round_too() -> None:
    """Each of these characters, its bytes turned, is punctuation or a letter of an infotext."""
    turned = "Steps: 3, a".encode("utf-16-le").decode("utf-16-be")
    comment = f"{turned * 50}\nSteps: 3"
    assert read_exif(exif_of(ExifTexts(None, comment))).comment == comment


def test_latin_1_and_empty_texts() -> None:
    fields = {piexif.ImageIFD.ImageDescription: "ä".encode("latin-1")}
    assert read_exif(piexif.dump({"0th": fields})) == ExifTexts("ä")
    assert read_exif(piexif.dump({"Exif": {piexif.ExifIFD.UserComment: b"UNICODE\0"}})) == ExifTexts()
    assert read_exif(b"") == read_exif(b"Exif\0\0") == read_exif(b"Exif\0\0MM\0*") == ExifTexts()


@given(st.data())
def test_damaged_bytes_never_fail(data: st.DataObject) -> None:
    whole = bytearray(exif_of(ExifTexts("a description", "a comment")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(10, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read_exif(bytes(whole))
    read_exif(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_fields_that_share_their_bytes_cost_nothing() -> None:
    """64 KiB of fields, each of which says that it is all of them."""
    count = 5400
    size = 2 + 12 * count + 4
    fields = b"".join(struct.pack(">HHII", 0x9000 + n, 7, size, 8) for n in range(count))
    data = b"MM\0*" + struct.pack(">IH", 8, count) + fields + bytes(4)
    tracemalloc.start()
    assert read_exif(data) == ExifTexts()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_table_that_points_at_itself_ends() -> None:
    data = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, IFD.Exif, 4, 1, 8, 0)
    assert read_exif(data) == ExifTexts()
