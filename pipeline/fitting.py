"""Pictures brought to a size: stretched, cut, or given room, as A1111 and VaeImageProcessor in diffusers do."""

from enum import StrEnum

from PIL import Image

_FILTER = Image.Resampling.LANCZOS


class Fit(StrEnum):
    """What becomes of a picture whose proportions are others than a size's.

    It is stretched; or it keeps its proportions, and what is over is cut off on both sides alike, or where there is
    room its outermost pixels go on.
    """

    STRETCH = "stretch"
    CROP = "crop"
    FILL = "fill"


def fitted(picture: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """A picture in another size, width and height, by Lanczos' filter."""
    if fit == Fit.STRETCH:
        return picture.resize(size, _FILTER)
    width, height = size
    # compared as fractions, like diffusers: whole numbers could fall the other way
    wider = picture.width / picture.height > width / height
    if wider == (fit == Fit.FILL):
        resized = picture.resize((width, max(1, picture.height * width // picture.width)), _FILTER)
    else:
        resized = picture.resize((max(1, picture.width * height // picture.height), height), _FILTER)
    left, top = (wanted // 2 - there // 2 for wanted, there in zip(size, resized.size, strict=True))
    if fit == Fit.CROP:
        return resized.crop((-left, -top, width - left, height - top))
    return _with_room(resized, size, (left, top))


def _with_room(picture: Image.Image, size: tuple[int, int], corner: tuple[int, int]) -> Image.Image:
    page = Image.new(picture.mode, size)
    page.paste(picture, corner)
    (left, top), (width, height) = corner, picture.size
    right, bottom = left + width, top + height
    # what Pillow's bicubic filter finds on the very edge, between the outermost pixels and the next beyond them
    for room, edge, at in (
        ((width, top), (0, 0, width, 0), (left, 0)),
        ((width, size[1] - bottom), (0, height, width, height), (left, bottom)),
        ((left, height), (0, 0, 0, height), (0, top)),
        ((size[0] - right, height), (width, 0, width, height), (right, top)),
    ):
        if all(room):
            page.paste(picture.resize(room, box=edge), at)
    return page
