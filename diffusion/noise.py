"""Seeded standard normal noise, and the way between two of it."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from diffusion.arrays import Array
from diffusion.errors import DiffusionError, require_between, require_integer, unknown_name
from diffusion.mersenne import TorchNormals
from diffusion.philox import PhiloxNormals

LARGEST_SEED = 2**63 - 1
# a source may have to skip what lies before a draw
LARGEST_DRAW = 2**16 - 1
DEFAULT_RNG = "torch"
# torch draws fewer values in pairs, and a pair may be split between two draws
LEAST_MIXED = 16
# sine of the angle below which two columns lie on one line
_STRAIGHT = 1e-6


class _Normals(Protocol):
    def draw(self, number: int) -> Array:
        """Give the values of one draw in a row."""
        ...


SOURCES: Mapping[str, Callable[[int, int, int], _Normals]] = MappingProxyType(
    {"torch": TorchNormals, "philox": PhiloxNormals}
)


class NoiseSource:
    """The draws of one walk, all of one shape: cheapest in turn, the same in any order.

    Draw 0 is the initial noise; later draws follow the order in which a sampler asks. They are those of a generator
    with this seed that has given all draws before in the same shape, and before them one of shape `after`, if that is
    not empty. One thread at a time.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], rng: str = DEFAULT_RNG, after: tuple[int, ...] = ()) -> None:
        """Take the source named `rng` in SOURCES: "torch" is torch on a CPU, "philox" is torch on CUDA.

        `seed` is 0..2^63 - 1, of which "torch" takes the lower 32 bits. Where there is an `after`, both shapes must
        have `LEAST_MIXED` values at least. Raises DiffusionError naming the field.
        """
        require_integer("seed", seed, 0, LARGEST_SEED)
        if any(size < 1 for size in shape):
            raise DiffusionError("shape", shape, "of sizes of at least 1")
        if rng not in SOURCES:
            raise unknown_name("rng", rng, SOURCES)
        before = math.prod(after) if after else 0
        if after and min(before, math.prod(shape)) < LEAST_MIXED:
            raise DiffusionError("shape", shape, f"of at least {LEAST_MIXED} values, as {after} before it")
        self._shape = shape
        self._normals = SOURCES[rng](seed, math.prod(shape), before)

    def draw(self, number: int) -> Array:
        """Give draw `number`, 0..2^16 - 1, float32; raises DiffusionError outside."""
        require_integer("draw", number, 0, LARGEST_DRAW)
        return self._normals.draw(number).reshape(self._shape)


def noise(seed: int, draw: int, shape: tuple[int, ...], rng: str = DEFAULT_RNG) -> Array:
    """Draw standard normal noise, float32, as a function of (source, seed, draw number, shape) and nothing else.

    One draw of a `NoiseSource`. Raises DiffusionError naming the field.
    """
    return NoiseSource(seed, shape, rng).draw(draw)


def slerp(low: Array, high: Array, strength: float) -> Array:
    """Go from noise `low`, at strength 0, towards noise `high`, at 1, both [..., height, width]; A1111's variation.

    Along the arc between the two (Shoemake 1985), which unlike its chord keeps noise standard normal; as A1111 does,
    each column of each channel by an arc of its own. Columns on one line, which no arc joins, take the chord.
    Raises DiffusionError for a strength outside 0..1 or two shapes.
    """
    require_between("subseed_strength", strength, 0.0, 1.0)
    if low.shape != high.shape:
        raise DiffusionError("shape", high.shape, f"{low.shape}, as the other noise")
    if strength in (0, 1):
        return high if strength else low
    a, b = low.astype(np.float64), high.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-2, keepdims=True) * np.linalg.norm(b, axis=-2, keepdims=True)
    cosine = np.clip((a * b).sum(axis=-2, keepdims=True) / np.maximum(lengths, np.finfo(np.float64).tiny), -1.0, 1.0)
    omega = np.arccos(cosine)
    sine = np.sin(omega)
    straight = sine < _STRAIGHT
    sine = np.where(straight, 1.0, sine)
    share_a = np.where(straight, 1.0 - strength, np.sin((1.0 - strength) * omega) / sine)
    share_b = np.where(straight, strength, np.sin(strength * omega) / sine)
    return (share_a * a + share_b * b).astype(np.float32)
