"""What weights do to an encoded prompt: the arithmetic of A1111's web UI, and that of the package Compel."""

import math
from collections.abc import Sequence

import numpy as np

from components.messages import FloatArray

# Compel's, where a weight of 0 would blend without end
_LEAST_SHARE = 1e-5


def scaled(hidden: FloatArray, weights: FloatArray) -> FloatArray:
    """Each token's vector times its weight, and the chunk's mean made what it was: A1111's `Original` emphasis.

    `hidden` is [chunks, tokens, width], `weights` [chunks, tokens]: z' = w z, then z' mean(z) / mean(z') for each
    chunk. A chunk of ones stays as it is, and one whose new mean is 0 keeps it: no factor would restore it.
    """
    weighed = hidden * weights[..., None]
    means = hidden.mean(axis=(1, 2), dtype=np.float64)
    new_means = weighed.mean(axis=(1, 2), dtype=np.float64)
    factors = np.divide(means, new_means, out=np.ones_like(means), where=new_means != 0)
    return _like(hidden, weighed * factors.astype(np.float32)[:, None, None])


def moved_from_empty(hidden: FloatArray, empty: FloatArray, weights: FloatArray) -> FloatArray:
    """Each token's vector as many times as far from the empty prompt's as its weight says, as Compel has it.

    `hidden` is [chunks, tokens, width], `empty` [1, tokens, width], `weights` [chunks, tokens]: e + w (z - e). A token
    of weight 1 stays as it is.
    """
    spread = weights[..., None]
    return _like(hidden, np.where(spread == 1, hidden, empty + (hidden - empty) * spread))


def share_without(weight: float) -> float:
    """The share in a blend of the prompt without a part of a weight below 1, where the whole prompt has 1.

    tan((1 - weight) pi / 2), as Compel has it: 0 at weight 1, 1 at 0.5, and nothing but it at 0.
    """
    return math.tan((1 - max(_LEAST_SHARE, weight)) * math.pi / 2)


def blended(hidden: Sequence[FloatArray], shares: Sequence[float]) -> FloatArray:
    """The mean of arrays of one shape, each by its share; one alone stays as it is."""
    if len(hidden) == 1:
        return hidden[0]
    parts = np.array(shares, np.float32) / np.float32(sum(shares))
    return _like(hidden[0], np.tensordot(parts, np.stack(hidden), axes=1))


def _like(hidden: FloatArray, changed: FloatArray) -> FloatArray:
    return changed.astype(hidden.dtype, copy=False)
