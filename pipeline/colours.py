"""The colours of a picture with an ICC profile, as sRGB, which is what models are trained on and what pages show."""

from collections.abc import Mapping
from io import BytesIO
from types import MappingProxyType

from PIL import Image, ImageCms

from pipeline.errors import RequestError

# the modes of pixels that profiles speak of, by what ICC.1, table 19, calls their colours
_MODES: Mapping[str, str] = MappingProxyType({"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"})


def in_srgb(field: str, picture: Image.Image, profile: bytes) -> Image.Image:
    """A decoded picture of a request's `field` in sRGB, by the profile of its file; what is transparent stays so.

    A profile for colours that the picture does not have, such as one of grey in a picture in RGB, says nothing of it.

    Raises:
        RequestError: the profile is damaged, or none that leads anywhere.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = _MODES.get(source.profile.xcolor_space)
        coloured = _of_colours(picture)
        if mode != coloured.mode:
            return picture
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        made = ImageCms.profileToProfile(coloured, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise RequestError(field, f"{field}: has a colour profile that cannot be used; save it in sRGB") from error
    assert made is not None, "it is made anew, not in place"
    if picture.has_transparency_data:
        made.putalpha(picture.convert("RGBA").getchannel("A"))
    return made


def _of_colours(picture: Image.Image) -> Image.Image:
    """A picture without its palette and its transparency."""
    if picture.mode in ("RGB", "L", "CMYK"):
        return picture
    return picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")
