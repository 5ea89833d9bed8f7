"""What a mask says, in shades of grey and white for what is drawn anew: where, how far around, from which colours."""

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from components.messages import Mask
from pipeline.errors import RequestError

Box = tuple[int, int, int, int]

_HALF = 128
_WHITE = 255


def blurred(mask: Image.Image, deviations: tuple[int, int], *, inverted: bool) -> Image.Image:
    """A mask, turned to its opposite perhaps, and blurred by a Gaussian of so many pixels across and down."""
    one = ImageOps.invert(mask) if inverted else mask
    return one.filter(ImageFilter.GaussianBlur(deviations)) if any(deviations) else one


def doubled(mask: Image.Image) -> Image.Image:
    """A mask twice as light: white as far as its edge reaches half."""
    return mask.point([min(2 * shade, _WHITE) for shade in range(_WHITE + 1)])


def latents_of(mask: Image.Image, downscale: int) -> Mask:
    """Which latents are drawn anew, [height, width]: those of which the mask is light by half or more."""
    small = mask.resize((mask.width // downscale, mask.height // downscale), Image.Resampling.BICUBIC)
    return np.asarray(small) >= _HALF


def hidden_of(mask: Image.Image) -> Mask:
    """Which pixels are drawn anew, [height, width]: those of which the mask is light by half or more."""
    return np.asarray(mask) >= _HALF


def crop_box(mask: Image.Image, padding: int, size: tuple[int, int]) -> Box:
    """The part of a picture around what its mask leaves to draw, in the proportions of `size` as far as there is room.

    Raises:
        RequestError: the mask is black.
    """
    found = mask.getbbox()
    if found is None:
        raise RequestError("mask", "mask: leaves nothing to draw; it must be light somewhere")
    left, top, right, bottom = found
    across = max(0, left - padding), min(mask.width, right + padding)
    down = max(0, top - padding), min(mask.height, bottom + padding)
    wanted = size[0] / size[1]
    across = _span(*across, (down[1] - down[0]) * wanted, mask.width)
    down = _span(*down, (across[1] - across[0]) / wanted, mask.height)
    return across[0], down[0], across[1], down[1]


def filled(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """A picture whose masked part has the colours around it, each the softer the farther from there it is."""
    known = picture.convert("RGBA")
    known.putalpha(ImageOps.invert(mask))
    # weighted by alpha, so that a blur knows nothing of the colours that go
    weighted = known.convert("RGBa")
    page = Image.new("RGBA", picture.size, _mean(weighted))
    radius = max(picture.size) / 2
    while radius >= 1:
        page.alpha_composite(weighted.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA"))
        radius /= 2
    page.alpha_composite(known)
    return page.convert("RGB")


def _span(low: int, high: int, least: float, most: int) -> tuple[int, int]:
    """The part of 0..most that is `least` long, around low..high, or those where they are longer."""
    missing = max(0, round(least) - (high - low))
    low, high = low - missing // 2, high + missing - missing // 2
    # what is over on one side is moved to the other
    low, high = low - max(0, high - most), high + max(0, -low)
    return max(0, low), min(most, high)


def _mean(weighted: Image.Image) -> tuple[int, int, int, int]:
    sums = np.asarray(weighted, np.float64).reshape(-1, 4).sum(0)
    if sums[3] == 0:
        return _HALF, _HALF, _HALF, _WHITE
    red, green, blue = (int(min(_WHITE, round(_WHITE * one / sums[3]))) for one in sums[:3])
    return red, green, blue, _WHITE
