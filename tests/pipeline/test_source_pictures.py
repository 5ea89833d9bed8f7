"""Pictures of every mode and masks of both kinds, against diffusers' image processor and by hand."""

import io

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import ExifTags, Image

from pipeline.errors import RequestError
from pipeline.source_pictures import edit_mask, image_pixels, latent_mask, open_picture, turned_size

MOST = 10**6
NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
RGB = Image.fromarray(NOISE[..., :3].copy())


def grey(value: int, mode: str = "L") -> Image.Image:
    return Image.new("L", (6, 4), value).convert(mode)


def through_a_file(picture: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.open(file)


@pytest.mark.parametrize(("width", "height"), [(40, 32), (16, 16), (64, 8)])
def test_pixels_are_those_of_diffusers(width: int, height: int) -> None:
    pixels = image_pixels(RGB, width, height, MOST)
    theirs = VaeImageProcessor(vae_scale_factor=8).preprocess(RGB, height=height, width=width)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (1, height, width, 3)
    np.testing.assert_allclose(pixels.transpose(0, 3, 1, 2) / 127.5 - 1, theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("source", [RGB, RGB.convert("L")], ids=["colour", "grey"])
@pytest.mark.parametrize(("width", "height"), [(40, 32), (16, 16), (64, 8)])
def test_masks_are_those_of_diffusers(source: Image.Image, width: int, height: int) -> None:
    mask = edit_mask(source, width, height, MOST)
    processor = VaeImageProcessor(vae_scale_factor=8, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    theirs = processor.preprocess(source, height=height, width=width)
    np.testing.assert_array_equal(mask, theirs[0, 0].numpy() == 1)
    small = torch.nn.functional.interpolate(theirs, size=(height // 8, width // 8))[0, 0]
    np.testing.assert_array_equal(latent_mask(mask, 8), small.numpy() == 1)
    assert 0 < mask.mean() < 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "LA", "RGBA", "PA"])
@pytest.mark.parametrize("white", [False, True])
def test_black_and_white_are_what_they_are_in_any_mode(mode: str, white: bool) -> None:
    value = 255 if white else 0
    if mode == "LAB":
        picture = Image.new("LAB", (6, 4), (value, 128, 128))
    elif mode == "I":
        # more than 8 bits, taken for 16
        picture = Image.new("I", (6, 4), 65535 if white else 0)
    else:
        picture = grey(value, mode)
    assert picture.mode == mode
    np.testing.assert_allclose(image_pixels(picture, 4, 2, MOST), value, atol=1)
    np.testing.assert_array_equal(edit_mask(picture, 4, 2, MOST), np.full((2, 4), white))


def test_sixteen_bits_are_brought_to_eight() -> None:
    values = (np.arange(24, dtype=np.uint16) * 2849).reshape(4, 6)
    picture = through_a_file(Image.fromarray(values))
    assert picture.mode.startswith("I;16")
    np.testing.assert_allclose(image_pixels(picture, 6, 4, MOST)[0, ..., 0], values / 257, atol=0.51)


def test_what_is_transparent_lies_on_white() -> None:
    red = Image.new("RGBA", (6, 4), (255, 0, 0, 255))
    red.putpixel((0, 0), (255, 0, 0, 0))
    pixels = image_pixels(red, 6, 4, MOST)[0]
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[3, 5].tolist() == [255, 0, 0]
    palette = Image.new("P", (6, 4), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    clear = through_a_file(palette, transparency=0)
    assert image_pixels(clear, 6, 4, MOST)[0, 0, :2].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_a_mask_with_holes_speaks_by_its_holes_alone() -> None:
    mask = Image.new("RGBA", (8, 8), (255, 255, 255, 255))
    mask.paste((255, 255, 255, 0), (0, 0, 8, 4))
    # nearly clear is no hole
    mask.paste((0, 0, 0, 1), (0, 6, 8, 8))
    np.testing.assert_array_equal(edit_mask(mask, 8, 8, MOST)[:, 0], [True] * 4 + [False] * 4)
    # without a hole its luminance counts, whatever its alpha
    mask.paste((255, 255, 255, 255), (0, 0, 8, 4))
    np.testing.assert_array_equal(edit_mask(mask, 8, 8, MOST)[:, 0], [True] * 6 + [False] * 2)


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.new("RGB", (16, 8), "black")
    lying.paste("white", (0, 0, 8, 8))
    turned = through_a_file(lying, exif=exif)
    assert image_pixels(turned, 8, 16, MOST)[0, [0, 15], 0, 0].tolist() == [255, 0]
    assert edit_mask(turned, 8, 16, MOST)[[0, 15], 0].tolist() == [True, False]


@pytest.mark.parametrize("make", [image_pixels, edit_mask])
def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(
    make: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = "image" if make is image_pixels else "mask"
    picture = through_a_file(RGB)
    monkeypatch.setattr(type(picture), "load", lambda _picture: pytest.fail("it was decoded"))
    with pytest.raises(RequestError, match=f"{field}=40x30: must have 1 to 1199 pixels, not 1200") as caught:
        make(picture, 16, 16, 1199)
    assert caught.value.field == field


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF"])
def test_a_file_cut_off_is_refused(kind: str) -> None:
    file = io.BytesIO()
    RGB.save(file, kind)
    short = Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2 + 100]))
    with pytest.raises(RequestError, match="image: cannot be read as a picture"):
        image_pixels(short, 16, 16, MOST)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_file_is_opened(kind: str) -> None:
    file = io.BytesIO()
    RGB.save(file, kind)
    assert open_picture("image", file.getvalue(), MOST).size == (40, 30)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "must be a picture, one of PNG, JPEG, WEBP, GIF, BMP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "must be a picture, one of PNG, JPEG, WEBP, GIF, BMP"),
        (b"II*\0\x08\0\0\0", "must be a picture, one of PNG, JPEG, WEBP, GIF, BMP"),
        (b"GIF89a", "cannot be read as a picture: it is cut off or damaged"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read as a picture: it is cut off or damaged"),
        (b"\xff\xd8\xff", "cannot be read as a picture: it is cut off or damaged"),
        (b"RIFF\x04\0\0\0WEBP", "must have 1 to"),
        (b"BM", "cannot be read as a picture: it is cut off or damaged"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused(file: bytes, said: str) -> None:
    with pytest.raises(RequestError, match="mask.*: " + said) as caught:
        open_picture("mask", file, MOST)
    assert caught.value.field == "mask"


def test_a_mode_without_a_range_is_refused() -> None:
    with pytest.raises(RequestError, match="image='F': must be of a mode whose range is known"):
        image_pixels(Image.new("F", (6, 4)), 4, 2, MOST)


def test_a_mask_shrinks_to_the_first_pixel_of_each_square() -> None:
    mask = np.zeros((8, 12), np.bool_)
    mask[4, 8] = mask[1, 1] = True
    small = latent_mask(mask, 4)
    assert small.tolist() == [[False, False, False], [False, False, True]]
    assert small.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 30)), (3, (40, 30)), (6, (30, 40)), (8, (30, 40))])
def test_a_size_is_told_before_anything_is_decoded(
    kind: str, orientation: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = through_a_file(RGB, kind, exif=exif)
    plain = through_a_file(RGB, kind)

    def decoded(_: object) -> None:
        raise AssertionError("it was decoded")

    for made in (picture, plain):
        monkeypatch.setattr(type(made), "load", decoded)
    assert turned_size(picture) == size
    assert turned_size(plain) == (40, 30)
