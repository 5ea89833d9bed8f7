"""Parts of pictures, drawn in a size of their own and laid back."""

import numpy as np
from PIL import Image

from components.messages import Overlay, Pixels
from pipeline.fitting import Fit, fitted
from pipeline.masks import crop_region


def part_of(
    picture: Image.Image, mask: Image.Image, padding: int, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image, Overlay]:
    """What lies around what a picture's mask leaves to draw, both in a `size`, and what it is laid back into.

    As large as the picture, in colours or in shades of grey, the mask is light where it is drawn anew; there are
    `padding` pixels on each side (`crop_region`).

    Raises:
        RequestError: the mask is black.
    """
    box = crop_region(mask, padding, size)
    part, within = (fitted(one.crop(box), size, Fit.FILL) for one in (picture, mask))
    return part, within, Overlay(np.asarray(picture), np.asarray(mask.convert("L")), box)


def laid(overlay: Overlay, drawn: Pixels) -> Pixels:
    """The pixels [height, width, 3] of a whole picture, with those that were `drawn` of a part of it in their place.

    VaeImageProcessor.apply_overlay in diffusers, but for the rounding of what is half transparent.
    """
    left, top, right, bottom = overlay.box
    picture = Image.fromarray(overlay.picture)
    whole = picture.copy()
    whole.paste(fitted(Image.fromarray(drawn), (right - left, bottom - top), Fit.CROP), (left, top))
    return np.asarray(Image.composite(whole, picture, Image.fromarray(overlay.mask)))
