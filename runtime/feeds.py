"""Whether the arrays of one run are what the contract's inputs say, and zeros that are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from components.contract import Contract, Kind, TensorSpec

Feeds = Mapping[str, npt.NDArray[Any]]

# latents of no stated size are warmed up at this one
_LATENT_SIDE = 8


def feed_differences(feeds: Feeds, contract: Contract) -> list[str]:
    """Every way in which `feeds` breaks the contract's inputs, in words; an empty list means that they can run."""
    specs = {spec.name: spec for spec in contract.inputs}
    found = [f"input {name}: missing" for name in sorted(specs.keys() - feeds.keys())]
    found += [f"input {name}: unknown" for name in sorted(feeds.keys() - specs.keys())]
    if found:
        return found
    for name, spec in specs.items():
        found += _array_differences(feeds[name], spec)
    if not found and len(batches := {feeds[name].shape[0] for name, spec in specs.items() if spec.shape}) > 1:
        found = [f"inputs of {' and '.join(map(str, sorted(batches)))} rows in one run"]
    return found


def _array_differences(array: npt.NDArray[Any], spec: TensorSpec) -> list[str]:
    if array.dtype != spec.dtype:
        return [f"input {spec.name}: is {array.dtype}, must be {spec.dtype}"]
    fits = len(array.shape) == len(spec.shape) and all(
        size == fixed if isinstance(fixed, int) else size > 0
        for size, fixed in zip(array.shape, spec.shape, strict=True)
    )
    if fits:
        return []
    return [f"input {spec.name}: has shape {list(array.shape)}, must be [{', '.join(map(str, spec.shape))}]"]


def zero_feeds(contract: Contract) -> dict[str, npt.NDArray[Any]]:
    """Zeros for every input: one row of the sizes that the component was made for."""
    tokens = max((array.tokens for array in contract.conditioning), default=1)
    height, width = (_LATENT_SIDE, _LATENT_SIDE) if contract.latent_size is None else contract.latent_size
    if contract.kind == Kind.VAE_ENCODER and contract.latent_space is not None:
        height, width = height * contract.latent_space.downscale, width * contract.latent_space.downscale
    sizes = {"batch": 1, "tokens": tokens, "height": height, "width": width}
    return {
        spec.name: np.zeros([dim if isinstance(dim, int) else sizes.get(dim, 1) for dim in spec.shape], spec.dtype)
        for spec in contract.inputs
    }
