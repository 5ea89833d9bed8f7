"""Whether the arrays of one run are what the contract says, and zeros that are."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from components.contract import Contract, Dimension, Kind, TensorSpec, shape_text
from components.dimensions import size_of
from runtime.errors import RuntimeFault

Feeds = Mapping[str, npt.NDArray[Any]]

# latents of no stated size are warmed up at this one
_LATENT_SIDE = 8

# far above what any model is made for; memory of zeros is lent without question, and missed only when it is read
_MAX_ZERO_BYTES = 1 << 30

# the outputs [batch, channels, height, width] whose height and width follow from what was fed
_PICTURES = ("prediction", "pixels", "mean", "log_variance")


def feed_differences(feeds: Feeds, contract: Contract) -> list[str]:
    """Every way in which `feeds` breaks the contract's inputs, in words; an empty list means that they can run."""
    specs = {spec.name: spec for spec in contract.inputs}
    found = [f"input {name}: missing" for name in sorted(contract.required_inputs - feeds.keys())]
    found += [f"input {name}: unknown" for name in sorted(feeds.keys() - specs.keys())]
    if found:
        return found
    for name, array in feeds.items():
        found += _array_differences(array, specs[name])
    if not found and len(batches := {array.shape[0] for name, array in feeds.items() if specs[name].shape}) > 1:
        found = [f"inputs of {' and '.join(map(str, sorted(batches)))} rows in one run"]
    return found


def output_differences(feeds: Feeds, outputs: Feeds, contract: Contract) -> list[str]:
    """Every output of a run of `feeds` whose shape breaks the contract, in words; `feeds` must keep it themselves."""
    found = []
    for spec in contract.outputs:
        shape = outputs[spec.name].shape
        for promised in (spec.shape, _promised_shape(spec, feeds, contract)):
            if not _fits(shape, promised):
                found.append(f"output {spec.name}: promised {shape_text(promised)}, came {shape_text(shape)}")
                break
    return found


def zero_feeds(contract: Contract) -> dict[str, npt.NDArray[Any]]:
    """Zeros for every input that cannot be left out: one row of the sizes that the component was made for.

    Raises:
        RuntimeFault: they do not fit into memory.
    """
    needed = [spec for spec in contract.inputs if not spec.optional]
    shapes = {spec.name: _made_for(spec, contract) for spec in needed}
    bytes_needed = sum(np.dtype(spec.dtype).itemsize * math.prod(shapes[spec.name]) for spec in needed)
    if bytes_needed > _MAX_ZERO_BYTES:
        raise _too_large(contract, shapes)
    try:
        return {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in needed}
    except (MemoryError, ValueError):
        raise _too_large(contract, shapes) from None


def _made_for(spec: TensorSpec, contract: Contract) -> list[int]:
    tokens = max(contract.token_limits, default=1)
    height, width = (_LATENT_SIDE, _LATENT_SIDE) if contract.latent_size is None else contract.latent_size
    if contract.kind == Kind.VAE_ENCODER and contract.latent_space is not None:
        height, width = height * contract.latent_space.downscale, width * contract.latent_space.downscale
    sizes = {"batch": 1, "tokens": tokens, "height": height, "width": width}
    return [size_of(dim, sizes) or 1 for dim in spec.shape]


def _too_large(contract: Contract, shapes: Mapping[str, list[int]]) -> RuntimeFault:
    wanted = ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())
    return RuntimeFault(f"{contract.kind}: warming up takes {wanted}: must fit into {_MAX_ZERO_BYTES} bytes")


def _promised_shape(spec: TensorSpec, feeds: Feeds, contract: Contract) -> tuple[Dimension, ...]:
    """The contract's shape of an output, with the numbers that follow from `feeds` in the place of names."""
    rows = [array.shape[0] for array in feeds.values() if array.shape]
    shape = spec.shape
    if rows and shape and isinstance(shape[0], str):
        shape = (rows[0], *shape[1:])
    sides = _sides(feeds, contract)
    if sides is not None and spec.name in _PICTURES and len(shape) == 4:
        shape = (*shape[:2], *sides)
    return shape


def _sides(feeds: Feeds, contract: Contract) -> tuple[int, int] | None:
    """The height and width of a picture or latents made from `feeds`; None where the contract does not say."""
    source = feeds.get("pixels" if contract.kind == Kind.VAE_ENCODER else "latents")
    if contract.latent_space is None or source is None or source.ndim != 4:
        return None
    downscale = contract.latent_space.downscale
    height, width = source.shape[2:]
    match contract.kind:
        case Kind.VAE_DECODER | Kind.PREVIEW_DECODER:
            return height * downscale, width * downscale
        case Kind.VAE_ENCODER:
            return height // downscale, width // downscale
        case _:
            return height, width


def _array_differences(array: npt.NDArray[Any], spec: TensorSpec) -> list[str]:
    if array.dtype != spec.dtype:
        return [f"input {spec.name}: is {array.dtype}, must be {spec.dtype}"]
    if _fits(array.shape, spec.shape):
        return []
    return [f"input {spec.name}: has shape {list(array.shape)}, must be {shape_text(spec.shape)}"]


def _fits(shape: tuple[int, ...], promised: tuple[Dimension, ...]) -> bool:
    return len(shape) == len(promised) and all(
        size == fixed if isinstance(fixed, int) else size > 0 for size, fixed in zip(shape, promised, strict=True)
    )
