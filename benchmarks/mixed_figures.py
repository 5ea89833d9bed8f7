"""What follows from a mixed load: percentiles, throughputs, and how soon walks began."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.percentiles import Percentiles, percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One round of a load on one system: seconds until its last answer, and each request's milliseconds until its own.

    They count from the moment at which the request was to come.
    """

    seconds: float
    short_ms: tuple[float, ...]
    long_ms: tuple[float, ...]

    @property
    def pictures(self) -> int:
        """How many requests were answered."""
        return len(self.short_ms) + len(self.long_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFigures:
    """One system: pictures per second where it is saturated, by round, and what it made of the load."""

    capacity: float
    capacities: tuple[float, ...]
    short_ms: Percentiles
    long_ms: Percentiles | None
    pictures_per_second: float
    rounds: tuple[Offered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Walks by how many runs began between their arrival and their first: 0 is none beside the one under way.

    `free_row` are those that found room in the next run, `no_free_row` the others; `late` is the share of the former
    that let a run pass.
    """

    free_row: dict[int, int]
    no_free_row: dict[int, int]
    late: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedLoad:
    """The same requests at the same moments to both systems, `offered_per_second` of them.

    The ratios are the step loop's p99 of short requests over the first-come queue's, and the queue's throughput over
    the step loop's, saturated and under this load: the lower the better, all three.
    """

    offered_per_second: float
    step_loop: SystemFigures
    first_come: SystemFigures
    short_p99_ratio: float
    capacity_ratio: float
    throughput_ratio: float
    starts: Starts


def conclude(
    per_second: float,
    capacities: Mapping[str, Sequence[float]],
    offered: Mapping[str, Sequence[Offered]],
    runs_waited: Mapping[bool, Mapping[int, int]],
) -> MixedLoad:
    """Draw the conclusions of a load of `per_second`; systems by the names of `MixedLoad`'s fields."""
    figures = {name: _figures(capacities[name], offered[name]) for name in ("step_loop", "first_come")}
    ours, theirs = figures["step_loop"], figures["first_come"]
    return MixedLoad(
        offered_per_second=per_second,
        step_loop=ours,
        first_come=theirs,
        short_p99_ratio=ours.short_ms.p99 / theirs.short_ms.p99,
        capacity_ratio=theirs.capacity / ours.capacity,
        throughput_ratio=theirs.pictures_per_second / ours.pictures_per_second,
        starts=starts(runs_waited),
    )


def starts(runs_waited: Mapping[bool, Mapping[int, int]]) -> Starts:
    """Sort counts of walks, by whether they found a free row and how many runs they let pass."""
    free_row, no_free_row = (dict(sorted(runs_waited[found].items())) for found in (True, False))
    found = sum(free_row.values())
    late = 0.0 if not found else 1 - free_row.get(0, 0) / found
    return Starts(free_row=free_row, no_free_row=no_free_row, late=late)


def _figures(capacities: Sequence[float], rounds: Sequence[Offered]) -> SystemFigures:
    long_ms = [latency for offered in rounds for latency in offered.long_ms]
    return SystemFigures(
        capacity=median(capacities),
        capacities=tuple(capacities),
        short_ms=percentiles([latency for offered in rounds for latency in offered.short_ms]),
        long_ms=percentiles(long_ms) if long_ms else None,
        pictures_per_second=sum(offered.pictures for offered in rounds) / sum(offered.seconds for offered in rounds),
        rounds=tuple(rounds),
    )
