"""Seeded standard normal noise."""

import numpy as np

from diffusion.arrays import Array
from diffusion.errors import DiffusionError, require_integer

LARGEST_SEED = 2**63 - 1


def noise(seed: int, draw: int, shape: tuple[int, ...]) -> Array:
    """Draw standard normal noise, float32, as a function of (seed, draw number, shape) and nothing else.

    Draw 0 is the initial noise; later draws follow the order in which a sampler asks. `seed` and `draw` are
    0..2^63 - 1. They are the two words of the key of NumPy's counter-based generator (Salmon et al. 2011), so no two
    pairs share a stream. Raises DiffusionError naming the field.
    """
    require_integer("seed", seed, 0, LARGEST_SEED)
    require_integer("draw", draw, 0, LARGEST_SEED)
    if any(size < 1 for size in shape):
        raise DiffusionError("shape", shape, "of sizes of at least 1")
    key = np.array([seed, draw], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)
