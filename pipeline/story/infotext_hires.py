"""The second of two passes in an infotext: A1111's Hires parameters, written and read.

A1111 counts the steps that the second pass walks; a request of ours counts those of which it walks its share.
"""

from collections.abc import Iterator, Mapping
from math import ceil
from types import MappingProxyType
from typing import Any

from components.messages import Hires
from pipeline.upscalers import UPSCALERS

UPSCALE, RESIZE, STEPS, UPSCALER, STRENGTH = (
    "Hires upscale",
    "Hires resize",
    "Hires steps",
    "Hires upscaler",
    "Denoising strength",
)
_BY_LABEL: Mapping[str, str] = MappingProxyType(
    {(one.name if one.label is None else one.label).casefold(): one.name for one in UPSCALERS.values()}
    | {name: name for name in UPSCALERS}
    # without one A1111 enlarges by Lanczos' filter
    | {"none": "lanczos"}
)


def upscaler_label(name: str) -> str:
    """A1111's name of an upscaler; our own where it has none."""
    found = UPSCALERS.get(name)
    return name if found is None or found.label is None else found.label


def find_upscaler(label: str) -> str:
    """The upscaler of one of A1111's names, or of our own; raises ValueError for one that there is not."""
    if label.casefold() not in _BY_LABEL:
        raise ValueError("upscaler")
    return _BY_LABEL[label.casefold()]


def walked_steps(hires: Hires) -> int:
    """The steps that a second pass walks, as A1111 counts them."""
    return max(1, int(hires.steps * hires.strength))


def steps_of(walked: int, strength: float) -> int:
    """The fewest steps of which so many are walked at a strength over 0."""
    steps = ceil(walked / strength)
    # the quotient is rounded, and so is the product
    return steps + 1 if int(steps * strength) < walked else steps


def hires_parameters(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What tells of a story's second pass; nothing where there is none."""
    hires: Hires | None = settings["hires"]
    if hires is None:
        return
    yield STRENGTH, repr(hires.strength).removesuffix(".0")
    yield RESIZE, f"{settings['width']}x{settings['height']}"
    yield STEPS, str(walked_steps(hires))
    yield UPSCALER, upscaler_label(hires.upscaler)


def read_hires(found: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a picture in two passes: `found` says what its parameters do, `settings` tells of the first.

    Raises ValueError where they do not say enough.
    """
    known = all(settings.get(name) for name in ("strength", "width", "height", "steps"))
    if not known or UPSCALER not in found or (UPSCALE in found) == (RESIZE in found):
        raise ValueError("hires")
    strength, width, height, steps = (settings[name] for name in ("strength", "width", "height", "steps"))
    if RESIZE in found:
        wide, high = found[RESIZE]
        # one side that is not said keeps the proportions
        large = (wide or high * width // height, high or wide * height // width)
    else:
        large = int(width * found[UPSCALE]), int(height * found[UPSCALE])
    if large[0] < width or large[1] < height:
        raise ValueError("hires")
    walked = found.get(STEPS) or steps
    hires = Hires(
        first_width=width,
        first_height=height,
        upscaler=found[UPSCALER],
        strength=strength,
        steps=steps_of(walked, strength),
    )
    return {"hires": hires, "width": large[0], "height": large[1], "strength": 1.0}
