"""Arrays resized: what torch.nn.functional.interpolate makes of them, half-pixel centres and all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diffusion.arrays import Array
from diffusion.errors import DiffusionError

Kernel: TypeAlias = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How a value between others comes of them: `kernel` weighs those at so many `offsets` from the one before it.

    Without a kernel it is the nearest, counted from the edges of both grids, or with `centred` from the middle of its
    cell. Beyond an edge the outermost value goes on; where it is `antialiased` nothing does, and the others weigh more.
    """

    kernel: Kernel | None = None
    offsets: tuple[int, ...] = ()
    centred: bool = False
    antialiased: bool = False


def _triangle(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - np.abs(distance))


def _cubic(a: float) -> Kernel:
    """Keys 1981, Cubic convolution interpolation for digital image processing, eq. 15 with its parameter `a`."""

    def kernel(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x = np.abs(distance)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = a * (((x - 5) * x + 8) * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel


_TWO, _FOUR = (0, 1), (-1, 0, 1, 2)
INTERPOLATIONS: Mapping[str, Interpolation] = MappingProxyType(
    {
        "nearest": Interpolation(),
        "nearest_exact": Interpolation(centred=True),
        "bilinear": Interpolation(_triangle, _TWO),
        "bilinear_antialiased": Interpolation(_triangle, _TWO, antialiased=True),
        # torch has one parameter for the one, and Pillow's for the other
        "bicubic": Interpolation(_cubic(-0.75), _FOUR),
        "bicubic_antialiased": Interpolation(_cubic(-0.5), _FOUR, antialiased=True),
    }
)


def enlarged(latents: Array, size: tuple[int, int], interpolation: Interpolation) -> Array:
    """Latents [..., height, width] in another `size`, height and width, neither of which is less than theirs.

    Raises DiffusionError where one is.
    """
    for axis, wanted in zip((-2, -1), size, strict=True):
        given = latents.shape[axis]
        if wanted < given:
            raise DiffusionError("size", wanted, f"at least {given}")
        latents = _along(latents, axis, *_taps(given, wanted, interpolation), np.float32)
    return latents


def resized(values: npt.NDArray[np.floating], size: tuple[int, int], kind: str) -> npt.NDArray[np.float64]:
    """Values [..., height, width] in any other `size`, height and width, by an interpolation that is not antialiased.

    Torch makes smaller by the same few neighbours as it makes larger.
    """
    for axis, wanted in zip((-2, -1), size, strict=True):
        values = _along(values, axis, *_taps(values.shape[axis], wanted, INTERPOLATIONS[kind]), np.float64)
    return values.astype(np.float64, copy=False)


def _taps(given: int, wanted: int, how: Interpolation) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Which values of `given` each of `wanted` is made of, and their weights; both [wanted, taps]."""
    if how.kernel is None:
        # in 32 bits, as torch counts: a place may lie on the border of two cells
        scale = np.float32(given) / np.float32(wanted)
        places = np.arange(wanted, dtype=np.float32) + np.float32(0.5 if how.centred else 0)
        nearest = np.minimum(np.floor(places * scale).astype(np.int64), given - 1)
        return nearest[:, np.newaxis], np.ones((wanted, 1))
    positions = (np.arange(wanted) + 0.5) * (given / wanted) - 0.5
    places = np.floor(positions).astype(np.int64)[:, np.newaxis] + np.array(how.offsets)
    weights = how.kernel(positions[:, np.newaxis] - places)
    if how.antialiased:
        weights = np.where((places >= 0) & (places < given), weights, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, given - 1), weights


def _along(
    values: npt.NDArray[Any],
    axis: int,
    places: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    dtype: type[np.floating],
) -> npt.NDArray[Any]:
    # value by value, so that the bits do not depend on how a library adds up
    shape = (-1, 1) if axis == -2 else (-1,)
    # summed up as they come: values may be many
    total: npt.NDArray[Any] | None = None
    for tap in range(places.shape[1]):
        part = np.take(values, places[:, tap], axis) * weights[:, tap].astype(dtype).reshape(shape)
        total = part if total is None else total + part
    assert total is not None, "an interpolation looks at one value at least"
    return total
