"""Percentiles of latencies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of `count` values, in their own unit."""

    count: int
    p50: float
    p90: float
    p99: float
    most: float


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed: one of them, never between two.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    return float(np.percentile(values, percent, method="inverted_cdf"))


def percentiles(values: Sequence[float]) -> Percentiles:
    """Sum up some values.

    Raises:
        ValueError: there is no value.
    """
    p50, p90, p99, most = (percentile(values, percent) for percent in (50, 90, 99, 100))
    return Percentiles(count=len(values), p50=p50, p90=p90, p99=p99, most=most)
