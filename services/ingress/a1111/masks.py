"""What a mask says, in shades of grey and white for what is drawn anew: where, how far around, from which colours."""

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from components.messages import Mask

_HALF = 128
_WHITE = 255


def doubled(mask: Image.Image) -> Image.Image:
    """A mask twice as light: white as far as its edge reaches half."""
    return mask.point([min(2 * shade, _WHITE) for shade in range(_WHITE + 1)])


def latents_of(mask: Image.Image, downscale: int) -> Mask:
    """Which latents are drawn anew, [height, width]: those of which the mask is light by half or more."""
    small = mask.resize((mask.width // downscale, mask.height // downscale), Image.Resampling.BICUBIC)
    return np.asarray(small) >= _HALF


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


def _mean(weighted: Image.Image) -> tuple[int, int, int, int]:
    sums = np.asarray(weighted, np.float64).reshape(-1, 4).sum(0)
    if sums[3] == 0:
        return _HALF, _HALF, _HALF, _WHITE
    red, green, blue = (int(min(_WHITE, round(_WHITE * one / sums[3]))) for one in sums[:3])
    return red, green, blue, _WHITE
