"""Skip-layer guidance: which layers of the denoiser a row skips, and the one check of what a request says of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.contract import SKIP_LAYERS, Contract
from components.messages import Arrays, ImageRequest
from diffusion.guidance import Row, SkipGuidance
from pipeline.checks import check_number, check_whole
from pipeline.errors import RequestError, refuse

_SCALE, _START, _END = "skip_layer_guidance", "skip_layer_guidance_start", "skip_layer_guidance_end"
SKIPPING = (SKIP_LAYERS, _SCALE, _START, _END)

# what its makers skip of Stable Diffusion 3.5 Medium
_LAYERS = (7, 8, 9)


def check_skipping(given: Mapping[str, Any], contract: Contract, max_guidance: float) -> dict[str, Any]:
    """Check the fields of `SKIPPING` that a request names, and fill in the others, those of diffusers.

    Either layers or a scale ask for it; without layers they are those of SD 3.5 Medium, where there are as many.

    Raises:
        RequestError: a field is outside its limits, or of no use.
    """
    told = {name: value for name, value in given.items() if value is not None}
    if not told:
        return {}
    layers = contract.skippable_layers
    for name, value in told.items():
        if not layers:
            raise refuse(name, value, "left out, as this model can skip none of its layers")
        if name in (_START, _END) and told.keys().isdisjoint((SKIP_LAYERS, _SCALE)):
            raise refuse(name, value, f"left out without {SKIP_LAYERS}")
    usual = SkipGuidance()
    scale, start, end = told.get(_SCALE, usual.scale), told.get(_START, usual.start), told.get(_END, usual.end)
    check_number(_SCALE, scale, max_guidance)
    check_number(_START, start, 1.0)
    check_number(_END, end, 1.0)
    if not start < end:
        field, value, limit = (_START, start, f"less than {_END}, {end:g}")
        if _START not in told:
            field, value, limit = (_END, end, f"more than {_START}, {start:g}")
        raise refuse(field, value, limit)
    return {
        SKIP_LAYERS: _layers(told.get(SKIP_LAYERS), layers),
        _SCALE: float(scale),
        _START: float(start),
        _END: float(end),
    }


def skipped(row: Row, request: ImageRequest, contract: Contract) -> Arrays:
    """What a row that skips layers takes; the others take nothing."""
    if row != Row.SKIPPING:
        return {}
    weights = np.zeros((1, contract.skippable_layers), np.float32)
    weights[0, list(request.skip_layers)] = 1
    return {SKIP_LAYERS: weights}


def _layers(given: Any, count: int) -> tuple[int, ...]:
    if given is None:
        if count <= _LAYERS[-1]:
            raise RequestError(SKIP_LAYERS, f"{SKIP_LAYERS}: is required, as this model has {count} layers")
        return _LAYERS
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise refuse(SKIP_LAYERS, given, "a list of layers, one at least")
    if len(given) > count:
        raise refuse(SKIP_LAYERS, f"{len(given)} layers", f"at most {count}")
    for layer in given:
        check_whole(SKIP_LAYERS, layer, 0, count - 1)
    if len(set(given)) < len(given):
        raise refuse(SKIP_LAYERS, list(given), "each layer once")
    return tuple(sorted(given))
