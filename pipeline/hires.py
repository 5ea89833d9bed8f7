"""Pictures drawn in two passes: what a request may ask of the second, and what the first gives it to start from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from components.contract import Contract
from components.messages import FloatArray, Hires, ImageRequest, Pixels
from diffusion.interpolation import INTERPOLATIONS, enlarged
from pipeline.checks import check_name, check_number, check_whole
from pipeline.errors import RequestError, refuse
from pipeline.picture_size import enlarged_size, picture_size
from pipeline.upscalers import UPSCALERS

FIELDS = ("scale", "width", "height", "strength", "steps", "upscaler")
DEFAULT_UPSCALER = "latent_bilinear"
# A1111's own: enlarged latents are soft, and need much of the walk to be sharp again
DEFAULT_STRENGTH = 0.75
_DEFAULT_SCALE = 2.0
_MOST_SCALE = 8.0


def check_hires(
    given: Any, first: tuple[int, int], contract: Contract, limits: tuple[int, int], steps: tuple[int, int]
) -> tuple[Hires, tuple[int, int]]:
    """A request's `hires`, a mapping of some of `FIELDS`, and the width and height that the second pass has.

    The `first` pass is of that width and height. The second is `scale` times as wide and high, 2 if nothing is given,
    rounded down to what the network takes; or of `width` and `height`, of which one alone keeps the proportions.
    `limits` are as in `picture_size`; `steps` are those of the first pass, which are the second's if not given, and the
    most that there may be.

    Raises:
        RequestError: there is another field, or one outside its limits.
    """
    if not isinstance(given, Mapping):
        raise refuse("hires", given, f"an object of {', '.join(FIELDS)}")
    for name in given:
        if name not in FIELDS:
            raise RequestError("hires", f"hires: {str(name)[:64]!r}: no such field; there are {', '.join(FIELDS)}")
    asked = {name: value for name, value in given.items() if value is not None}
    upscaler, strength = asked.get("upscaler", DEFAULT_UPSCALER), asked.get("strength", DEFAULT_STRENGTH)
    own_steps, most_steps = steps
    check_name("hires.upscaler", upscaler, UPSCALERS)
    check_number("hires.strength", strength, 1.0)
    check_whole("hires.steps", asked.get("steps", own_steps), 1, most_steps)
    size = _size(asked, first, contract, limits)
    return Hires(
        first_width=first[0],
        first_height=first[1],
        upscaler=upscaler,
        strength=float(strength),
        steps=asked.get("steps", own_steps),
    ), size


def _size(
    asked: Mapping[str, Any], first: tuple[int, int], contract: Contract, limits: tuple[int, int]
) -> tuple[int, int]:
    sides = (asked.get("width"), asked.get("height"))
    if sides == (None, None):
        scale = asked.get("scale", _DEFAULT_SCALE)
        check_number("hires.scale", scale, _MOST_SCALE)
        if scale < 1:
            raise refuse("hires.scale", scale, f"a number between 1 and {_MOST_SCALE:g}")
        wanted = enlarged_size(first, (scale, scale), contract)
    elif "scale" in asked:
        raise refuse("hires.scale", asked["scale"], "left out with a width or height")
    else:
        for name, side, least in zip(("width", "height"), sides, first, strict=True):
            if side is not None:
                check_whole(f"hires.{name}", side, least, limits[1])
        wanted = _in_proportion(sides, first, contract)
    try:
        return picture_size(wanted, None, contract, limits)
    except RequestError as error:
        raise within_hires(error) from None


def _in_proportion(sides: tuple[int | None, int | None], first: tuple[int, int], contract: Contract) -> tuple[int, int]:
    width, height = sides
    if width is not None and height is not None:
        return width, height
    scale = width / first[0] if width is not None else (height or 0) / first[1]
    kept = enlarged_size(first, (scale, scale), contract)
    return (kept[0] if width is None else width), (kept[1] if height is None else height)


def within_hires(error: RequestError) -> RequestError:
    """An error of the second pass by the name that a request has for its field."""
    return RequestError(f"hires.{error.field}", f"hires.{error.message}")


def enlarges_latents(upscaler: str) -> bool:
    """Whether an upscaler enlarges latents: then no stage but the denoiser is asked between two passes."""
    return UPSCALERS[upscaler].of_latents


def enlarged_latents(latents: FloatArray, first: ImageRequest, second: ImageRequest, upscaler: str) -> FloatArray:
    """The latents [1, channels, height, width] of the first pass in the second's size, in the same scale."""
    interpolation = UPSCALERS[upscaler].interpolation
    assert interpolation is not None, "of pixels it is asked otherwise"
    height, width = latents.shape[2:]
    size = (height * second.height // first.height, width * second.width // first.width)
    return enlarged(latents, size, INTERPOLATIONS[interpolation])


def enlarged_pixels(pixels: Pixels, second: ImageRequest, upscaler: str) -> Pixels:
    """The pixels [height, width, 3] of the first pass as [1, height, width, 3] in the second's size."""
    resampling = UPSCALERS[upscaler].resampling
    assert resampling is not None, "of latents it is asked otherwise"
    return np.asarray(Image.fromarray(pixels).resize((second.width, second.height), resampling))[np.newaxis]
