"""Pictures as A1111's clients send them, and as they get them."""

from io import BytesIO

import numpy as np
from PIL import Image

from pipeline.errors import RequestError, UnreadablePictureError
from pipeline.source_pictures import decoded_picture, image_pixels, open_picture, turned_size
from services.errors import FieldError
from services.ingress.a1111.errors import EncodedImageError
from services.ingress.wire.encoded_pictures import NotBase64Error, file_of_text

_OPAQUE = 128
# as all pictures are written here
_PNG_LEVEL = 3


def picture_file(field: str, text: str) -> bytes:
    """The file of a text in base64, as `file_of_text` has it.

    Raises:
        FieldError: it is a link.
        EncodedImageError: it is no base64.
    """
    try:
        return file_of_text(field, text)
    except NotBase64Error as error:
        raise EncodedImageError(error.message, field) from None


def encoded_picture(field: str, text: str, most: int) -> Image.Image:
    """The picture of a text in base64, of at most `most` pixels, of which nothing is decoded yet.

    Raises:
        FieldError: it is a link, or has more pixels.
        EncodedImageError: it is none that `open_picture` opens.
    """
    try:
        return open_picture(field, picture_file(field, text), most)
    except UnreadablePictureError as error:
        raise EncodedImageError(error.message, field) from None
    except RequestError as error:
        raise FieldError(error.message, field) from None


def rgb(picture: Image.Image, most: int) -> Image.Image:
    """A picture of at most `most` pixels in RGB, turned as its EXIF says and laid on white where it is transparent.

    Raises:
        RequestError: it has more pixels, or cannot be read.
    """
    return Image.fromarray(image_pixels(picture, *turned_size(picture), most)[0])


def mask_of(picture: Image.Image, most: int) -> Image.Image:
    """A mask in shades of grey, white for what is drawn anew.

    One that is transparent somewhere says so by its opaque parts, as A1111's canvas makes them; any other by its
    luminance.

    Raises:
        RequestError: it has more than `most` pixels, or cannot be read.
    """
    decoded = decoded_picture("mask", picture, most)
    if decoded.mode == "F":
        raise RequestError("mask", "mask: must be of a mode whose range is known, such as RGB or L")
    if decoded.has_transparency_data:
        alpha = np.asarray(decoded.convert("RGBA"))[..., 3]
        if not (alpha == alpha.dtype.type(255)).all():
            return Image.fromarray(np.where(alpha > _OPAQUE, np.uint8(255), np.uint8(0)))
    return decoded.convert("L")


def as_png(picture: Image.Image) -> bytes:
    """A picture's file."""
    out = BytesIO()
    picture.save(out, "PNG", compress_level=_PNG_LEVEL)
    return out.getvalue()
