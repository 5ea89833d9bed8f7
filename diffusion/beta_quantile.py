"""Quantiles of a symmetric beta distribution, which NumPy does not have."""

import math

import numpy as np

from diffusion.arrays import Table

_TERMS = 60  # of a series whose terms at least halve: float64 holds no more
_HALVINGS = 80


def symmetric_beta_quantile(shares: Table, shape: float) -> Table:
    """Give x with I_x(shape, shape) = share for each of `shares`, 0..1; within 1e-13.

    The regularised incomplete beta function by its series at 0 (Abramowitz and Stegun 26.5.4), inverted by bisection;
    the upper half follows from the symmetry.
    """
    lower = np.minimum(shares, 1 - shares)
    low, high = np.zeros_like(lower), np.full_like(lower, 0.5)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _incomplete_beta(middle, shape) > lower
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    quantiles = np.where(lower > 0, (low + high) / 2, 0.0)
    return np.where(shares > 0.5, 1 - quantiles, quantiles)


def _incomplete_beta(x: Table, shape: float) -> Table:
    """I_x(shape, shape) for x in 0..0.5."""
    term = np.ones_like(x)
    total = np.ones_like(x)
    for n in range(_TERMS):
        term = term * x * (2 * shape + n) / (shape + 1 + n)
        total = total + term
    scale = math.gamma(2 * shape) / (math.gamma(shape) ** 2 * shape)
    return x**shape * (1 - x) ** shape * scale * total
