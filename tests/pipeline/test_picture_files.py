"""Files that lie, swell or loop: what each is told, and that nobody sets aside what it claims."""

import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageCms

from components.messages import Pixels
from pipeline.errors import RequestError
from pipeline.picture_files import MOST_PROFILE_BYTES
from pipeline.source_pictures import image_pixels, open_picture, turned_size
from tests.pipeline import hostile
from tests.pipeline.hostile import chunk, jpeg, png, riff, saved, segment

ROOT = Path(__file__).parents[2]
MOST = 16 * 2**20
Values = npt.NDArray[np.float64]
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
FILES = {
    "PNG": saved(NOISE, "PNG"),
    "JPEG": saved(NOISE, "JPEG"),
    "progressive": saved(NOISE, "JPEG", progressive=True),
    "WEBP": saved(NOISE, "WEBP"),
    "lossless": saved(NOISE, "WEBP", lossless=True, exif=Image.Exif()),
    "GIF": saved(NOISE, "GIF"),
    "BMP": saved(NOISE, "BMP"),
}
# each unpacks to as many bytes as Pillow lets one text have, 60 of them to nearly all that it lets a file have
TEXTS = [chunk(b"zTXt", b"text %d\0\0" % number + zlib.compress(bytes(2**20 - 1))) for number in range(60)]


def read(file: bytes) -> Pixels:
    picture = open_picture("image", file, MOST)
    pixels: Pixels = image_pixels(picture, *turned_size(picture), MOST)[0]
    return pixels


def refused(file: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        read(file)
    assert caught.value.field == "image"
    return caught.value.message


@pytest.mark.parametrize("kind", FILES)
def test_a_sound_file_has_the_pixels_that_pillow_sees(kind: str) -> None:
    with Image.open(io.BytesIO(FILES[kind])) as seen:
        np.testing.assert_array_equal(read(FILES[kind]), np.asarray(seen.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_claim_of_two_and_a_half_thousand_million_pixels_is_refused_by_its_size(kind: str) -> None:
    assert len(hostile.huge(kind)) < 1000
    assert refused(hostile.huge(kind)) == "image=50000x50000: must have 1 to 16777216 pixels, not 2500000000"


def test_webp_claims_as_much_as_it_can_say() -> None:
    assert refused(hostile.huge("WEBP")).startswith("image=16384x16384: must have 1 to 16777216 pixels")
    assert refused(hostile.huge("canvas")).startswith("image=16777216x16777216: must have 1 to 16777216 pixels")


_CHILD = """
import json
from pipeline.own_memory import status_bytes
from components.messages import Pixels
from pipeline.errors import RequestError
from pipeline.source_pictures import image_pixels, open_picture, turned_size
from tests.pipeline import test_picture_files as cases
grown = {}
files = cases.swelling()
cases.read(cases.FILES["PNG"]), cases.read(cases.FILES["JPEG"]), cases.read(cases.FILES["WEBP"])
for name, file in files.items():
    before = status_bytes("VmHWM")
    try:
        cases.read(file)
    except RequestError:
        pass
    grown[name] = status_bytes("VmHWM") - before
print(json.dumps(grown))
"""


def swelling() -> dict[str, bytes]:
    profile = zlib.compress(bytes(200 * 2**20))
    return {
        **{f"huge {kind}": hostile.huge(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "canvas")},
        "texts": png(*TEXTS),
        # below what Pillow refuses on its own
        "GIF": hostile.gif(13_000, 13_000),
        "WEBP": hostile.webp(13_000, 13_000),
        "profile": png(chunk(b"iCCP", b"name\0\0" + profile)),
        "exif": jpeg(segment(0xE1, hostile.swelling_exif())),
        "exif of png": png(chunk(b"eXIf", hostile.swelling_exif()[6:])),
        "further pictures": jpeg(segment(0xE2, b"MPF\0" + hostile.swelling_exif()[6:])),
        "loop": jpeg(segment(0xE1, hostile.looping_exif())),
    }


def test_nothing_of_the_size_that_a_file_claims_is_set_aside() -> None:
    answer = subprocess.run([sys.executable, "-c", _CHILD], cwd=ROOT, capture_output=True, text=True, check=True)
    grown = json.loads(answer.stdout)
    assert len(grown) == len(swelling())
    # 60 MB of texts, 200 of a profile, 169 of a GIF file and 676 of a WebP file would be
    assert {name: size for name, size in grown.items() if size > 16 * 2**20} == {}


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})])
def test_an_animated_file_is_refused(kind: str, options: dict[str, object]) -> None:
    assert refused(hostile.animated(kind, **options)) == "image: is animated; send one of its pictures"
    still = saved(NOISE, kind, save_all=True, **options)
    assert read(still).shape == (30, 40, 3)


