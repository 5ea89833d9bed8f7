"""What is said of a metric before anything is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["", "seconds", "bytes", "ratio"]
# the values that each label may have; none are named where they are not known beforehand
Labels: TypeAlias = Mapping[str, tuple[str, ...]]

# Ray puts it before every name
PREFIX = "ray_"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric by its name, without Ray's prefix; `unit` is that of its value, "" where it counts things."""

    name: str
    help: str
    labels: Labels = field(default_factory=dict)
    unit: Unit = ""

    @property
    def kind(self) -> str:
        """What Prometheus calls it."""
        return type(self).__name__.lower()


class Counter(Metric):
    """It only grows, and begins at 0 with its process."""


class Gauge(Metric):
    """It is what it was set to last."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram(Metric):
    """How values spread; `buckets` are the upper bounds."""

    buckets: tuple[float, ...] = field(kw_only=True)
