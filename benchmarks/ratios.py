"""Comparisons within each round, so that what disturbs a whole round disturbs no ratio."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of every round, and their median."""

    each: tuple[float, ...]
    median: float


def compare(measured: Sequence[float], baseline: Sequence[float], of: Callable[[float, float], float]) -> Comparison:
    """Compare two paths round by round; `of` is `operator.truediv` for a ratio, `operator.sub` for a difference.

    Raises:
        ValueError: there is no round, or one path has more of them.
    """
    each = tuple(of(value, base) for value, base in zip(measured, baseline, strict=True))
    if not each:
        raise ValueError("no round to compare")
    return Comparison(each, median(each))


def medians(samples: Sequence[Any]) -> dict[str, float]:
    """The median of every field over samples of one dataclass; the values of a field of tuples count one by one."""
    columns: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in asdict(sample).items():
            columns.setdefault(name, []).extend(value if isinstance(value, tuple | list) else [value])
    return {name: median(values) for name, values in columns.items()}