def test_texts_are_left_out_however_long_they_are() -> None:
    file = png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24))), chunk(b"tEXt", b"b\0" + bytes(2**21)))
    assert open_picture("image", file, MOST).info.keys() <= {"interlace"}
    np.testing.assert_array_equal(read(file), 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_still_turned_as_its_exif_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = "a camera"
    exif[ExifTags.Base.Orientation] = orientation
    file = saved(NOISE, kind, exif=exif)
    with Image.open(io.BytesIO(file)) as seen:
        upright = np.asarray(seen.convert("RGB"))
    # TIFF 6.0: where the first row and the first column of what is stored are to be seen
    turned = upright.transpose(1, 0, 2) if orientation >= 5 else upright
    down, across = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        orientation
    ]
    np.testing.assert_array_equal(read(file), turned[::down, ::across])


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        hostile.looping_exif(),
        hostile.swelling_exif(),
        b"Exif\0\0" + bytes(60_000),
    ],
    ids=["empty", "nowhere", "looping", "swelling", "zeros"],
)
def test_exif_that_says_nothing_turns_nothing(exif: bytes) -> None:
    assert read(jpeg(segment(0xE1, exif))).shape == (8, 16, 3)


def test_a_file_much_larger_than_its_pixels_costs_no_more_than_itself() -> None:
    """As phones append a film to a photograph."""
    np.testing.assert_array_equal(read(jpeg(after=bytes(2**23))), read(jpeg()))
    np.testing.assert_array_equal(read(png() + bytes(2**23)), read(png()))
    np.testing.assert_array_equal(read(FILES["GIF"] + bytes(2**23)), read(FILES["GIF"]))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (jpeg(after=b"\xff\xda" * 200), "image: has 201 scans, must have at most 100"),
        (
            jpeg(segment(0xC0, b"\x08\0\1\0\1\1\1\x11\0")),
            "image: cannot be read as a picture: it is cut off or damaged",
        ),
        (png(*[chunk(b"tEXt", b"")] * 70_000), "image: has more than 65536 parts"),
        (FILES["GIF"][:-1] + b"!\xfe" + b"\1a" * 2**20 + b"\0;", "image: has more than 1048576 parts"),
        (png(chunk(b"iCCP", b"name\0\0no deflate")), "image: has a damaged colour profile"),
        (
            png(chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(MOST_PROFILE_BYTES + 1)))),
            f"image: has a colour profile of more than {MOST_PROFILE_BYTES} bytes",
        ),
        (
            jpeg(*[segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000))] * 65),
            f"image: has a colour profile of more than {MOST_PROFILE_BYTES} bytes",
        ),
        (
            png(chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(3000)))),
            "image: has a colour profile that cannot be used; save it in sRGB",
        ),
        (riff(b""), "image=0x0: must have 1 to 16777216 pixels, not 0"),
        (png(width=0), "image=0x3: must have 1 to 16777216 pixels, not 0"),
    ],
    ids=[
        "scans",
        "two frames",
        "chunks",
        "blocks",
        "no deflate",
        "long",
        "long in parts",
        "zeros",
        "empty",
        "no width",
    ],
)
def test_parts_that_nobody_means_are_named(file: bytes, said: str) -> None:
    assert refused(file) == said


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_off_or_changed_anywhere_is_read_or_refused_by_its_field(kind: str) -> None:
    file, rng = FILES[kind], np.random.default_rng(0)
    cut = [file[:length] for length in range(0, len(file), max(1, len(file) // 60))]
    for _ in range(150):
        changed = bytearray(file)
        # the headers above all
        for at in rng.integers(0, rng.choice([40, 200, len(file)]), 3):
            changed[min(at, len(file) - 1)] = rng.integers(0, 256)
        cut.append(bytes(changed))
    told, read_ones = [], 0
    for damaged in cut:
        try:
            read_ones += read(damaged).size > 0
        except RequestError as error:
            told.append((error.field, error.message[:5]))
    assert set(told) == {("image", "image")}
    assert len(told) + read_ones == len(cut)


# the primaries of Display P3 and of sRGB in XYZ of D50, by columns red, green, blue, as their profiles have them
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def profile_of(primaries: Values) -> bytes:
    """sRGB's profile with other primaries: ICC.1, 7.3 and 10.31."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for column, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ")):
        tag = profile.index(name, 128)
        at = int.from_bytes(profile[tag + 4 : tag + 8], "big")
        values = np.rint(primaries[:, column] * 65536).astype(">i4")
        profile[at + 8 : at + 20] = values.tobytes()
    return bytes(profile)


def converted(values: Values, primaries: Values) -> Values:
    """Values 0..255 by sRGB's curve and some primaries, in sRGB."""
    scaled = values / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    there = np.clip(linear @ (np.linalg.inv(SRGB) @ primaries).T, 0, 1)
    shown: Values = 255 * np.where(there <= 0.0031308, there * 12.92, 1.055 * there ** (1 / 2.4) - 0.055)
    return shown


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_photograph_in_wider_colours_is_brought_to_srgb(kind: str, mode: str) -> None:
    # twelve colours
    picture = NOISE.crop((0, 0, 4, 3)).resize((40, 30), Image.Resampling.NEAREST)
    made = picture.quantize(16) if mode == "P" else picture.convert(mode)
    np.testing.assert_array_equal(made.convert("RGB"), picture)
    file = saved(made, kind, icc_profile=profile_of(P3), **({"lossless": True} if kind == "WEBP" else {}))
    expected = converted(np.asarray(picture, np.float64), P3)
    found = read(file)
    np.testing.assert_allclose(found, expected, atol=2.5)
    assert np.abs(found - np.asarray(picture, np.float64)).mean() > 3


def test_a_photograph_of_a_telephone_is_brought_to_srgb() -> None:
    file = saved(Image.new("RGB", (16, 16), (200, 60, 40)), "JPEG", quality=100, icc_profile=profile_of(P3))
    np.testing.assert_allclose(read(file)[8, 8], converted(np.array([200.0, 60, 40]), P3), atol=4)


def test_what_is_transparent_stays_so_in_wider_colours() -> None:
    picture = Image.new("RGBA", (4, 4), (200, 60, 40, 255))
    picture.putpixel((0, 0), (200, 60, 40, 0))
    found = read(saved(picture, "PNG", icc_profile=profile_of(P3)))
    assert found[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(found[3, 3], converted(np.array([200.0, 60, 40]), P3), atol=2.5)


def test_srgbs_own_profile_changes_nothing_and_one_for_other_colours_says_nothing() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_allclose(read(saved(NOISE, "PNG", icc_profile=own)), np.asarray(NOISE), atol=1)
    grey = NOISE.convert("L")
    np.testing.assert_array_equal(read(saved(grey, "PNG", icc_profile=profile_of(P3))), np.asarray(grey.convert("RGB")))


@pytest.mark.parametrize("marked", [True, False])
def test_the_inks_of_a_photograph_are_those_of_adobe(marked: bool) -> None:
    """Adobe's programs write them turned to their opposite, and so does everybody after them."""
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    inks.paste((0, 0, 0, 0), (0, 0, 8, 16))
    file = saved(inks, "JPEG", quality=100)
    at = file.index(b"\xff\xee")
    if not marked:
        file = file[:at] + file[at + 2 + int.from_bytes(file[at + 2 : at + 4], "big") :]
    found = read(file)
    np.testing.assert_allclose(found[8, 3], (255, 255, 255), atol=3)
    np.testing.assert_allclose(found[8, 13], (255, 0, 0), atol=3)
