"""Pictures that a request brings, made into what the stages take: RGB pixels and masks of the size that is drawn."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from components.messages import FloatArray, Mask, Pixels
from pipeline.colours import in_srgb
from pipeline.errors import RequestError, UnreadablePictureError, refuse
from pipeline.masks import blurred
from pipeline.picture_files import FORMATS, PictureFileError, read_picture_file
from pipeline.story.exif import exif_of_orientation

# as VaeImageProcessor of diffusers resizes
_FILTER = Image.Resampling.LANCZOS

# a mask's luminance, 0..255, from which on it says "anew"
_LIGHT = 128

# what Pillow's decoders raise for damaged files, one format this and another that
_DAMAGES = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# the orientations that turn a picture by a quarter
_LYING = (5, 6, 7, 8)

_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_WIDEST = 2**16 - 1


def open_picture(field: str, file: bytes, most: int) -> Image.Image:
    """The picture in a file's bytes, its size known and nothing decoded yet; what bears not on its pixels is left out.

    Raises:
        UnreadablePictureError: it is no PNG, JPEG, WebP, GIF or BMP file, is damaged or animated, or has parts that
            nobody means.
        RequestError: it has more than `most` pixels.
    """
    try:
        found = read_picture_file(file)
    except PictureFileError as error:
        raise UnreadablePictureError(field, f"{field}: {error}") from None
    _require_size(field, found.size, most)
    try:
        picture = Image.open(BytesIO(found.data), formats=FORMATS)
    except _DAMAGES as error:
        raise _unreadable(field) from error
    if found.orientation != 1:
        picture.info["exif"] = exif_of_orientation(found.orientation)
    if found.profile is not None:
        picture.info["icc_profile"] = found.profile
    return picture


def turned_size(picture: Image.Image, field: str = "image") -> tuple[int, int]:
    """Width and height of a picture, a request's `field`, once it is turned as its EXIF says; nothing is decoded.

    Raises:
        RequestError: its EXIF is damaged.
    """
    width, height = picture.size
    try:
        # not the PNG class's own, which decodes the picture to look behind it
        lies = Image.Image.getexif(picture).get(ExifTags.Base.Orientation) in _LYING
    except _DAMAGES as error:
        raise _unreadable(field) from error
    return (height, width) if lies else (width, height)


def image_pixels(picture: Image.Image, width: int, height: int, most: int, field: str = "image") -> Pixels:
    """The pixels [1, height, width, 3], 0..255, of a request's `field`, a picture of any mode but "F".

    Turned as its EXIF says, in sRGB if its ICC profile names other colours, laid on white where it is
    transparent, made RGB, and resized by Lanczos' filter, whatever its aspect ratio. Values of more
    than 8 bits are taken for 16 bits.

    Raises:
        RequestError: the picture has more than `most` pixels, which is seen before it is decoded, or cannot be read.
    """
    decoded = decoded_picture(field, picture, most)
    if decoded.has_transparency_data:
        page = Image.new("RGBA", decoded.size, "white")
        decoded = Image.alpha_composite(page, _converted(field, decoded, "RGBA"))
    rgb = _converted(field, decoded, "RGB").resize((width, height), _FILTER)
    return np.asarray(rgb)[np.newaxis]


def edit_mask(picture: Image.Image, width: int, height: int, most: int, blur: float = 0.0) -> Mask:
    """Where a mask [height, width] says that the picture is drawn anew: True in its light parts, or in its holes.

    As `mask_picture` reads it, blurred by a Gaussian of so many of its own pixels, resized by Lanczos' filter and light
    from half of white on, as in diffusers.

    Raises:
        RequestError: as `image_pixels`, of the field "mask".
    """
    shown = blurred(mask_picture(picture, most), (blur, blur))
    return light_part(shown.resize((width, height), _FILTER))


def mask_picture(picture: Image.Image, most: int) -> Image.Image:
    """A mask in its own size, light where the picture is drawn anew, in colours or in shades of grey.

    A picture with pixels of alpha 0 speaks by them alone, as in OpenAI's interface; any other by its luminance, as in
    diffusers.

    Raises:
        RequestError: as `image_pixels`, of the field "mask".
    """
    decoded = decoded_picture("mask", picture, most)
    holes = _holes(decoded)
    # colours are resized before they are made grey, as in diffusers
    return _converted("mask", decoded, "RGB") if holes is None else holes


def light_part(mask: Image.Image) -> Mask:
    """Where a mask is light by half or more, [height, width]."""
    return np.asarray(mask.convert("L")) >= _LIGHT


def latent_mask(mask: Mask, downscale: int) -> Mask:
    """Shrink a mask [H, W] to the latents' [H / downscale, W / downscale]; its sides must be multiples of `downscale`.

    The first pixel of each square speaks for it: the nearest neighbour of torch's interpolate, as in diffusers.
    """
    assert all(side % downscale == 0 for side in mask.shape), "a checked request has such sides"
    return np.ascontiguousarray(mask[::downscale, ::downscale])


def decoded_picture(field: str, picture: Image.Image, most: int) -> Image.Image:
    """A picture decoded, turned as its EXIF says and in the colours of its ICC profile, brought to sRGB.

    Values of more than 8 bits are taken for 16 bits.

    Raises:
        RequestError: it has more than `most` pixels, which is seen before it is decoded, or it or its profile cannot be
            read.
    """
    turned = _turned(field, picture, most)
    profile = turned.info.get("icc_profile")
    if turned.mode in _WIDE_MODES:
        values = np.clip(np.asarray(turned, np.float64), 0, _WIDEST)
        turned = Image.fromarray(np.rint(values * (255 / _WIDEST)).astype(np.uint8))
    return turned if profile is None else in_srgb(field, turned, profile)


def grey_values(field: str, picture: Image.Image, most: int) -> FloatArray:
    """The values [height, width] of a request's `field`, a picture that is a measurement: each as it is written.

    Turned as its EXIF says; colours become their luminance, 0..255, and neither an ICC profile nor alpha counts.

    Raises:
        RequestError: as `image_pixels`.
    """
    turned = _turned(field, picture, most)
    plain = turned if turned.mode in (*_WIDE_MODES, "F") else _converted(field, turned, "L")
    return np.asarray(plain, np.float32)


def _turned(field: str, picture: Image.Image, most: int) -> Image.Image:
    _require_size(field, picture.size, most)
    try:
        turned = ImageOps.exif_transpose(picture)
        turned.load()
    except _DAMAGES as error:
        raise _unreadable(field) from error
    return turned


def _require_size(field: str, size: tuple[int, int], most: int) -> None:
    width, height = size
    if not 0 < width * height <= most:
        raise RequestError(field, f"{field}={width}x{height}: must have 1 to {most} pixels, not {width * height}")


def _unreadable(field: str) -> UnreadablePictureError:
    return UnreadablePictureError(field, f"{field}: cannot be read as a picture")


def _holes(picture: Image.Image) -> Image.Image | None:
    """White where alpha is 0, else black; None where it is 0 nowhere."""
    if not picture.has_transparency_data:
        return None
    alpha = np.asarray(_converted("mask", picture, "RGBA"))[..., 3]
    return Image.fromarray(np.where(alpha == 0, np.uint8(255), np.uint8(0))) if (alpha == 0).any() else None


def _converted(field: str, picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == "F":
        raise refuse(field, picture.mode, "of a mode whose range is known, such as RGB or L")
    try:
        return picture.convert(mode)
    except ValueError as error:
        raise refuse(field, picture.mode, f"of a mode that can be made {mode}") from error
