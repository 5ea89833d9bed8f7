"""Soft masks, light where a picture is drawn anew: blurred, and the part of the picture around what they leave."""

from PIL import Image, ImageFilter

from components.messages import Box
from pipeline.errors import RequestError

# as far as A1111's own sliders go
MOST_BLUR = 64
MOST_PADDING = 256


def blurred(mask: Image.Image, deviations: tuple[float, float]) -> Image.Image:
    """A mask blurred by a Gaussian of so many pixels across and down; VaeImageProcessor.blur in diffusers."""
    return mask.filter(ImageFilter.GaussianBlur(deviations)) if any(deviations) else mask


def crop_region(mask: Image.Image, padding: int, size: tuple[int, int]) -> Box:
    """The part of a picture around what its mask leaves to draw, in the proportions of `size` as far as there is room.

    With `padding` pixels on each side; VaeImageProcessor.get_crop_region in diffusers.

    Raises:
        RequestError: the mask is black.
    """
    found = mask.convert("L").getbbox()
    if found is None:
        raise RequestError("mask", "mask: leaves nothing to draw; it must be light somewhere")
    left, top, right, bottom = found
    across = max(0, left - padding), min(mask.width, right + padding)
    down = max(0, top - padding), min(mask.height, bottom + padding)
    wanted = size[0] / size[1]
    across = _span(*across, (down[1] - down[0]) * wanted, mask.width)
    down = _span(*down, (across[1] - across[0]) / wanted, mask.height)
    return across[0], down[0], across[1], down[1]


def _span(low: int, high: int, least: float, most: int) -> tuple[int, int]:
    """The part of 0..most that is `least` long, around low..high, or those where they are longer."""
    missing = max(0, int(least - (high - low)))
    low, high = low - missing // 2, high + missing - missing // 2
    # what is over on one side is moved to the other
    low, high = low - max(0, high - most), high + max(0, -low)
    return max(0, low), min(most, high)
