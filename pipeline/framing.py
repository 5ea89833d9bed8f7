"""What a denoiser of SDXL's kind is told of a picture: sizes and a crop in pixels, and how well it looks.

Podell et al. 2023, "SDXL", section 2.2; the score is that of the LAION aesthetics predictor, for refiners.
"""

from collections.abc import Mapping
from typing import Any

from components.contract import Contract, TimeId
from components.messages import ImageRequest
from pipeline.checks import check_number, check_whole
from pipeline.errors import refuse

# of a picture that training could have cut down
_LONGEST_SIDE = 16384
_BEST = 10.0
# those of diffusers
_SCORE, _NEGATIVE_SCORE = 6.0, 2.5

_SIDES = ("original_height", "original_width", "target_height", "target_width")
_CROPS = ("crop_top", "crop_left")
_SCORES = ("aesthetic_score", "negative_aesthetic_score")
FRAMING = (*_SIDES, *_CROPS, *_SCORES)


def check_framing(given: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Check the fields of `FRAMING` that a request names; a denoiser that is not told of one has no use for it.

    Raises:
        RequestError: a field is outside its limits, or of no use.
    """
    told = {*contract.time_ids, *(("negative_aesthetic_score",) if "aesthetic_score" in contract.time_ids else ())}
    for name, value in given.items():
        if value is None:
            continue
        if name not in told:
            raise refuse(name, value, "left out: this denoiser is not told of it")
        if name in _SCORES:
            check_number(name, value, _BEST)
        else:
            check_whole(name, value, 1 if name in _SIDES else 0, _LONGEST_SIDE)
    return {name: given.get(name) for name in FRAMING}


def framing(request: ImageRequest, *, positive: bool) -> dict[TimeId, float]:
    """What the row with the prompt is told, or one without it; sizes that are not asked for are the picture's own."""
    score = request.aesthetic_score if positive else request.negative_aesthetic_score
    usual = _SCORE if positive else _NEGATIVE_SCORE
    return {
        "original_height": _or(request.original_height, request.height),
        "original_width": _or(request.original_width, request.width),
        "crop_top": _or(request.crop_top, 0),
        "crop_left": _or(request.crop_left, 0),
        "target_height": _or(request.target_height, request.height),
        "target_width": _or(request.target_width, request.width),
        "aesthetic_score": _or(score, usual),
    }


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
